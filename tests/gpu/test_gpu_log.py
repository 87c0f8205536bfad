"""The native log: what one process writes, all that share the file read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fastwrap._native import Meter

SECOND = 1_000_000_000


def meter() -> Meter:
    return Meter(
        enrich="body",
        stall_ns=1,
        json_as_stream=False,
        max_body_bytes=1 << 20,
        max_header_bytes=1 << 16,
        max_inflight=0,
    )


@pytest.fixture
def meters(tmp_path: Path) -> tuple[Meter, Meter]:
    """Two that share a board, as two processes do."""
    both = meter(), meter()
    for one in both:
        one.gpu.share(tmp_path / "board")
    return both


def test_what_one_writes_the_other_reads(meters: tuple[Meter, Meter]) -> None:
    one, other = meters
    one.gpu.devices(["GPU-1", "GPU-2"])
    assert other.gpu.latest() == []
    now_ns = time.monotonic_ns()
    one.gpu.push("memory", now_ns, [[5, 1, 100], ["not_supported"] * 3])
    for counter in (1000, 3000):
        one.gpu.push("power", now_ns, [[counter, 700, 0], ["no_permission"] * 3])
    one.gpu.push("utilization", now_ns, [[87], [3]])
    one.gpu.push("condition", now_ns, [[61, 1980, 4], ["not_supported"] * 3])
    assert other.gpu.latest() == one.gpu.latest()
    assert other.gpu.latest() == [
        ("GPU-1", 5, 100, 87, 700, 2_000_000, 61),
        ("GPU-2", None, None, 3, None, None, None),
    ]


def test_why_nothing_is_sampled_is_told_to_all_and_what_one_lacks_to_itself(meters: tuple[Meter, Meter]) -> None:
    one, other = meters
    one.gpu.devices(["GPU-1"])
    one.gpu.push("memory", time.monotonic_ns(), [[5, 1, 100]])
    one.gpu.failed("gpu_lost")
    assert other.gpu.catch_up() == "gpu_lost"
    assert other.gpu.latest() == []
    other.gpu.begin()
    assert one.gpu.catch_up() is None
    one.gpu.push("memory", time.monotonic_ns(), [[6, 1, 100]])
    one.gpu.unavailable("disabled")
    assert one.gpu.latest() == []
    assert other.gpu.latest()[0][1] == 6


def test_requests_in_flight_are_those_of_both(meters: tuple[Meter, Meter]) -> None:
    one, other = meters
    requests = [which.begin("GET", b"/", [(b"host", b"a")], "1.1") for which in (one, one, other)]
    assert one.gpu.in_flight() == other.gpu.in_flight() == 3
    other.gpu.forget_dead()
    assert one.gpu.in_flight() == 3, "nobody has died"
    for request in requests:
        request.cancel()
    assert one.gpu.in_flight() == 0


def test_one_that_shares_in_the_middle_of_a_request_counts_it(tmp_path: Path) -> None:
    late = meter()
    request = late.begin("GET", b"/", [(b"host", b"a")], "1.1")
    late.gpu.share(tmp_path / "board")
    assert late.gpu.in_flight() == 1
    request.cancel()
    assert late.gpu.in_flight() == 0


def test_a_meter_that_is_gone_leaves_nothing_behind(tmp_path: Path) -> None:
    one = meter()
    one.gpu.share(tmp_path / "board")
    for _ in range(300):  # more than there are places
        other = meter()
        other.gpu.share(tmp_path / "board")
        request = other.begin("GET", b"/", [(b"host", b"a")], "1.1")
        assert one.gpu.in_flight() == 1
        del request, other
    assert one.gpu.in_flight() == 0


def test_a_request_anywhere_wakes_the_sampler(meters: tuple[Meter, Meter]) -> None:
    one, other = meters
    assert not one.gpu.wait(1)
    request = other.begin("GET", b"/", [(b"host", b"a")], "1.1")
    assert one.gpu.wait(20 * SECOND), "it began before"
    assert not one.gpu.wait(1), "it was seen"
    woken: list[bool] = []
    waits = threading.Thread(target=lambda: woken.append(one.gpu.wait(20 * SECOND)))
    waits.start()
    began = time.monotonic()
    request.cancel()
    waits.join(20)
    assert woken == [True]
    assert time.monotonic() - began < 10
    one.gpu.wake()
    assert one.gpu.wait(20 * SECOND)


def test_without_a_file_it_is_its_own(tmp_path: Path) -> None:
    one, other = meter(), meter()
    one.gpu.share()
    one.gpu.share(tmp_path / "board")  # a second time does nothing
    other.gpu.share(tmp_path / "board")
    other.begin("GET", b"/", [(b"host", b"a")], "1.1")
    assert one.gpu.in_flight() == 0


def test_there_is_room_for_the_whole_board(meters: tuple[Meter, Meter], tmp_path: Path) -> None:
    """A page that cannot be had when it is first written to would end the process."""
    assert len(meters) == 2
    board = (tmp_path / "board").stat()
    assert board.st_blocks * 512 >= board.st_size > 0


def test_what_cannot_be(tmp_path: Path) -> None:
    one = meter()
    with pytest.raises(RuntimeError, match="share"):
        one.gpu.in_flight()
    with pytest.raises(OSError, match="directory"):
        one.gpu.share(tmp_path / "none" / "board")
    one.gpu.share()
    one.gpu.devices(["GPU-1"])
    calls: list[Callable[[], object]] = [
        lambda: one.gpu.push("smell", 1, [[1]]),
        lambda: one.gpu.push("memory", 1, [["a whim"] * 3]),
        lambda: one.gpu.failed("a whim"),
        lambda: one.gpu.unavailable("a whim"),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="no such"):
            call()


def test_a_mark_before_the_first_sample_says_so() -> None:
    one = meter()
    one.gpu.share()
    request = one.begin("POST", b"/v1/chat/completions", [(b"host", b"a")], "1.1")
    request.body(b"{}")
    one.gpu.devices(["GPU-1"])
    one.gpu.push("memory", time.monotonic_ns(), [[5, 1, 100]])
    request.response(200, [(b"content-type", b"application/json")], time.monotonic_ns())
    request.data(b'{"choices":[]}', time.monotonic_ns())
    assert b'"gpu":"not_sampled"' in request.finish()
