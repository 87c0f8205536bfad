"""The doctor: what it finds, and its exit status."""

from __future__ import annotations

import contextlib
import json
import platform
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from fastwrap import __version__

if TYPE_CHECKING:
    from pathlib import Path

Run = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Any]


def checks(done: subprocess.CompletedProcess[str], status: int) -> dict[str, dict[str, str]]:
    assert done.returncode == status, done.stdout + done.stderr
    found = json.loads(done.stdout)
    rows = {row["name"]: row for row in found["checks"]}
    assert found["status"] in [row["status"] for row in rows.values()]
    assert (found["status"] == "problem") == (status == 1)
    assert all(row["advice"] for row in rows.values() if row["status"] != "ok"), "no advice"
    return rows


@pytest.fixture
def engine(start: Start) -> Callable[..., str]:
    """Starts a simulated engine; gives its address."""

    def begin(*options: str) -> str:
        return str(start("engine", "--port", "0", *options).until(r"on (http://\S+)")[1])

    return begin


@pytest.mark.parametrize("flavor", ["vllm", "sglang", "tgi", "llamacpp", "ollama"])
def test_engine_that_serves(run: Run, engine: Callable[..., str], flavor: str) -> None:
    url = engine("--flavor", flavor, "--model", "little")
    rows = checks(run("doctor", "--json", "--upstream", f"{url}/v1", "--port", "0"), 0)
    assert rows["engine"]["status"] == rows["health"]["status"] == rows["models"]["status"] == "ok"
    assert f"{url}: {flavor}, connects in " in rows["engine"]["found"]
    assert rows["models"]["found"].startswith("little")
    assert rows["processes"]["status"] == "ok"
    assert rows["processes"]["found"].startswith("1 of the engine's, ")


@pytest.mark.parametrize(
    ("page", "status", "found"),
    [
        ("vllm:num_requests_running 1\nvllm:kv_cache_usage_perc 0.5\n", "ok", "/metrics: kv_cache_usage, running"),
        ("python_info 1\n", "warning", "/metrics: 200, without them: they will be null"),
        ("vllm:num_requests_running many\n", "warning", "/metrics: "),
    ],
)
def test_gauges_of_the_engine(run: Run, page: str, status: str, found: str) -> None:
    pages = {"/version": b'{"version":"1"}', "/v1/models": b'{"data":[{"id":"m","owned_by":"vllm"}]}'}
    with _engine({**pages, "/metrics": page.encode()}) as url:
        row = checks(run("doctor", "--json", "--upstream", url, "--port", "0"), 0)["gauges"]
    assert (row["status"], row["found"][: len(found)]) == (status, found)


@contextlib.contextmanager
def _engine(pages: dict[str, bytes], key: str = "") -> Iterator[str]:
    """An engine of these pages, in this process; with a key for those who have it."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = not key or self.headers["authorization"] == f"Bearer {key}"
            body = pages.get(self.path) if known else None
            self.send_response(200 if body else 404)
            self.send_header("content-length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_what_is_installed(run: Run) -> None:
    rows = checks(run("doctor", "--json", "--port", "0"), 0)
    assert platform.python_version() in rows["Python"]["found"]
    assert rows["fastwrap"]["found"].startswith(__version__)
    assert {rows[name]["status"] for name in ("Python", "fastwrap", "granian", "uvloop", "port")} == {"ok"}
    assert rows["engine"]["status"] == "warning"
    assert "--upstream" in rows["engine"]["advice"]


def test_no_nvml(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pynvml.py").write_text("raise ImportError('none here')\n")
    row = checks(run("doctor", "--json", "--port", "0", env={"PYTHONPATH": str(tmp_path)}), 0)["NVML"]
    assert row["status"] == "warning"
    assert row["found"].startswith("library_not_found (")


def test_table_for_people(run: Run, silent_port: int) -> None:
    done = run("doctor", "--upstream", f"http://127.0.0.1:{silent_port}", "--port", "0")
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    for words in ("ok       Python", "problem  engine", "Connection refused", "-> start the engine", "cannot serve"):
        assert words in done.stdout


def test_engine_is_down(run: Run, silent_port: int) -> None:
    row = checks(run("doctor", "--json", "--upstream", f"http://127.0.0.1:{silent_port}", "--port", "0"), 1)["engine"]
    assert "Connection refused" in row["found"]
    assert "start the engine" in row["advice"]


def test_engine_on_a_unix_socket_is_down(run: Run, tmp_path: Path) -> None:
    row = checks(run("doctor", "--json", "--upstream", f"unix:{tmp_path}/none.sock", "--port", "0"), 1)["engine"]
    assert "No such file" in row["found"]


def test_engine_that_never_answers_does_not_hang_it(run: Run, taken_port: int) -> None:
    row = checks(run("doctor", "--json", "--upstream", f"http://127.0.0.1:{taken_port}", "--port", "0"), 1)["engine"]
    assert "accepts connections, but" in row["found"]


@pytest.fixture
def loading() -> Iterator[str]:
    """An engine that answers 503 to everything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 503 no\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def test_engine_that_loads_is_a_warning(run: Run, loading: str) -> None:
    rows = checks(run("doctor", "--json", "--upstream", loading, "--port", "0"), 0)
    assert (rows["health"]["status"], rows["models"]["status"]) == ("warning", "warning")
    assert rows["health"]["found"].endswith(": 503")


