"""The demonstration: what it shows, and that it leaves nothing running."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Any]
Until = Callable[[Callable[[], object], str], None]
ROW = re.compile(r"^ (\w+) +(\S.*?) {2,}\S", re.MULTILINE)


def number(text: str, name: str) -> float:
    """The value of a row of the table."""
    value = dict(ROW.findall(text))[name]
    return float(value.split()[0].replace(",", ""))


def test_shows_the_text_the_table_and_a_curl_line(run: Run) -> None:
    done = run("demo", "--tokens", "9", "--ttft-ms", "120", "--itl-ms", "25", "--seed", "3")
    assert (done.returncode, done.stderr) == (0, "")
    text = done.stdout
    assert "\x1b" not in text, "colour codes without a terminal"
    assert max(len(line) for line in text.split("What it cost")[1].splitlines()) <= 80
    answer = text.split("What does this answer cost?\n\n", 1)[1].split("\n\nWhat it cost", 1)[0]
    assert len(answer.strip()) > 9
    assert number(text, "completion_tokens") == number(text, "chunks") == 9
    assert 120 <= number(text, "ttft_ms") < 2000
    assert 0 < number(text, "tpot_ms") < 500
    # The last token is never early; a first one that was late makes the time per token after it shorter.
    assert number(text, "ttft_ms") + 8 * number(text, "tpot_ms") >= 120 + 8 * 25 - 0.1
    assert 120 + 8 * 25 <= number(text, "latency_ms") < 6000
    assert 0 < number(text, "proxy_overhead_ms") < 1000
    rows = dict(ROW.findall(text))
    assert (rows["outcome"], rows["backend"], rows["reasoning_tokens"]) == ("complete", "vllm", "null")
    assert re.search(r"reasoning_tokens +null +the engine does not say", text)
    assert re.search(r"latency_ms +[\d,.]+ ms +request in", text)
    assert "p99" in text
    assert "fastwrap demo --keep" in text
    assert "curl -N http://127.0.0.1:8080/v1/chat/completions" in text


@pytest.mark.parametrize("flavor", ["openai", "sglang", "tgi", "transformers", "llamacpp", "ollama"])
def test_every_flavor_is_shown(run: Run, flavor: str) -> None:
    done = run("demo", "--flavor", flavor, "--tokens", "4", "--ttft-ms", "1", "--itl-ms", "1")
    assert (done.returncode, done.stderr) == (0, "")
    rows = dict(ROW.findall(done.stdout))
    assert (rows["outcome"], rows["backend"]) == ("complete", flavor)
    assert number(done.stdout, "chunks") >= 1


def test_same_seed_same_text(run: Run) -> None:
    def answer(seed: str) -> str:
        text = run("demo", "--tokens", "12", "--ttft-ms", "0", "--itl-ms", "0", "--seed", seed).stdout
        return text.split("cost?\n\n", 1)[1].split("What it cost", 1)[0]

    assert answer("1") == answer("1") != answer("2")


def test_settings_of_the_environment_change_nothing(run: Run) -> None:
    environment = {"FASTWRAP_ENRICH": "none", "FASTWRAP_PORT": "1", "FASTWRAP_CONFIG": "/nonexistent"}
    done = run("demo", "--tokens", "2", "--itl-ms", "0", env=environment)
    assert done.returncode == 0, done.stderr
    assert number(done.stdout, "completion_tokens") == 2


def test_text_is_shown_as_it_arrives_and_an_interrupt_ends_all(start: Start) -> None:
    demo = start("demo", "--itl-ms", "3600000", "--ttft-ms", "1")  # the second token comes in an hour
    demo.until(r"cost\?\n\n\s*\S")
    assert len(demo.family()) >= 2
    assert demo.end(signal.SIGINT) == 130
    assert demo.family() == []
    assert "What it cost" not in demo.text
    assert "Traceback" not in demo.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signal_while_starting_ends_all(start: Start, number: signal.Signals, until: Until) -> None:
    demo = start("demo", "--itl-ms", "3600000")
    demo.until("A simulated")
    until(demo.family, "the first process")
    assert demo.end(number) == 128 + number
    assert demo.family() == []


def test_keep_stays_until_interrupted_and_its_curl_line_works(start: Start) -> None:
    demo = start("demo", "--keep", "--tokens", "3", "--ttft-ms", "1", "--itl-ms", "1")
    demo.until("until Ctrl-C")
    words = shlex.split(demo.until(r"(?s)  (curl -N .*?)\n\n")[1].replace("\\\n", " "))
    url, header, body = words[2], words[4], words[6]
    assert words[0:2] == ["curl", "-N"]
    assert (header, json.loads(body)["stream"]) == ("content-type: application/json", True)
    address, path = re.fullmatch(r"http://([^/]+)(/.*)", url).groups()  # type: ignore[union-attr]
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request("POST", path, body, dict([header.split(": ")]))
    answer = connection.getresponse().read()
    connection.close()
    assert b'"performance":{"latency_ms":' in answer
    assert demo.process.poll() is None
    assert demo.end(signal.SIGINT) == 0
    assert demo.family() == []
    assert "Traceback" not in demo.text


@pytest.mark.parametrize("word", ["engine", "serve"])
def test_keep_says_if_a_process_ends(start: Start, word: str) -> None:
    demo = start("demo", "--keep", "--tokens", "3", "--ttft-ms", "1", "--itl-ms", "1")
    demo.until("until Ctrl-C")
    for pid in demo.family(word):
        os.kill(pid, signal.SIGKILL)
    assert demo.end() == 1
    assert "Error: a process ended by itself" in demo.text
    assert demo.family() == []


def test_engine_that_does_not_start_is_spoken_of(run: Run) -> None:
    done = run("demo", "--ttft-ms", "nan")
    assert done.returncode == 1
    assert "Error: fastwrap engine did not start" in done.stderr
    assert "NaN" in done.stderr
    assert "Traceback" not in done.stderr
