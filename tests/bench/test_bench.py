"""`fastwrap bench` run for a second or so."""

from __future__ import annotations

import json
import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.conftest import Run
from fastwrap import _native
from proxy.processes import Process, Proxy

QUICK = ("--rounds", "3", "--duration", "0.1", "--warmup", "1")


def written(file: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return report


def test_tables_and_json_say_what_was_seen(
    bench: Run, pair: tuple[str, str], engines: tuple[Process, Process], tmp_path: Path
) -> None:
    file = tmp_path / "report.json"
    pid = engines[1].process.pid
    result = bench(*pair, *QUICK, "--concurrency", "2", "--seed", "7", "--pid", f"other={pid}", "--json", str(file))
    assert result.returncode == 0, result.stderr
    for wanted in (
        "Latency, µs",
        "p99.9",
        "direct",
        "other",
        "added",
        "÷ direct",
        "Throughput",
        "Cost",
        "±",
        "interval",
    ):
        assert wanted in result.stdout
    assert "Time to first content" not in result.stdout
    report = written(file)
    assert report["settings"]["load"] == {"loop": "closed", "concurrency": 2}
    assert {"cpu", "system", "cpus"} <= report["machine"].keys()
    assert report["versions"]["fastwrap"] == _native.__version__
    commit = report["versions"]["commit"]
    assert commit is None or re.fullmatch(r"[0-9a-f]{7,}(-dirty)?", commit)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]+\+00:00", report["date"])
    assert [sorted(order) for order in report["settings"]["orders"]] == [["direct", "other"]] * 3
    direct, other = report["targets"]
    assert [*other["metrics"]] == _native.bench_metrics()
    for target in (direct, other):
        assert not target["errors"]
        assert sum(one["requests"] for one in target["rounds"]) == target["metrics"]["requests"]["value"] > 0
    p50, added = other["metrics"]["p50_us"], other["metrics"]["added_p50_us"]
    assert p50["low"] <= p50["value"] <= p50["high"]
    assert added["low"] <= added["value"] <= added["high"]
    assert direct["metrics"]["added_p50_us"] is None
    assert other["metrics"]["cpu_us_per_request"]["value"] > 0
    assert other["metrics"]["rss_mib"]["value"] > 1
    assert 0 < other["metrics"]["generator_cpu_cores"]["value"] <= 1
    # Two at once say nothing about what one takes.
    assert other["metrics"]["rss_per_stream_kib"] is None
    assert direct["metrics"]["rss_mib"] is None


