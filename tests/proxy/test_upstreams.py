"""How an engine may be reached."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from proxy.blocks import without_blocks
from proxy.client import ask, post, stream
from proxy.conftest import Serve
from proxy.processes import Proxy, until
from proxy.scripted import ScriptedEngine


def works(proxy: Proxy, engine: ScriptedEngine, prefix: str = "", host: str | None = None) -> None:
    engine.requests.clear()
    assert post(proxy.url).json["performance"]["outcome"] == "complete"
    assert stream(proxy.url).events[-1] == "[DONE]"
    assert ask(proxy.url, "GET", "/v1/models?a=%2F").status == 404
    targets = [request.target for request in engine.requests if request.header("content-length")]
    assert targets == [f"{prefix}/v1/chat/completions"] * 2
    assert f"{prefix}/v1/models?a=%2F" in [request.target for request in engine.requests]
    until(lambda: ask(proxy.url, "GET", "/-/ready").status == 200, "ready")
    if host is not None:
        assert {request.header("host") for request in engine.requests} == {host}


def test_a_unix_socket(serve: Serve, tmp_path: Path) -> None:
    engine = ScriptedEngine(tmp_path / "engine.sock")
    works(serve(engine.url), engine, host="localhost")
    works(serve(f"unix://{engine.path}"), engine, host="localhost")
    engine.close()


def test_a_unix_socket_that_is_not_there(serve: Serve, tmp_path: Path) -> None:
    answer = post(serve(f"unix:{tmp_path}/none.sock").url)
    assert (answer.status, answer.error["code"]) == (502, "engine_unreachable")


@pytest.mark.parametrize(
    ("path", "prefix"), [("/", ""), ("/v1", ""), ("/v1/", ""), ("/base", "/base"), ("/a/b/v1", "/a/b")]
)
def test_a_path_before_all_paths(serve: Serve, engine: ScriptedEngine, path: str, prefix: str) -> None:
    works(serve(engine.url + path), engine, prefix)


def test_a_name_and_a_port(serve: Serve, engine: ScriptedEngine) -> None:
    port = engine.url.rsplit(":", 1)[1]
    works(serve(f"http://localhost:{port}"), engine, host=f"localhost:{port}")


def speaks_tls(authority: trustme.CA, name: str) -> ScriptedEngine:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2", "http/1.1"])
    authority.issue_cert(name).configure_cert(context)
    return ScriptedEngine(tls=context)


def test_tls(serve: Serve, authority: tuple[trustme.CA, dict[str, str]]) -> None:
    engine = speaks_tls(authority[0], "127.0.0.1")
    works(serve(engine.url, env=authority[1]), engine)
    engine.close()


@pytest.mark.parametrize("name", ["example.org", "127.0.0.2"])
def test_a_certificate_of_another_host(serve: Serve, authority: tuple[trustme.CA, dict[str, str]], name: str) -> None:
    engine = speaks_tls(authority[0], name)
    answer = post(serve(engine.url, env=authority[1]).url)
    assert (answer.status, answer.error["code"]) == (502, "engine_unreachable")
    assert engine.requests == []
    engine.close()


def test_a_certificate_of_an_unknown_authority(serve: Serve, authority: tuple[trustme.CA, dict[str, str]]) -> None:
    engine = speaks_tls(trustme.CA(), "127.0.0.1")
    answer = post(serve(engine.url, env=authority[1]).url)
    assert (answer.status, answer.error["code"]) == (502, "engine_unreachable")
    assert engine.requests == []
    engine.close()


def test_streams_over_tls_and_unix_are_the_same(
    serve: Serve, authority: tuple[trustme.CA, dict[str, str]], tmp_path: Path
) -> None:
    bodies = set()
    for engine in (speaks_tls(authority[0], "127.0.0.1"), ScriptedEngine(tmp_path / "e.sock"), ScriptedEngine()):
        proxy = serve(engine.url, "--backend", "vllm", env=authority[1])
        bodies.add(without_blocks(stream(proxy.url, stream_options={"include_usage": True}).body)[0])
        engine.close()
    assert len(bodies) == 1
