"""What `fastwrap doctor` says of GPUs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Checks = dict[str, dict[str, str]]


@pytest.fixture
def examine(
    build_library: Callable[..., Path], clean_environment: dict[str, str], tmp_path: Path
) -> Callable[..., Checks]:
    """Runs the doctor on the machine that the lines describe."""

    def run(*lines: str, **environment: str) -> Checks:
        build_library(tmp_path)
        (tmp_path / "nvml.txt").write_text("\n".join(lines) + "\n")
        library = {"LD_LIBRARY_PATH": str(tmp_path), "FAKE_NVML": str(tmp_path / "nvml.txt")}
        done = subprocess.run(
            [sys.executable, "-m", "fastwrap", "doctor", "--json", "--port", "0"],
            env={**clean_environment, **library, **environment},
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return {row["name"]: row for row in json.loads(done.stdout)["checks"]}

    return run


def test_it_says_what_can_be_read_of_each_gpu(examine: Callable[..., Checks]) -> None:
    rows = examine(
        "gpu GPU-aaaa 12884901888",
        "average GPU-aaaa 1000",
        "temperature GPU-aaaa 50",
        "gpu GPU-bbbb 1",
        "error nvmlDeviceGetMemoryInfo_v2:GPU-bbbb 15",
        CUDA_VISIBLE_DEVICES="0",
    )
    assert rows["NVML"]["found"] == "driver 575.57, 2 GPU(s); CUDA_VISIBLE_DEVICES=0"
    name, memory, read = rows["GPU 0"]["found"].split("\n")
    assert (name, memory) == ("Fake GPU", "GPU-aaaa, 12,288 of 1,048,576 MiB in use")
    assert read == (
        "read: memory, power (average of 1 s), temperature; no energy: not_supported; no utilization: not_supported; "
        "no SM clock: not_supported; no throttle reasons: not_supported"
    )
    assert (rows["GPU 1"]["status"], rows["GPU 1"]["found"].split()[0]) == ("warning", "gpu_lost")


def test_it_looks_into_a_gpu_in_mig_mode(examine: Callable[..., Checks]) -> None:
    rows = examine("gpu GPU-aaaa 1", "mig MIG-1 0 1048576", "mig MIG-2 0 2097152")
    head, first, read, second, _ = rows["GPU 0"]["found"].split("\n")
    assert head == "Fake GPU, in MIG mode"
    assert [first, second] == [
        "MIG-1, 1 of 1,048,576 MiB in use",
        "MIG-2, 2 of 1,048,576 MiB in use",
    ]
    assert read.startswith("read: memory; no energy: mig_unsupported;")