def test_bad_address(run: Run) -> None:
    row = checks(run("doctor", "--json", "--upstream", "localhost:8000", "--port", "0"), 1)["engine"]
    assert "use http://HOST:PORT" in row["found"]


def test_port_is_taken(run: Run, taken_port: int) -> None:
    rows = checks(run("doctor", "--json", "--port", str(taken_port)), 1)
    assert rows["port"]["found"] == f"127.0.0.1:{taken_port} is taken"
    assert "--port" in rows["port"]["advice"]
    assert checks(run("doctor", "--json", "--port", "70000"), 1)["port"]["found"] == "70000 is no port"


def test_a_socket_instead_of_the_port(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "fastwrap.sock"

    def row(status: int, at: Path = path) -> dict[str, str]:
        rows = checks(run("doctor", "--json", "--uds", str(at)), status)
        assert "port" not in rows
        return rows["socket"]

    assert row(0)["found"] == f"{path} is free"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        assert row(0)["found"] == f"{path} was left behind, and will be replaced"
        listener.listen()
        assert row(1)["found"] == f"{path} is taken"
    assert path.is_socket(), "it changes nothing"
    path.unlink()
    path.touch()
    assert row(1)["found"] == f"{path} is no socket"
    assert row(1, tmp_path / "none" / "s")["found"] == f"{tmp_path / 'none'} cannot be written to"


def test_it_looks_at_what_serve_would_use(run: Run, taken_port: int, silent_port: int, tmp_path: Path) -> None:
    file = tmp_path / "fastwrap.toml"
    file.write_text(f'port = {taken_port}\nupstream = "http://127.0.0.1:{silent_port}"\nworkers = 2\n')
    rows = checks(run("doctor", "--json", "--config", str(file)), 1)
    assert rows["port"]["status"] == rows["engine"]["status"] == "problem"
    rows = checks(run("doctor", "--json", "--config", str(file), env={"FASTWRAP_PORT": "0"}), 1)
    assert (rows["port"]["status"], rows["engine"]["status"]) == ("ok", "problem")


def test_few_open_files_are_a_warning() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fastwrap", "doctor", "--json", "--port", "0"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 4096)),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    row = checks(done, 0)["open files"]
    assert (row["status"], row["found"]) == ("warning", "1024 (at most 4096)")
    assert "ulimit -n" in row["advice"]


def test_interrupt_ends_it(start: Start, taken_port: int) -> None:
    doctor = start("doctor", "--upstream", f"http://127.0.0.1:{taken_port}", "--port", "0")
    assert doctor.end(signal.SIGINT) in (1, 130, -signal.SIGINT)


def test_keys_are_read_and_used(run: Run, tmp_path: Path) -> None:
    keys, own = tmp_path / "keys", tmp_path / "own"
    keys.write_text("sk-a\nsk-b\n")
    own.write_text("engine-key\n")
    own.chmod(0o600)
    with _engine({"/v1/models": b'{"data":[{"id":"guarded"}]}'}, key="engine-key") as url:
        doctor = ("doctor", "--json", "--port", "0", "--upstream", url, "--api-key-file", str(keys))
        rows = checks(run(*doctor), 0)
        assert "--upstream-api-key-file" in rows["models"]["advice"]
        assert (rows["keys"]["status"], rows["keys"]["advice"]) == ("warning", f"chmod 600 {keys}")
        keys.chmod(0o600)
        done = run(*doctor, env={"FASTWRAP_UPSTREAM_API_KEY_FILE": str(own)})
        rows = checks(done, 0)
        assert rows["models"]["found"] == "guarded"
        assert (rows["keys"]["found"], rows["engine's key"]["status"]) == (f"{keys}: 2 keys", "ok")
        assert not any(key in done.stdout for key in ("sk-a", "engine-key"))
        keys.write_text("")
        assert "holds no key" in checks(run(*doctor), 1)["keys"]["found"]
