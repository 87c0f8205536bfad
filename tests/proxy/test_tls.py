"""With a certificate Granian's clients speak HTTPS, and nothing else is different."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
import trustme

from proxy.blocks import block_of, without_blocks
from proxy.client import CHAT, ask, connect, post, raw, stream, stream_open
from proxy.conftest import Serve
from proxy.processes import DEADLINE_S, Proxy
from proxy.scripted import Endless, ScriptedEngine

pytestmark = pytest.mark.parametrize("stack", ["granian-native", "granian-httpx"], indirect=True)
MESSAGES: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture
def tls(
    serve: Serve,
    engine: ScriptedEngine,
    authority: tuple[trustme.CA, dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Proxy:
    """A `fastwrap serve` behind TLS, whose certificate this process trusts."""
    made, environment = authority
    certificate = made.issue_cert("127.0.0.1")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(str(chain), append=True)
    certificate.private_key_pem.write_to_path(str(key))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return serve(engine.url, "--backend", "vllm", "--tls-certificate", str(chain), "--tls-key", str(key))


def test_answers_are_the_same(tls: Proxy, proxy: Proxy) -> None:
    assert tls.url.startswith("https://127.0.0.1:")
    for send in (post, stream):
        with tls.counts("complete"):
            secure = send(tls.url)
        open_one = send(proxy.url)
        assert without_blocks(secure.body)[0] == without_blocks(open_one.body)[0]
        assert block_of(secure).keys() == block_of(open_one).keys()
        lengths = ("date", "content-length")
        assert [pair for pair in secure.headers if pair[0] not in lengths] == [
            pair for pair in open_one.headers if pair[0] not in lengths
        ]
    assert ask(tls.url, "GET", "/-/ready").status == 200


def test_openai_client(tls: Proxy) -> None:
    http_client = openai.DefaultHttpxClient(verify=ssl.create_default_context())
    client = openai.OpenAI(base_url=f"{tls.url}/v1", api_key="k", max_retries=0, timeout=20, http_client=http_client)
    answer: Any = client.chat.completions.create(model="m", messages=MESSAGES)
    assert answer.choices[0].message.content == "abc"
    assert answer.performance["outcome"] == "complete"
    chunks: list[Any] = list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "abc"
    assert chunks[-1].performance["ttft_ms"] > 0


def test_only_http_1_and_tls_1_3_are_spoken(tls: Proxy) -> None:
    def speak(change: Callable[[ssl.SSLContext], object]) -> str | None:
        context = ssl.create_default_context()
        change(context)
        address = urlsplit(tls.url)
        with socket.create_connection((address.hostname, address.port), DEADLINE_S) as plain:
            connection = context.wrap_socket(plain, server_hostname=address.hostname)
            assert connection.version() == "TLSv1.3"
            return connection.selected_alpn_protocol()

    assert speak(lambda context: context.set_alpn_protocols(["h2", "http/1.1"])) == "http/1.1"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        speak(lambda context: context.set_alpn_protocols(["h2"]))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        speak(lambda context: setattr(context, "maximum_version", ssl.TLSVersion.TLSv1_2))
    assert post(tls.url).status == 200


def test_who_speaks_no_tls_gets_nothing(tls: Proxy, engine: ScriptedEngine) -> None:
    body = b'{"model":"m","messages":[]}'
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
    try:
        got = raw(tls.url, head + body)
    except ConnectionResetError:
        got = b""
    assert b"HTTP" not in got
    assert engine.requests == []


@pytest.fixture
def stuck(tls: Proxy) -> Iterator[None]:
    """Many clients that begin to speak TLS, and go no further."""
    address = urlsplit(tls.url)
    begun, outgoing = ssl.create_default_context(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        begun.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=address.hostname).do_handshake()
    hello = outgoing.read()
    with ExitStack() as cleanup:
        for number in range(64):
            connection = cleanup.enter_context(socket.create_connection((address.hostname, address.port), DEADLINE_S))
            connection.sendall(hello[: number * len(hello) // 63])
        yield


@pytest.mark.usefixtures("stuck")
def test_handshakes_that_do_not_end_stop_nobody(tls: Proxy) -> None:
    for _ in range(5):
        assert post(tls.url).status == 200
        assert stream(tls.url).events[-1] == "[DONE]"


def test_a_departure_reaches_the_engine(tls: Proxy, engine: ScriptedEngine) -> None:
    engine.use(endless := Endless())
    with tls.counts("cancelled"):
        call = stream_open(tls.url)
        call.read_until(b'"a"')
        call.leave()
        assert endless.closed.wait(DEADLINE_S)


def test_its_name_is_checked_by_clients(tls: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The certificate is the one that was given: who trusts another authority does not connect."""
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(tls.url, DEADLINE_S)