def test_streams_are_timed_chunk_by_chunk(bench: Run, pair: tuple[str, str], tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    result = bench(*pair, *QUICK, "--mode", "sse", "--max-tokens", "5", "--request-bytes", "16KiB", "--json", str(file))
    assert result.returncode == 0, result.stderr
    for wanted in ("Time to first content", "Between chunks", "chunks/s", "16,384 bytes"):
        assert wanted in result.stdout
    for target in written(file)["targets"]:
        assert all(one["chunks"] == 5 * one["requests"] > 0 for one in target["rounds"])
        assert target["metrics"]["ttft_p50_us"]["value"] <= target["metrics"]["p50_us"]["value"]


@pytest.mark.parametrize("server", ["granian", "native"])
def test_fastwrap_answers_what_the_engine_does(
    bench: Run, engines: tuple[Process, Process], server: str, tmp_path: Path
) -> None:
    engine = engines[0].url
    proxy = Proxy(engine, "--server", server)
    targets = (f"direct={engine}", f"fastwrap={proxy.url}")
    quick = ("--rounds", "1", "--duration", "0.2", "--concurrency", "4", "--fail-if", "errors > 0")
    try:
        result = bench(*targets, *quick)
        assert result.returncode == 0, result.stderr
        file = tmp_path / "report.json"
        result = bench(*targets, *quick, "--mode", "sse", "--transit", "--json", str(file))
        assert result.returncode == 0, result.stderr
    finally:
        proxy.stop()
    for target in written(file)["targets"]:
        metrics = target["metrics"]
        assert 0 < metrics["transit_p50_us"]["value"] < metrics["p99_us"]["value"]


def test_the_way_of_a_chunk_is_timed_where_the_engine_stamps(bench: Run, pair: tuple[str, str], tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    third = pair[1].replace("other=", "third=")
    options = (*QUICK, "--mode", "sse", "--max-tokens", "5", "--transit", "--reference", "other")
    result = bench(*pair, third, *options, "--json", str(file), "--fail-if", "added_transit_p90_us > 1e9")
    assert result.returncode == 0, result.stderr
    assert "Chunk transit, µs" in result.stdout
    report = written(file)
    assert report["settings"]["transit"] is True
    for target in report["targets"]:
        assert target["metrics"]["transit_p50_us"]["value"] <= target["metrics"]["transit_p99_us"]["value"]
        assert (target["metrics"]["transit_p50_ratio"] is not None) == (target["name"] == "third")
    # An engine that does not stamp.
    result = bench(*pair, *options, "--body", '{"fastwrap_sim": null}', "--fail-if", "transit_p50_us > 0")
    assert result.returncode == 1
    assert "no event came with a stamp" in result.stderr
    assert "direct has no transit_p50_us" in result.stderr
    assert "Chunk transit" not in result.stdout


def test_a_request_has_the_members_that_it_is_given(bench: Run, pair: tuple[str, str], tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    body = {"max_tokens": 3, "top_p": 0.5}
    result = bench(*pair, *QUICK, "--mode", "sse", "--body", json.dumps(body), "--json", str(file))
    assert result.returncode == 0, result.stderr
    report = written(file)
    assert report["settings"]["body"] == body
    assert json.dumps(body) in " ".join(result.stdout.split())
    for target in report["targets"]:
        assert all(one["chunks"] == 3 * one["requests"] > 0 for one in target["rounds"])


@contextmanager
def few_descriptors() -> Iterator[int]:
    """Within it, processes start with a low limit of open files, which they may raise."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        yield 128
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="memory of a process is read from Linux' /proc")
@pytest.mark.parametrize("server", ["granian", "native"])
def test_more_streams_than_open_files_were_allowed(bench: Run, server: str, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    with few_descriptors() as limit:
        engine = Process("engine", "--ttft-ms", "300")
        proxy = Proxy(engine.url, "--server", server)
        count = 2 * limit
        options = ("--mode", "sse", "--concurrency", str(count), "--ramp", "0.1", "--duration", "0.1", "--rounds", "1")
        pid = f"fastwrap={proxy.process.pid}"
        try:
            result = bench(
                f"direct={engine.url}", f"fastwrap={proxy.url}", *options, "--warmup", "0", "--pid", pid,
                "--json", str(file), "--fail-if", "errors > 0",
            )  # fmt: skip
        finally:
            proxy.stop()
            engine.stop()
    assert result.returncode == 0, result.stderr
    assert "that begin within 0.1 s" in " ".join(result.stdout.split())
    for target in written(file)["targets"]:
        assert limit < target["rounds"][0]["open"] <= count
    assert target["metrics"]["rss_per_stream_kib"]["value"] > 0


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system cannot keep a process on a CPU")
def test_the_generator_stays_on_its_cpu(bench: Run, pair: tuple[str, str], tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    cpu = max(os.sched_getaffinity(0))
    result = bench(*pair, *QUICK, "--cpu", str(cpu), "--json", str(file))
    assert result.returncode == 0, result.stderr
    assert written(file)["machine"]["cpus_allowed"] == [cpu]
    result = bench(*pair, *QUICK, "--cpu", "99999")
    assert result.returncode == 2
    assert "none of the CPUs that may be used" in result.stderr


def test_an_open_loop_sends_as_many_as_it_is_told(bench: Run, pair: tuple[str, str], tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    options = ("--rate", "100", "--arrivals", "constant", "--rounds", "2", "--duration", "0.5", "--warmup", "0")
    result = bench(*pair, *options, "--json", str(file))
    assert result.returncode == 0, result.stderr
    assert "open loop, 100 requests/s, constant arrivals" in result.stdout
    for target in written(file)["targets"]:
        assert [one["requests"] for one in target["rounds"]] == [50, 50]
        assert target["metrics"]["late_p99_us"] is not None


def test_the_page_needs_nothing_beside_itself(bench: Run, pair: tuple[str, str], tmp_path: Path) -> None:
    plotly = pytest.importorskip("plotly.offline")
    file = tmp_path / "page.html"
    result = bench(*pair, *QUICK, "--mode", "sse", "--html", str(file))
    assert result.returncode == 0, result.stderr
    page = file.read_text(encoding="utf-8")
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", page)
    own = page.replace(plotly.get_plotlyjs(), "")
    assert {*re.findall(r"https?://[^\s\"'<&]+", own)} == {url.partition("=")[2] for url in pair}
    figures = [drawn(text) for text in own.split("Plotly.newPlot(")[1:]]
    assert len(figures) == 6
    for traces in figures:
        assert [trace["name"] for trace in traces] == ["direct", "other"]
        assert all(len(trace["x"]) == len(trace["y"]) > 0 for trace in traces)
    for wanted in (
        "Latency: how many are not slower",
        "Between chunks: median of each round",
        "&quot;added_p99_us&quot;",
    ):
        assert wanted in page


def drawn(text: str) -> list[dict[str, Any]]:
    """The traces of a figure: the second argument of the call that draws it, JSON without numbers that are none."""
    decoder = json.JSONDecoder(parse_constant=lambda name: pytest.fail(f"{name} in a figure"))
    _, end = decoder.raw_decode(text.lstrip())
    traces, _ = decoder.raw_decode(text.lstrip()[end:].lstrip(", \n"))
    return list(traces)


def test_a_page_without_plotly_is_refused_before_anything_is_measured(
    bench: Run, pair: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "plotly.py").write_text("raise ImportError", encoding="utf-8")
    file = tmp_path / "page.html"
    result = bench(*pair, "--html", str(file), env={"PYTHONPATH": str(tmp_path)})
    assert result.returncode == 1
    assert "pip install 'fastwrap[bench]'" in result.stderr
    assert not file.exists()


def test_conditions_decide_the_exit_code(bench: Run, pair: tuple[str, str]) -> None:
    harmless = ("--fail-if", "added_p50_us > 1e9", "--fail-if", "errors > 0", "--fail-if", "direct.p50_us == 0")
    result = bench(*pair, *QUICK, *harmless)
    assert result.returncode == 0, result.stderr
    result = bench(*pair, *QUICK, *harmless, "--fail-if", "requests_per_s<1e9")
    assert result.returncode == 1
    assert "Failed: requests_per_s<1e9: direct has" in result.stderr
    assert "Failed: requests_per_s<1e9: other has" in result.stderr
    assert "Latency" in result.stdout
    # What was not measured has not passed.
    result = bench(*pair, *QUICK, "--fail-if", "added_ttft_p50_us > 1e9")
    assert result.returncode == 1
    assert "other has no added_ttft_p50_us" in result.stderr


def test_another_answer_is_refused(bench: Run, pair: tuple[str, str], stranger: Process) -> None:
    for mode in ("json", "sse"):
        result = bench(pair[0], f"stranger={stranger.url}", *QUICK, "--mode", mode)
        assert result.returncode == 1
        assert "stranger: its answer is not that of direct" in result.stderr
        assert not result.stdout
    result = bench(pair[0], f"stranger={stranger.url}", *QUICK, "--check", "status")
    assert result.returncode == 0, result.stderr


def test_one_target_is_a_plain_measurement(bench: Run, pair: tuple[str, str]) -> None:
    result = bench(pair[0], *QUICK)
    assert result.returncode == 0, result.stderr
    assert "One target: nothing to compare it with" in result.stdout
    assert "added" not in result.stdout


def test_a_reference_divides_what_is_added(bench: Run, pair: tuple[str, str]) -> None:
    result = bench(*pair, pair[1].replace("other=", "third="), *QUICK, "--reference", "other")
    assert result.returncode == 0, result.stderr
    assert "÷ other" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["http://127.0.0.1:1"], "is not NAME=URL, as direct=http://127.0.0.1:8000"),
        (["a=https://127.0.0.1"], "give an address of plain http"),
        (["a=http://127.0.0.1:1"], "cannot be reached: Connection refused"),
        (["a=http://x", "a=http://y"], "two targets are called a"),
        (["a=http://x", "--reference", "b"], "the reference b is no target; they are a"),
        (["a=http://x", "--pid", "b=1"], "there is no target 'b'; they are a"),
        (["a=http://x", "--pid", "a=x"], "'x' is no process"),
        (["a=http://x", "--header", "nonsense"], "is not 'NAME: VALUE'"),
        (["a=http://x", "--header", "a b: c"], "the header"),
        (["a=http://x", "--request-bytes", "8 potatoes"], "write 1024, 64KiB or 8MiB"),
        (["a=http://x", "--arrivals", "constant"], "give a --rate, too"),
        (["a=http://x", "--path", "v1"], "must begin with /"),
        (["a=http://x", "--body", "[]"], "the body is no JSON object"),
        (["a=http://x", "--body", '{"stream": true}'], "for the mode to say"),
        (["a=http://x", "--transit"], "choose the mode sse"),
        (["a=http://x", "--ramp", "1", "--rate", "5"], "a ramp is of the closed loop"),
        (["a=http://x", "--concurrency", "1000000000000"], "open files"),
        (["a=http://x", "--fail-if", "p50_us"], "write METRIC OPERATOR NUMBER"),
        (["a=http://x", "--fail-if", "__import__('os') > 1"], "write METRIC OPERATOR NUMBER"),
        (["a=http://x", "--fail-if", "p50_u > 1"], "did you mean p50_us? The metrics are:\np50_us"),
        (["a=http://x", "--fail-if", "b.p50_us > 1"], "there is no target 'b'"),
        (["a=http://x", "--fail-if", "added_p50_us > 1"], "there is only one"),
        (["a=http://x", "--fail-if", "help"], "added_p99_us"),
    ],
)
def test_errors_say_what_to_do(bench: Run, arguments: list[str], wanted: str) -> None:
    result = bench(*arguments)
    assert result.returncode in (1, 2)
    assert wanted in result.stderr
    assert "Traceback" not in result.stderr


def test_help_teaches(bench: Run) -> None:
    result = bench("--help")
    assert result.returncode == 0
    for wanted in (
        "Examples:",
        "--reference nginx",
        "--concurrency 32 --transit",
        "--concurrency 1000",
        "fastwrap engine --port 8000",
        "To believe the numbers",
        "exit code",
    ):
        assert wanted in result.stdout
