from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from fastwrap import __version__
from fastwrap.settings import Settings

Run = Callable[..., subprocess.CompletedProcess[str]]
COMMANDS = ("demo", "serve", "run", "doctor", "engine", "bench")


def test_main_help_names_the_commands_in_the_order_to_try_them(run: Run) -> None:
    done = run("--help")
    assert done.returncode == 0
    listed = re.findall(r"^  (\w+)  ", done.stdout.split("Commands:")[1].split("First steps:")[0], re.MULTILINE)
    assert listed == list(COMMANDS)
    assert "fastwrap demo" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80, "wider than a terminal"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_shows_examples(run: Run, command: str) -> None:
    done = run(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert run(command, "-h").stdout == done.stdout
    assert f"  fastwrap {command}" in done.stdout.split("Examples:")[1]
    assert max(map(len, done.stdout.splitlines())) <= 80, "wider than a terminal"


def test_serve_help_has_every_setting_with_its_default_and_names_the_other_ways_once(run: Run) -> None:
    text = run("serve", "--help").stdout
    words = " ".join(text.split())
    for setting in dataclasses.fields(Settings):
        flag = "--" + setting.name.replace("_", "-")
        entry = re.search(rf"{flag} .*?(?= --[a-z]|$)", words)
        assert entry, flag
        if setting.default not in ("", ()):
            default = f"{setting.default:g}" if isinstance(setting.default, float) else setting.default
            default = "off" if default is False else default
            assert f"[default: {default}]" in entry[0], entry[0]
    assert words.count("FASTWRAP_<OPTION>") == 1
    for unit in ("SECONDS", "BYTES", "--stall-ms MS"):
        assert unit in text


def test_version(run: Run) -> None:
    assert run("--version").stdout == f"fastwrap, version {__version__}\n"


def test_module_is_the_same_program(run: Run) -> None:
    script = sys.executable.removesuffix(sys.executable.rsplit("/", 1)[1]) + "fastwrap"
    done = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.startswith("Usage: fastwrap [OPTIONS] COMMAND")
    assert run("--help").stdout.startswith("Usage: fastwrap [OPTIONS] COMMAND")


def test_help_loads_nothing_that_takes_long() -> None:
    program = (
        "import sys; from fastwrap.cli import main; main(['serve', '--help'], standalone_mode=False); "
        "print(sorted({'granian', 'httpx', 'prometheus_client', 'rich', 'uvloop'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == "[]\n"
