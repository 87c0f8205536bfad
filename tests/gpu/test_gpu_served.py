"""What a request is told of the GPUs by real servers: the library is the fake one, everything else is real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.blocks import Block, block_of
from proxy.client import post, stream, stream_open
from proxy.processes import DEADLINE_S, Process, Proxy, until
from proxy.scripted import DONE, ScriptedEngine, Turn, delta

MIB = 1 << 20
GPU = (
    f"gpu GPU-aaaa {1000 * MIB}",
    f"reserved {512 * MIB}",
    "energy GPU-aaaa 700000 100",
    "power GPU-aaaa 650000",
    "utilization GPU-aaaa 87",
    "temperature GPU-aaaa 61",
    "clock GPU-aaaa 1980",
    "throttle GPU-aaaa 0x44",
)
PERIOD_J = 70.0  # of the counter: 700 W for 100 ms


class Node:
    """A machine with fake GPUs, and what is served there."""

    def __init__(self, directory: Path, library: Path, cleanup: ExitStack) -> None:
        self._directory = directory
        self._cleanup = cleanup
        self.script = directory / "nvml.txt"
        self.calls_log = directory / "calls.txt"
        self.says(*GPU)
        self.environment = {
            "LD_LIBRARY_PATH": str(library.parent),
            "FAKE_NVML": str(self.script),
            "FAKE_NVML_LOG": str(self.calls_log),
            "XDG_RUNTIME_DIR": str(directory),
        }

    def says(self, *lines: str) -> None:
        fresh = self.script.with_suffix(".new")
        fresh.write_text("\n".join(lines) + "\n")
        fresh.replace(self.script)

    def serve(self, upstream: str, *options: str, **environment: str) -> Proxy:
        options = ("--gpu", "auto", "--backend", "vllm", *options)
        proxy = Proxy(upstream, *options, env={**self.environment, **environment})
        self._cleanup.callback(proxy.stop)
        return proxy

    def callers(self, function: str) -> Counter[int]:
        """How often each process called a function."""
        lines = self.calls_log.read_text().splitlines() if self.calls_log.exists() else []
        return Counter(int(pid) for pid, name in (line.split() for line in lines) if name == function)


@pytest.fixture(scope="module")
def library(build_library: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def node(tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with ExitStack() as cleanup:
        yield Node(tmp_path, library, cleanup)


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    scripted = ScriptedEngine()
    yield scripted
    scripted.close()


@pytest.fixture(scope="module")
def slow_engine() -> Iterator[str]:
    """Streams 24 tokens in 1.2 s."""
    process = Process(
        "engine", "--flavor", "vllm", "--model", "m", "--ttft-ms", "50", "--itl-ms", "50", "--tokens", "24"
    )
    yield process.url
    process.stop()


SERVERS = pytest.mark.parametrize("server", ["granian", "native"])


def memory(proxy: Proxy) -> float | None:
    return proxy.scrape().get(("hw_gpu_memory_usage_bytes", "GPU-aaaa"))


def asked(proxy: Proxy) -> Block:
    return block_of(post(proxy.url))


@SERVERS
def test_a_request_is_told_everything(node: Node, slow_engine: str, server: str) -> None:
    proxy = node.serve(slow_engine, "--server", server)
    until(lambda: memory(proxy), "a first sample")
    block = block_of(stream(proxy.url))
    [device] = block["gpu"]
    assert device["uuid"] == "GPU-aaaa"
    assert device["unavailable"] == {}
    assert (block["memory_start_mb"], block["peak_memory_mb"], block["memory_delta_mb"]) == (1000.0, 1000.0, 0.0)
    assert device["memory_reserved_mb"] == 512.0
    assert device["samples"] >= 2
    assert device["sample_interval_ms"] == pytest.approx(block["latency_ms"] / device["samples"], rel=0.2)
    assert device["largest_gap_ms"] >= device["sample_interval_ms"] / 2
    assert 200 <= device["energy_window_ms"] <= block["latency_ms"] + 200
    assert device["energy_j"] == pytest.approx(0.7 * device["energy_window_ms"], abs=2 * PERIOD_J)
    assert (device["energy_method"], device["power_method"]) == ("counter", "instant")
    assert (device["power_mean_w"], device["power_peak_w"]) == (650.0, 650.0)
    assert (device["utilization"], device["temperature_max_c"], device["sm_clock_mean_mhz"]) == (0.87, 61, 1980.0)
    assert device["throttle_reasons"] == ["sw_power_cap", "hw_thermal_slowdown"]
    # Alone from its start to its end, it was given all.
    assert block["energy_j"] == block["attributed_energy_j"] == device["energy_j"]
    assert block["energy_per_output_token_j"] == pytest.approx(device["energy_j"] / 24, abs=1e-3)
    gpu = [field for field in block["unavailable"] if "memory" in field or "energy" in field or field == "gpu"]
    assert set(gpu) <= {"host_memory"}  # the engine's, which may not have been looked for yet
    metrics = proxy.scrape()
    for name, value in (
        ("memory_usage_bytes", 1000 * MIB),
        ("memory_limit_bytes", 1 << 40),
        ("utilization_ratio", 0.87),
        ("power_draw_watts", 650),
        ("temperature_celsius", 61),
    ):
        assert metrics[f"hw_gpu_{name}", "GPU-aaaa"] == pytest.approx(value), name
    assert metrics["hw_gpu_energy_consumed_joules_total", "GPU-aaaa"] >= device["energy_j"]


def test_a_request_that_is_too_short_is_told_no_energy(node: Node, engine: ScriptedEngine) -> None:
    proxy = node.serve(engine.url, "--server", "native")
    consumed = ("hw_gpu_energy_consumed_joules_total", "GPU-aaaa")
    until(lambda: memory(proxy) and consumed in proxy.scrape(), "first samples")
    block = asked(proxy)
    assert block["peak_memory_mb"] == 1000.0
    for field in ("energy_j", "attributed_energy_j", "energy_per_output_token_j"):
        assert (block[field], block["unavailable"][field]) == (None, "window_too_short")
    assert block["gpu"][0]["unavailable"]["utilization"] == "window_too_short"


def test_shares_of_requests_in_all_workers_are_not_more_than_the_devices_energy(node: Node, slow_engine: str) -> None:
    proxy = node.serve(slow_engine, "--workers", "2")
    consumed = ("hw_gpu_energy_consumed_joules_total", "GPU-aaaa")
    until(lambda: consumed in proxy.scrape(), "a first sample")
    before_j = proxy.scrape()[consumed]
    with ThreadPoolExecutor(8) as pool:
        blocks = [block_of(answer) for answer in pool.map(lambda _: stream(proxy.url), range(8))]
    shares_j = [block["attributed_energy_j"] for block in blocks]
    assert None not in shares_j, blocks
    device_j = proxy.scrape()[consumed] - before_j
    assert sum(shares_j) <= device_j + PERIOD_J
    # They began and ended together: each was given about an eighth of what each saw.
    for block in blocks:
        assert block["attributed_energy_j"] < block["energy_j"] / 3


@SERVERS
def test_a_spike_inside_a_request_is_its_peak_and_no_delta(node: Node, engine: ScriptedEngine, server: str) -> None:
    gate = threading.Event()

    def answer(turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(delta("a"))
        gate.wait(DEADLINE_S)
        turn.chunk(delta(finish="stop") + DONE)
        turn.end()

    engine.use(answer)
    proxy = node.serve(engine.url, "--server", server)
    until(lambda: memory(proxy) == 1000 * MIB, "a first sample")
    call = stream_open(proxy.url)
    call.read_until(b'"a"')
    node.says(f"gpu GPU-aaaa {9000 * MIB}", *GPU[1:])
    until(lambda: memory(proxy) == 9000 * MIB, "the spike is sampled")
    node.says(*GPU)
    until(lambda: memory(proxy) == 1000 * MIB, "it is over")
    gate.set()
    block = block_of(call.answer())
    assert (block["peak_memory_mb"], block["memory_delta_mb"]) == (9000.0, 0.0)


def boards(proxy: Proxy) -> list[int]:
    """The processes that have the board mapped."""
    maps = {pid: Path(f"/proc/{pid}/maps") for pid in proxy.pids}
    return [pid for pid, path in maps.items() if path.exists() and ".board" in path.read_text()]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into /proc")
def test_one_sampler_for_four_workers_and_another_one_when_it_is_killed(node: Node, engine: ScriptedEngine) -> None:
    proxy = node.serve(engine.url, "--workers", "4")
    until(lambda: len(boards(proxy)) == 4, "all workers read")
    until(lambda: asked(proxy)["peak_memory_mb"], "a first sample")
    for _ in range(40):  # whichever worker answers
        block = asked(proxy)
        until(lambda: asked(proxy)["peak_memory_mb"] == 1000.0, f"samples: {block}")
    assert sum(node.callers("nvmlInitWithFlags").values()) == 1
    [sampler] = node.callers("nvmlDeviceGetMemoryInfo_v2")
    assert sampler in boards(proxy)
    assert sampler != proxy.process.pid, "initialised before the fork"

    os.kill(sampler, signal.SIGKILL)
    killed = time.monotonic()
    until(lambda: len(node.callers("nvmlDeviceGetMemoryInfo_v2")) == 2, "another one samples")
    assert time.monotonic() - killed < 5.0  # a second, on a machine that does nothing else
    until(lambda: len(boards(proxy)) == 4, "the dead worker was replaced")
    until(lambda: asked(proxy)["peak_memory_mb"] == 1000.0, "samples go on")
    assert sum(node.callers("nvmlInitWithFlags").values()) == 2


def test_sidecars_of_one_engine_share_a_sampler(node: Node, engine: ScriptedEngine) -> None:
    proxies = [node.serve(engine.url, "--server", server) for server in ("native", "granian", "native")]
    for proxy in proxies:
        until(lambda one=proxy: memory(one) == 1000 * MIB, "samples")  # type: ignore[misc]
    assert sum(node.callers("nvmlInitWithFlags").values()) == 1


def test_sidecars_of_other_devices_do_not(node: Node, engine: ScriptedEngine) -> None:
    node.says(*GPU, f"gpu GPU-bbbb {7 * MIB}")
    one = node.serve(engine.url, "--gpu-devices", "0")
    other = node.serve(engine.url, FASTWRAP_GPU_DEVICES="GPU-bb")
    until(lambda: asked(one)["memory_start_mb"] == 1000.0, "samples of one")
    until(lambda: asked(other)["memory_start_mb"] == 7.0, "samples of the other")


@SERVERS
def test_a_library_that_hangs_delays_no_request(node: Node, engine: ScriptedEngine, server: str) -> None:
    proxy = node.serve(engine.url, "--server", server)
    until(lambda: asked(proxy)["peak_memory_mb"], "a first sample")
    function = "nvmlDeviceGetMemoryInfo_v2"
    node.says(*GPU, f"hang {function}")
    until(lambda: node.calls_log.read_text().endswith(f" {function}\n"), "it hangs")
    slowest_s = 0.0

    def stalled() -> bool:
        nonlocal slowest_s
        began = time.monotonic()
        block = asked(proxy)
        slowest_s = max(slowest_s, time.monotonic() - began)
        return bool(block["unavailable"].get("peak_memory_mb") == "sampler_stalled")

    until(stalled, "it is said that it hangs")  # after 5 s
    assert slowest_s < 1.0
    node.says(*GPU)
    until(lambda: asked(proxy)["peak_memory_mb"] == 1000.0, "it goes on")


@SERVERS
def test_a_library_that_hangs_at_its_start_delays_no_request(node: Node, engine: ScriptedEngine, server: str) -> None:
    node.says(*GPU, "hang nvmlInitWithFlags")
    proxy = node.serve(engine.url, "--server", server)
    until(lambda: node.callers("nvmlInitWithFlags"), "it hangs")
    began = time.monotonic()
    block = asked(proxy)
    assert time.monotonic() - began < 1.0
    assert (block["gpu"], block["unavailable"]["gpu"]) == (None, "not_sampled")
    began = time.monotonic()
    proxy.stop()
    assert time.monotonic() - began < 10.0


def test_all_workers_say_why_nothing_is_sampled(node: Node, engine: ScriptedEngine) -> None:
    node.says(*GPU, "error nvmlInitWithFlags 9")
    proxy = node.serve(engine.url, "--workers", "3")
    until(lambda: asked(proxy)["unavailable"]["gpu"] == "driver_not_loaded", "the reason is known")
    for _ in range(20):
        until(lambda: asked(proxy)["unavailable"]["energy_j"] == "driver_not_loaded", "in every worker")
    assert sum(node.callers("nvmlInitWithFlags").values()) == 1
    assert not [name for name, *_ in proxy.scrape() if name.startswith("hw_gpu")]


def test_where_nothing_can_be_shared_a_worker_samples_for_itself(node: Node, engine: ScriptedEngine) -> None:
    """Two sidecars that look for a directory in different places are strangers to each other."""
    other = node.script.parent / "other"
    other.mkdir()
    one = node.serve(engine.url)
    two = node.serve(engine.url, XDG_RUNTIME_DIR=str(other))
    for proxy in (one, two):
        until(lambda one=proxy: memory(one) == 1000 * MIB, "samples")  # type: ignore[misc]
    assert sum(node.callers("nvmlInitWithFlags").values()) == 2


#: An application that asks itself until it is told of a GPU: it computes on the second one.
INSIDE = """
import asyncio, json, os
from fastwrap.middleware import PerformanceMiddleware
from middleware.asgi import Call, whole

async def told():
    while not (block := (await call()).get("gpu")):
        pass
    return block

async def call():
    await (one := Call()).run(app)
    return one.answer.json["performance"]

with open(os.environ["FAKE_NVML"], "a") as script:
    print("gpu GPU-bbbb 2000", f"process GPU-bbbb {os.getpid()}", sep="\\n", file=script)
app = PerformanceMiddleware(whole(b"{}"))
print(json.dumps(asyncio.run(told())))
"""


def test_the_middleware_samples_what_its_own_process_computes_on(node: Node) -> None:
    environment = {**os.environ, **node.environment, "PYTHONPATH": str(Path(__file__).parents[1])}
    ran = subprocess.run(
        [sys.executable, "-c", INSIDE], env=environment, stdout=subprocess.PIPE, timeout=DEADLINE_S, check=True
    )
    assert [device["uuid"] for device in json.loads(ran.stdout)] == ["GPU-bbbb"]
    assert not [*Path(node.environment["XDG_RUNTIME_DIR"]).glob("fastwrap-*/*.board")]  # nobody else's are the same
