"""With `--api-key-file` only those who have a key are let in, and no key goes where it does not belong."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest

from proxy.client import CHAT, Call, Headers, ask, post, stream
from proxy.conftest import Serve
from proxy.processes import Proxy, until
from proxy.scripted import ScriptedEngine, Turn

KEY, OTHER, ENGINES = "sk-first-6f1d0c", "sk-second-77ab2e", "sk-engine-5c01d9"
MESSAGES: Any = [{"role": "user", "content": "hi"}]


def bearer(key: str) -> Headers:
    return [("authorization", f"Bearer {key}")]


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    """Put a file into place at once, as whoever changes keys should."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.chmod(mode)
    return new.replace(path)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return write(tmp_path / "keys", f"# whose they are\n\n{KEY}\n  {OTHER}  \n")


@pytest.fixture
def guarded(serve: Serve, engine: ScriptedEngine, keys: Path) -> Callable[..., Proxy]:
    """Starts a `fastwrap serve` that wants a key."""

    def start(*options: str) -> Proxy:
        proxy = serve(engine.url, "--backend", "vllm", "--api-key-file", str(keys), *options)
        proxy.headers = bearer(KEY)
        return proxy

    return start


def test_who_has_a_key_is_answered_and_the_engine_never_gets_it(
    guarded: Callable[..., Proxy], engine: ScriptedEngine
) -> None:
    proxy = guarded()
    answers: list[Headers] = [
        bearer(KEY),
        [("Authorization", f"bearer  {OTHER} ")],
        [("x-api-key", KEY)],
        [("x-api-key", OTHER), *bearer("another's")],
    ]
    with proxy.counts("complete", requests=2 * len(answers)):
        for headers in answers:
            assert "performance" in post(proxy.url, headers=headers).json
            assert stream(proxy.url, headers=headers).events[-1] == "[DONE]"
    for request in engine.requests:
        assert request.header("authorization") is None
        assert request.header("x-api-key") is None


REFUSED: Sequence[Headers] = (
    [],
    bearer(""),
    bearer(KEY[:-1]),
    bearer(f"{KEY}x"),
    bearer(KEY.upper()),
    bearer(f"{KEY} {OTHER}"),
    bearer("sk-f\xefrst"),
    [("authorization", f"Basic {KEY}")],
    [("authorization", KEY)],
    [*bearer(KEY), *bearer(KEY)],
    [("x-api-key", KEY), ("x-api-key", KEY)],
    [("x-api-key", "")],
    [("cookie", f"key={KEY}")],
    [("proxy-authorization", f"Bearer {KEY}")],
)


def test_who_has_none_is_refused_and_the_engine_not_touched(
    guarded: Callable[..., Proxy], engine: ScriptedEngine
) -> None:
    proxy = guarded()
    with proxy.counts("error", requests=len(REFUSED)):
        for headers in REFUSED:
            got = post(proxy.url, headers=headers)
            assert (got.status, got.header("www-authenticate")) == (401, "Bearer"), headers
            assert (got.error["code"], got.error["type"]) == ("invalid_api_key", "invalid_request_error")
    for method, target in (
        ("GET", "/v1/models"),
        ("GET", "/"),
        ("OPTIONS", "/v1/models"),
        ("DELETE", "/x?a=/-/healthy"),
    ):
        assert ask(proxy.url, method, target).status == 401
    assert engine.requests == []
    assert post(proxy.url, headers=bearer(KEY)).status == 200


def test_its_body_is_not_waited_for(guarded: Callable[..., Proxy]) -> None:
    call = Call(guarded().url, "POST", CHAT, [("content-length", "1000")])
    assert call.answer().status == 401


def test_probes_need_no_key_and_metrics_do(guarded: Callable[..., Proxy]) -> None:
    proxy = guarded()
    assert ask(proxy.url, "GET", "/-/healthy").status == 200
    assert ask(proxy.url, "GET", "/-/ready").status == 200
    for path in ("/-/metrics", "/-/none", "/-/healthy/../metrics", "/-/healthy/", "/-/healthy%2f..%2fmetrics"):
        got = ask(proxy.url, "GET", path)
        assert (got.status, got.error["code"], got.header("www-authenticate")) == (401, "invalid_api_key", "Bearer")
    assert ask(proxy.url, "GET", "/-/metrics", bearer(KEY)).status == 200
    assert ask(proxy.url, "GET", "/-/metrics", [("x-api-key", OTHER)]).status == 200
    assert ask(proxy.url, "GET", "/-/none", bearer(KEY)).status == 404


