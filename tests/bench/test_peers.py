"""The proxies side by side, `benches/peers`, with what needs no installation: answers and reports, never times."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.processes import DEADLINE_S, until

_ROOT = Path(__file__).parents[2]
_COMMAND = _ROOT / "benches" / "peers" / "run.py"
#: What is measured here, nginx where it is installed.
_NAMES = ("nginx", "nginx-unbuffered", "fastwrap-native", "fastwrap-granian", "echo")


def run(cache: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(_COMMAND), *arguments],
        env={**os.environ, "XDG_CACHE_HOME": str(cache), **env},
        capture_output=True,
        encoding="utf-8",
        timeout=4 * DEADLINE_S,
        check=False,
    )


def needs_cpus(count: int) -> None:
    if shutil.which("taskset") is None or len(os.sched_getaffinity(0)) < count:
        pytest.skip(f"needs taskset and {count} CPUs")


def left_behind(cache: Path) -> list[str]:
    """Processes that still run in the cache's folders."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if str((process / "cwd").readlink()).startswith(str(cache)):
                found.append((process / "cmdline").read_text())
    return found


@pytest.mark.parametrize(
    ("placement", "scenario", "mode"),
    [("S", "json-c1", "json"), ("S", "body-8mib", "json"), ("S", "memory-5000", "sse"), ("X", "sse-paced-32", "sse")],
)
def test_everything_answers_as_the_engine_does(placement: str, scenario: str, mode: str, tmp_path: Path) -> None:
    needs_cpus(2 if placement == "X" else 1)
    kept = tmp_path / "record"
    options = ("--quick", "--peers", ",".join(_NAMES), "--placement", placement, "--scenario", scenario)
    result = run(tmp_path, *options, "--record-to", str(kept))
    assert result.returncode == 0, result.stdout + result.stderr
    assert not left_behind(tmp_path)
    page, file = sorted(kept.iterdir(), reverse=True)
    record = json.loads(file.read_text(encoding="utf-8"))
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d-[0-9a-z-]+-{placement}\.json", file.name)
    assert {"date", "machine", "versions", "placement"} <= record.keys()
    found = record["scenarios"][scenario]
    measured = {target["name"]: target for target in found["report"]["targets"]}
    assert {*measured, *found["absent"]} == {"direct", *_NAMES}
    assert all(name.startswith("nginx") for name in found["absent"])
    assert "--quick" in found["command"]
    assert found["report"]["settings"]["mode"] == mode
    for name, target in measured.items():
        assert not target["errors"], name
        assert target["metrics"]["requests"]["value"] > 0
        assert ("rss_mib" in target["metrics"]) == (name != "direct")
    # The same text for everybody: the table in Markdown is made of what the terminal shows.
    text = page.read_text(encoding="utf-8")
    for name in ("direct", *_NAMES):
        assert f"| {name} |" in text
        assert name in result.stdout


def test_what_cannot_be_had_or_answers_differently_is_shown_and_the_others_are_measured(tmp_path: Path) -> None:
    needs_cpus(1)
    programs = tmp_path / "bin"
    programs.mkdir()
    nginx = programs / "nginx"
    # One of the two ends at once, and the other one is an engine with other answers.
    nginx.write_text(
        "#!/bin/sh\n"
        "grep -q 'proxy_request_buffering on' nginx.conf || exit 3\n"
        "port=$(sed -n 's/.*listen 127.0.0.1:\\([0-9]*\\).*/\\1/p' nginx.conf)\n"
        f"exec {sys.executable} -m fastwrap engine --seed 1 --port $port\n"
    )
    nginx.chmod(0o755)
    options = (
        "--quick",
        "--placement",
        "S",
        "--scenario",
        "json-c1",
        "--peers",
        f"{_NAMES[0]},{_NAMES[1]},envoy,{_NAMES[2]}",
    )
    env = {"PATH": f"{programs}:{os.environ['PATH']}", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(programs)}
    result = run(tmp_path, *options, **env)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "envoy could not be installed: " in result.stdout
    shown = " ".join(result.stdout.split())
    assert "its answer is not that of direct" in shown
    assert "ended with status 3 instead of serving: see" in shown
    rows = {line.split()[0]: line.split()[1] for line in result.stdout.splitlines() if len(line.split()) > 1}
    for name in ("nginx", "nginx-unbuffered", "envoy"):
        assert not re.search(r"\d", rows[name])
    assert float(rows["fastwrap-native"].replace(",", "")) > 0


def test_help_teaches(tmp_path: Path) -> None:
    result = run(tmp_path, "--help")
    assert result.returncode == 0
    for wanted in ("Scenarios:", "json-c1", "Proxies:", "fastapi-shared", "Placements:", "Examples:", "exit code"):
        assert wanted in result.stdout


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--peers", "apache"], "there is no 'apache'; there are nginx,"),
        (["--scenario", "x"], "there is no 'x'; there are json-c1,"),
        (["--placement", "Y"], "there are S, X"),
    ],
)
def test_errors_say_what_there_is(arguments: list[str], wanted: str, tmp_path: Path) -> None:
    result = run(tmp_path, *arguments)
    assert result.returncode == 2
    assert wanted in " ".join(result.stderr.split())


def test_what_was_started_ends_with_it(tmp_path: Path) -> None:
    needs_cpus(1)
    command = [sys.executable, str(_COMMAND), "--peers", "fastwrap-native", "--placement", "S", "--rounds", "1000"]
    with subprocess.Popen(command, env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)}) as harness:
        until(lambda: any("fastwrap" in line and "serve" in line for line in left_behind(tmp_path)), "a proxy")
        harness.terminate()
        assert harness.wait(DEADLINE_S) == 128 + signal.SIGTERM
    assert not left_behind(tmp_path)
