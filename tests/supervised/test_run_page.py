"""What docs/run.md shows runs as it stands there; its `vllm` is a simulated engine."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fastwrap.run.launch import recognise
from proxy.processes import COMMAND, DEADLINE_S

PAGE = (Path(__file__).parents[2] / "docs" / "run.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def environment(port: int, tmp_path: Path) -> dict[str, str]:
    """`vllm serve` is there; it and fastwrap listen at free ports."""
    vllm = tmp_path / "vllm"
    vllm.write_text(f'#!/bin/sh\nexec {COMMAND} engine --port {port} --model "$2"\n')
    vllm.chmod(0o755)
    path = os.pathsep.join((str(tmp_path), str(Path(COMMAND).parent), os.environ["PATH"]))
    settings = {"FASTWRAP_PORT": "0", "FASTWRAP_UPSTREAM": f"http://127.0.0.1:{port}", "FASTWRAP_GPU": "off"}
    return {**os.environ, **settings, "PATH": path}


@pytest.mark.parametrize("command", blocks("sh"))
def test_a_command(environment: dict[str, str], port: int, command: str) -> None:
    command = command.replace("http://127.0.0.1:8000", f"http://127.0.0.1:{port}")
    with subprocess.Popen(shlex.split(command), env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert any("the engine is ready" in line for line in process.stderr)
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE_S) == 0
        finally:
            process.kill()


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_a_program(environment: dict[str, str], number: int) -> None:
    command = [sys.executable, "-c", blocks("python")[number]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_the_image_starts_an_engine() -> None:
    [image] = blocks("dockerfile")
    words = [re.findall(r'"([^"]*)"', line) for line in image.splitlines() if line.startswith(("ENTRYPOINT", "CMD"))]
    command = [*words[0], *words[1]]
    assert recognise(command[command.index("--") + 1 :], {}) is not None


def test_the_table_has_the_ports_that_are_taken_for_granted() -> None:
    rows = re.findall(r"^\| (`.*?`) \| (\d{4,}) \|", PAGE, re.MULTILINE)
    commands = [(one, port) for names, port in rows for one in re.findall(r"`(.*?)`", names)]
    assert len(commands) == 8
    for command, port in commands:
        found = recognise(command.split(), {})
        assert found is not None
        assert found.upstream == f"http://127.0.0.1:{port}"
