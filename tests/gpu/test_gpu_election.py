"""Where readings are shared, and who samples."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastwrap import gpu
from fastwrap.gpu import election
from fastwrap.gpu.election import Election, shared_directory


@pytest.fixture
def bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The places to look for a directory, in their order; none of the machine's own is touched."""
    found = [tmp_path / "first", tmp_path / "second"]
    for base in found:
        base.mkdir()

    def places() -> Iterator[Path]:
        yield from found

    monkeypatch.setattr(election, "_bases", places)
    return found


def ours(base: Path) -> Path:
    return base / f"fastwrap-{os.geteuid()}"


def test_the_directory_is_this_users_alone(bases: list[Path]) -> None:
    assert shared_directory() == ours(bases[0])
    assert ours(bases[0]).stat().st_mode & 0o777 == 0o700
    assert shared_directory() == ours(bases[0]), "it may be there"


@pytest.mark.parametrize("what", ["open to others", "a link", "a file"])
def test_a_directory_that_others_can_touch_is_not_used(bases: list[Path], tmp_path: Path, what: str) -> None:
    if what == "open to others":
        ours(bases[0]).mkdir()
        ours(bases[0]).chmod(0o770)
    elif what == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        ours(bases[0]).symlink_to(tmp_path / "elsewhere")
    else:
        ours(bases[0]).touch(mode=0o700)
    assert shared_directory() == ours(bases[1])


def test_where_nothing_can_be_shared_everybody_is_elected(bases: list[Path]) -> None:
    bases.clear()
    one, other = Election("a"), Election("a")
    assert one.board is other.board is None
    assert one.won()
    assert other.won()


@pytest.mark.usefixtures("bases")
def test_one_is_elected_for_the_same_devices() -> None:
    one, other, foreign = Election("a"), Election("a"), Election("b")
    assert one.board == other.board != foreign.board
    assert one.won()
    assert one.won(), "it stays in office"
    assert not other.won()
    assert foreign.won()
    one.resign()
    assert other.won()


_HOLD = """
import sys
from fastwrap.gpu import election
from pathlib import Path
election._bases = lambda: [Path(sys.argv[1])]
holder = election.Election("a")
print(holder.won(), flush=True)
sys.stdin.read()
"""


def test_death_ends_an_office(bases: list[Path]) -> None:
    command = [sys.executable, "-c", _HOLD, str(bases[0])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        here = Election("a")
        assert not here.won()
        holder.kill()
        holder.wait()
        assert here.won()


def test_the_key_is_that_of_what_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    selection = gpu.Selection("", "http://a")
    assert selection.key == gpu.Selection("", "http://a", "0").key
    assert selection.key != gpu.Selection("", "http://a", None).key
    assert selection.key != gpu.Selection("", "http://b").key
    assert gpu.Selection().key is None  # the engine is this process
    assert gpu.Selection("all", "http://a").key == gpu.Selection("all", "http://b", None).key