def test_openai_and_anthropic_clients_know_what_it_means(guarded: Callable[..., Proxy], engine: ScriptedEngine) -> None:
    url = guarded().url

    def client(key: str) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=20)

    with pytest.raises(openai.AuthenticationError) as refusal:
        client("sk-wrong").chat.completions.create(model="m", messages=MESSAGES)
    assert refusal.value.code == "invalid_api_key"
    assert client(KEY).chat.completions.create(model="m", messages=MESSAGES).choices[0].message.content == "abc"
    chunks = client(OTHER).chat.completions.create(model="m", messages=MESSAGES, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "abc"
    engine.use(lambda turn: turn.json({"type": "message", "usage": {"input_tokens": 1, "output_tokens": 1}}))
    assert post(url, target="/v1/messages", headers=[("x-api-key", KEY)]).status == 200
    assert post(url, target="/v1/messages", headers=[("x-api-key", "sk-wrong")]).status == 401


def admits(proxy: Proxy, key: str) -> bool:
    status = post(proxy.url, headers=bearer(key)).status
    assert status in (200, 401)
    return status == 200


@pytest.mark.parametrize("workers", ["1", "2"])
def test_new_keys_count_and_old_ones_no_longer(guarded: Callable[..., Proxy], keys: Path, workers: str) -> None:
    proxy = guarded("--workers", workers)
    assert admits(proxy, KEY)
    write(keys, "sk-new-1\nsk-new-2\n")
    until(lambda: not any(admits(proxy, KEY) for _ in range(8)), "the old key is refused")
    until(lambda: all(admits(proxy, "sk-new-2") for _ in range(8)), "the new key is accepted")
    assert not admits(proxy, OTHER)


def test_links_may_lead_elsewhere_as_those_of_kubernetes_do(
    serve: Serve, engine: ScriptedEngine, tmp_path: Path
) -> None:
    for name, key in (("old", KEY), ("new", OTHER)):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "keys", key)
    data, link = tmp_path / "..data", tmp_path / "keys"
    data.symlink_to("old")
    link.symlink_to("..data/keys")
    proxy = serve(engine.url, "--backend", "vllm", "--api-key-file", str(link))
    assert admits(proxy, KEY)
    (tmp_path / "..next").symlink_to("new")
    (tmp_path / "..next").replace(data)
    until(lambda: admits(proxy, OTHER), "the new key is accepted")
    assert not admits(proxy, KEY)


def test_a_file_that_cannot_be_used_leaves_the_keys_as_they_were(guarded: Callable[..., Proxy], keys: Path) -> None:
    proxy = guarded()
    for spoil, said in (
        (lambda: write(keys, "# nobody\n"), "holds no key"),
        (lambda: write(keys, f"{OTHER}\nsk two words\n"), "line 2 is no key"),
        (lambda: write(keys, "sk-schl\xfcssel\n"), "line 1 is no key"),
        (keys.unlink, "No such file"),
    ):
        spoil()
        until(lambda said=said: said in proxy.log, said)  # type: ignore[misc]
        assert admits(proxy, KEY)
        assert admits(proxy, OTHER)
    write(keys, "sk-new-1\n")
    until(lambda: admits(proxy, "sk-new-1"), "the new key is accepted")
    assert not admits(proxy, KEY)
    assert proxy.log.count("the keys stay as they were") == 4, "each is said once"
    assert not any(secret in proxy.log for secret in (KEY, OTHER, "sk-new-1", "two words", "schl"))


def test_who_else_may_read_the_file_is_said(guarded: Callable[..., Proxy], keys: Path) -> None:
    assert "can be read by others" not in guarded().log
    keys.chmod(0o640)
    proxy = guarded()
    until(lambda: f"{keys} can be read by others than its owner: chmod 600 it" in proxy.log, "the warning")


