"""What browsers are told: the engine's own words, unless `--cors-origins` says which pages may read answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.client import CHAT, Answer, Call, Headers, ask, post, stream
from proxy.conftest import Serve
from proxy.processes import Proxy
from proxy.scripted import DONE, ScriptedEngine, Turn, delta

PAGE, OTHER_PAGE, STRANGER = "https://app.example", "http://localhost:3000", "https://app.example.evil"
KEY = "sk-first-6f1d0c"
#: What openai-js asks before it sends a chat from a page.
PREFLIGHT: Headers = [
    ("access-control-request-method", "POST"),
    ("access-control-request-headers", "authorization,content-type,x-stainless-os"),
]


def of(origin: str) -> Headers:
    return [("origin", origin)]


def said(answer: Answer) -> dict[str, str]:
    """What a browser is told, each header once, and by whom answers vary."""
    names = [name.lower() for name, _ in answer.headers if name.lower().startswith("access-control-")]
    assert len(names) == len({*names}), answer.headers
    values = {name: answer.header(name) or "" for name in names}
    return {**values, "vary": answer.header("vary") or ""}


def readable(origin: str, vary: str = "Origin") -> dict[str, str]:
    return {
        "access-control-allow-origin": origin,
        "access-control-expose-headers": "X-Performance-Metrics, Server-Timing",
        "vary": vary,
    }


UNREADABLE = {"vary": "Origin"}


@pytest.fixture
def open_to_pages(served: Serve, engine: ScriptedEngine) -> Proxy:
    return served(
        engine.url, "--backend", "vllm", "--cors-origins", f"{PAGE}, {OTHER_PAGE}", "--max-body-bytes", "1000"
    )


def test_off_it_is_the_engines_affair(proxy: Proxy, engine: ScriptedEngine) -> None:
    own = [("access-control-allow-origin", "*"), ("access-control-allow-methods", "PUT"), ("vary", "Origin")]

    def answer(turn: Turn) -> None:
        turn.answer(b"", 203, own) if turn.request.method == "OPTIONS" else turn.json({"id": "c"}, headers=own)

    engine.use(answer)
    asked = ask(proxy.url, "OPTIONS", CHAT, [*of(PAGE), *PREFLIGHT])
    for got, status in ((asked, 203), (post(proxy.url, headers=of(PAGE)), 200)):
        assert got.status == status
        assert [pair for pair in got.headers if pair in own] == own
    assert [request.method for request in engine.requests] == ["OPTIONS", "POST"]
    assert engine.requests[0].header("access-control-request-method") == "POST"
    engine.use(lambda turn: turn.json({"id": "c"}))
    assert said(post(proxy.url, headers=of(PAGE))) == {"vary": ""}
    assert said(ask(proxy.url, "GET", "/-/healthy", of(PAGE))) == {"vary": ""}


def test_pages_of_the_list_may_read_answers(open_to_pages: Proxy) -> None:
    url = open_to_pages.url
    for origin in (PAGE, OTHER_PAGE):
        assert said(post(url, headers=of(origin))) == readable(origin)
        streamed = stream(url, headers=of(origin))
        assert said(streamed) == readable(origin)
        assert streamed.events[-1] == "[DONE]"
        for path in ("/v1/models", "/-/healthy", "/-/metrics", "/-/none"):
            assert said(ask(url, "GET", path, of(origin))) == readable(origin)
    for strangers in (of(STRANGER), of("null"), of(PAGE.upper()), [*of(PAGE), *of(PAGE)], []):
        assert said(post(url, headers=strangers)) == UNREADABLE
        assert said(ask(url, "GET", "/-/metrics", strangers)) == UNREADABLE


def test_pages_of_all_origins(served: Serve, engine: ScriptedEngine) -> None:
    url = served(engine.url, "--backend", "vllm", "--cors-origins", "*").url
    assert said(post(url, headers=of(STRANGER))) == readable("*", "")
    asked = ask(url, "OPTIONS", CHAT, [*of(STRANGER), *PREFLIGHT])
    assert (asked.status, asked.header("access-control-allow-origin")) == (204, "*")
    assert asked.header("access-control-allow-headers") == "authorization,content-type,x-stainless-os"


def test_errors_can_be_read_too(open_to_pages: Proxy, engine: ScriptedEngine) -> None:
    url = open_to_pages.url
    engine.use(lambda turn: turn.reset())
    for got, status in (
        (post(url, headers=of(PAGE)), 502),
        (Call(url, "POST", CHAT, [*of(PAGE), ("content-length", "1001")]).answer(), 413),
        (ask(url, "POST", CHAT, of(PAGE), body=[b"x" * 1001]), 413),
        (ask(url, "GET", "/v1/models", [*of(PAGE), ("x-long", "a" * 70_000)]), 431),
        (ask(url, "POST", "/-/healthy", of(PAGE)), 405),
    ):
        assert (got.status, said(got)) == (status, readable(PAGE))


def test_what_browsers_ask_beforehand_is_answered_here(open_to_pages: Proxy, engine: ScriptedEngine) -> None:
    url = open_to_pages.url
    granted = {
        "access-control-allow-origin": PAGE,
        "access-control-allow-methods": "POST",
        "access-control-allow-headers": "authorization,content-type,x-stainless-os",
        "access-control-max-age": "600",
        "vary": "Origin",
    }
    with open_to_pages.counts("complete", "other"):
        asked = ask(url, "OPTIONS", CHAT, [*of(PAGE), *PREFLIGHT])
    assert (asked.status, asked.body, said(asked)) == (204, b"", granted)
    assert said(ask(url, "OPTIONS", "/-/metrics", [*of(PAGE), *PREFLIGHT])) == granted
    for strangers in (of(STRANGER), of("null")):
        asked = ask(url, "OPTIONS", CHAT, [*strangers, *PREFLIGHT])
        assert (asked.status, said(asked)) == (204, UNREADABLE)
    assert engine.requests == []


def test_other_questions_of_that_method_are_the_engines(open_to_pages: Proxy, engine: ScriptedEngine) -> None:
    engine.use(lambda turn: turn.answer(b"own", 200, [("allow", "GET")]))
    for headers in (of(PAGE), PREFLIGHT):
        assert ask(open_to_pages.url, "OPTIONS", CHAT, headers).body == b"own"


def test_what_the_engine_says_is_not_doubled(open_to_pages: Proxy, engine: ScriptedEngine) -> None:
    """As vLLM does, whose own default is `*`: the list counts."""
    own = [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("vary", "Accept-Encoding, Origin"),
    ]

    def answer(turn: Turn) -> None:
        if turn.request.json.get("stream"):
            return turn.stream([delta("a"), delta(finish="stop"), DONE], own)
        return turn.json({"id": "c"}, headers=own)

    engine.use(answer)
    for send in (post, stream):
        got = send(open_to_pages.url, headers=of(PAGE))
        assert said(got) == readable(PAGE, "Accept-Encoding, Origin")
        assert said(send(open_to_pages.url, headers=of(STRANGER))) == {"vary": "Accept-Encoding, Origin"}
    engine.use(lambda turn: turn.json({"id": "c"}, headers=[("access-control-expose-headers", "X-Request-Id")]))
    got = post(open_to_pages.url, headers=of(PAGE))
    assert got.header("access-control-expose-headers") == "X-Request-Id, X-Performance-Metrics, Server-Timing"


def test_with_keys_pages_ask_beforehand_without_one(serve: Serve, engine: ScriptedEngine, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    proxy = serve(engine.url, "--backend", "vllm", "--cors-origins", PAGE, "--api-key-file", str(keys))
    assert ask(proxy.url, "OPTIONS", CHAT, [*of(PAGE), *PREFLIGHT]).status == 204
    assert ask(proxy.url, "OPTIONS", "/-/metrics", [*of(PAGE), *PREFLIGHT]).status == 204
    assert ask(proxy.url, "OPTIONS", CHAT, [*of(STRANGER), *PREFLIGHT]).status == 204
    for target in (CHAT, "/-/metrics"):
        for headers in (of(PAGE), PREFLIGHT):
            refused = ask(proxy.url, "OPTIONS", target, headers)
            assert (refused.status, refused.error["code"]) == (401, "invalid_api_key")
        refused = ask(proxy.url, "GET", target, of(PAGE))
        assert (refused.status, said(refused)) == (401, readable(PAGE))
    assert engine.requests == []
    with_key: Headers = [*of(PAGE), ("authorization", f"Bearer {KEY}")]
    assert said(post(proxy.url, headers=with_key)) == readable(PAGE)
    assert said(ask(proxy.url, "GET", "/-/metrics", with_key)) == readable(PAGE)
