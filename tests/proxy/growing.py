"""An engine of two processes, run by tests: the one that listens, and a child that takes memory during a request.

A stream's first chunk says that the child has grown; it shrinks, and the stream ends, when somebody asks for `/shrink`.
"""

from __future__ import annotations

import multiprocessing
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection

CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":%b}]}\n\n'


def work(orders: Connection) -> None:
    """Hold so many bytes as were ordered last."""
    held = b""
    while True:
        size = orders.recv()
        del held
        held = b"x" * size
        orders.send(len(held))


class Engine(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    shrink = threading.Event()
    worker: Connection
    grown_bytes: int

    def hold(self, size: int) -> None:
        self.worker.send(size)
        self.worker.recv()

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def do_GET(self) -> None:
        if self.path == "/shrink":
            self.shrink.set()
        self.send_response(200 if self.path in ("/shrink", "/health") else 404)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.hold(self.grown_bytes)
        self.chunk(CHUNK % (b"grown", b"null"))
        self.shrink.wait()
        self.hold(0)
        self.chunk(CHUNK % (b"shrunk", b"null"))
        self.chunk(CHUNK % (b"", b'"stop"') + b"data: [DONE]\n\n")
        self.chunk(b"")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    context = multiprocessing.get_context("fork")
    Engine.worker, theirs = context.Pipe()
    context.Process(target=work, args=(theirs,), daemon=True).start()
    Engine.grown_bytes = int(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    print(server.server_port, flush=True)  # noqa: T201 (it is how the test knows)
    server.serve_forever()


if __name__ == "__main__":
    main()