def test_the_engine_gets_its_own_key(serve: Serve, engine: ScriptedEngine, keys: Path, tmp_path: Path) -> None:
    """With every request, in the client's place, and with fastwrap's own questions."""
    mine = write(tmp_path / "engine", f"{ENGINES}\nsk-none\n")
    asked: list[str | None] = []

    def metrics(turn: Turn) -> None:
        asked.append(turn.request.header("authorization"))
        turn.json({}, 404)

    proxy = serve(engine.url, "--api-key-file", str(keys), "--upstream-api-key-file", str(mine))
    until(lambda: any(request.target == "/v1/models" for request in engine.requests), "the engine is asked what it is")
    engine.metrics = metrics
    assert admits(proxy, KEY)
    assert ask(proxy.url, "GET", "/v1/files", [("x-api-key", OTHER), ("connection", "authorization")]).status == 404
    assert ask(proxy.url, "GET", "/-/ready").status == 200
    assert {(*request.all("authorization"), request.header("x-api-key")) for request in engine.requests} == {
        (f"Bearer {ENGINES}", None)
    }
    write(mine, "sk-engine-new\n")
    engine.requests.clear()
    until(
        lambda: admits(proxy, KEY) and engine.requests[-1].all("authorization") == ["Bearer sk-engine-new"], "it is new"
    )
    assert set(asked) <= {f"Bearer {ENGINES}", "Bearer sk-engine-new"}


def test_without_keys_for_clients_theirs_is_the_engines_affair(
    serve: Serve, served: Serve, engine: ScriptedEngine, tmp_path: Path
) -> None:
    both: Headers = [*bearer("a client's"), ("x-api-key", "b")]
    post(served(engine.url, "--backend", "vllm").url, headers=both)
    assert engine.request.all("authorization") == ["Bearer a client's"]
    assert engine.request.all("x-api-key") == ["b"]
    engine.requests.clear()
    mine = write(tmp_path / "engine", ENGINES)
    post(serve(engine.url, "--backend", "vllm", "--upstream-api-key-file", str(mine)).url, headers=both)
    assert engine.request.all("authorization") == [f"Bearer {ENGINES}"]


def test_no_key_is_told_to_anybody(serve: Serve, engine: ScriptedEngine, keys: Path, tmp_path: Path) -> None:
    """Neither of clients', nor the engine's, nor a guess: not in a log at its most talkative, an error or a metric."""
    mine = write(tmp_path / "engine", ENGINES, 0o644)
    guess = "sk-guess-90ff31"
    options = ("--api-key-file", str(keys), "--upstream-api-key-file", str(mine), "--log-level", "debug")
    proxy = serve(engine.url, *options, "--enrich", "body,header,server-timing")
    told = []
    for headers in (bearer(KEY), [("x-api-key", OTHER)], bearer(guess), [("x-api-key", guess)], [*bearer(KEY)] * 2):
        for target in (CHAT, "/v1/models", "/-/metrics", "/-/ready"):
            told += [ask(proxy.url, "POST", target, headers, b"{}"), ask(proxy.url, "GET", target, headers)]
        told.append(stream(proxy.url, headers=headers))
    engine.use(lambda turn: turn.reset())
    told.append(post(proxy.url, headers=bearer(KEY)))
    assert {401, 404, 502} <= {answer.status for answer in told}
    write(keys, f"{OTHER}\n")
    until(lambda: post(proxy.url, headers=bearer(KEY)).status == 401, "the key is gone")
    told.append(ask(proxy.url, "GET", "/-/metrics", bearer(OTHER)))
    proxy.stop()
    seen = proxy.log + "".join(f"{answer.headers} {answer.body!r}" for answer in told)
    assert "DEBUG" in proxy.log
    for secret in (KEY, OTHER, ENGINES, guess):
        assert secret not in seen


def test_many_keys_and_many_clients(guarded: Callable[..., Proxy], keys: Path) -> None:
    """Keys change while requests come, and none is refused that has one all the time."""
    proxy = guarded()
    many = [f"sk-{number}-{os.urandom(8).hex()}" for number in range(1000)]
    statuses: list[int] = []
    stop = threading.Event()

    def keep_asking() -> None:
        while not stop.is_set():
            statuses.append(post(proxy.url, headers=bearer(KEY)).status)

    thread = threading.Thread(target=keep_asking)
    thread.start()
    write(keys, "\n".join([*many, KEY]))
    until(lambda: admits(proxy, many[500]), "a new key is accepted")
    stop.set()
    thread.join()
    assert set(statuses) == {200}
    assert admits(proxy, many[0])
    assert admits(proxy, many[-1])
