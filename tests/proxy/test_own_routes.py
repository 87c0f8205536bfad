"""fastwrap's own routes, below /-/."""

from __future__ import annotations

import threading

import pytest

from proxy.client import Wire, ask, post, stream_open
from proxy.conftest import Serve
from proxy.processes import Proxy, until
from proxy.scripted import ScriptedEngine, Turn, chat_events


def test_healthy_says_that_fastwrap_serves(proxy: Proxy) -> None:
    answer = ask(proxy.url, "GET", "/-/healthy")
    assert (answer.status, answer.json) == (200, {"status": "ok"})
    assert ask(proxy.url, "HEAD", "/-/healthy").body == b""


def test_own_routes_never_reach_the_engine(proxy: Proxy, engine: ScriptedEngine) -> None:
    for target in ("/-/healthy", "/-/metrics", "/-/unknown", "/-/"):
        ask(proxy.url, "GET", target)
    assert engine.requests == []


@pytest.mark.parametrize("target", ["/-/unknown", "/-/", "/-/healthy/more"])
def test_an_unknown_route_is_404(proxy: Proxy, target: str) -> None:
    answer = ask(proxy.url, "GET", target)
    assert (answer.status, answer.error["code"]) == (404, "not_found")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_own_routes_are_only_read(proxy: Proxy, method: str) -> None:
    answer = ask(proxy.url, method, "/-/metrics", body=b"{}")
    assert (answer.status, answer.error["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize("hosts", [[], ["a", "a"], ["u@a"]])
def test_own_routes_want_one_host_too(proxy: Proxy, hosts: list[str]) -> None:
    wire = Wire(proxy.url)
    wire.send("".join(["GET /-/metrics HTTP/1.1\r\n", *(f"host: {host}\r\n" for host in hosts), "\r\n"]).encode())
    [answer] = wire.answers()
    assert (answer.status, answer.error["code"]) == (400, "bad_request")


def test_ready_follows_the_engine(serve: Serve) -> None:
    engine = ScriptedEngine(listens=False)
    proxy = serve(engine.url)
    answer = ask(proxy.url, "GET", "/-/ready")
    assert (answer.status, answer.json["status"]) == (503, "waiting")
    assert ask(proxy.url, "GET", "/-/healthy").status == 200
    engine.listen()
    until(lambda: ask(proxy.url, "GET", "/-/ready").status == 200, "ready after the engine came up")
    engine.close()


def test_metrics_are_prometheus_text(proxy: Proxy, engine: ScriptedEngine) -> None:
    def in_two_reads(turn: Turn) -> None:  # all in one read tell no time per token
        turn.begin_stream()
        first, *rest = chat_events(turn.request)[1:]
        turn.chunk(first)
        go.wait(20)
        turn.chunk(b"".join(rest))
        turn.end()

    go = threading.Event()
    with proxy.counts("complete", requests=2):
        post(proxy.url)
        engine.use(in_two_reads)
        call = stream_open(proxy.url)
        call.read_until(b'"a"')
        go.set()
        call.answer()
    assert (ask(proxy.url, "GET", "/-/metrics").header("content-type") or "").startswith("text/plain; version=")
    samples = proxy.scrape()
    assert samples["fastwrap_tokens_total", "chat", "output"] >= 6
    for histogram in ("request_duration", "time_to_first_token", "time_per_output_token"):
        name = f"gen_ai_server_{histogram}_seconds"
        assert samples[f"{name}_count", "chat", "vllm"] >= 1
        assert samples[f"{name}_bucket", "chat", "vllm", "+Inf"] == samples[f"{name}_count", "chat", "vllm"]
        assert samples[f"{name}_sum", "chat", "vllm"] >= 0


def test_labels_do_not_depend_on_what_clients_send(proxy: Proxy) -> None:
    ask(proxy.url, "GET", "/first")
    before = proxy.scrape().keys()
    for number in range(20):
        ask(proxy.url, "BREW" + "X" * number, f"/path/{number}?{number}", [("x-request-id", str(number))])
    post(proxy.url, {"model": "another", "user": "somebody"})
    assert len(proxy.scrape().keys() - before) <= 20  # the chat's histograms, if this was the first one
    assert not [key for key in proxy.scrape() if "another" in key or "BREW" in str(key)]
