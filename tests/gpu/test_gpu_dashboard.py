"""Whatever the dashboard and the alerts of deploy/ ask for stands on a real page of metrics."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from gpu.test_gpu_served import Node, library, memory, node, slow_engine  # noqa: F401 (fixtures)
from proxy.client import ask, stream
from proxy.processes import until

DEPLOY = Path(__file__).parents[2] / "deploy"
#: Prometheus adds these labels, and this series.
ADDED_LABELS = {"job": {"fastwrap"}, "instance": {"llm:8080"}}
UP = "up"
Labels = dict[str, set[str]]


def panels() -> list[dict[str, Any]]:
    board = json.loads((DEPLOY / "grafana/dashboards/fastwrap.json").read_text())
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def asked() -> Iterator[tuple[str, str]]:
    """The expressions, and the texts that name labels of what they give."""
    for panel in panels():
        for target in panel["targets"]:
            yield (
                target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".+"),
                target["legendFormat"],
            )
    for rule in alerts():
        yield rule["expr"], " ".join(re.findall(r"{{ \$labels\.\w+", rule["annotations"]["summary"]))


def nodes(expression: str) -> list[Any]:
    found: list[Any] = []
    promql.walk(promql.parse(expression), found.append)
    return found


def selected(parts: list[Any]) -> list[promql.VectorSelector]:
    bare = [part for part in parts if isinstance(part, promql.VectorSelector)]
    return bare + [part.vector_selector for part in parts if isinstance(part, promql.MatrixSelector)]


@pytest.fixture
def scraped(node: Node, slow_engine: str) -> dict[str, Labels]:  # noqa: F811 (the fixtures)
    """The names of all series, and the values of each of their labels."""
    proxy = node.serve(slow_engine, "--server", "native")
    until(lambda: memory(proxy), "a first sample of the GPU")
    assert stream(proxy.url).status == 200
    found: dict[str, Labels] = {UP: dict(ADDED_LABELS)}

    def scrape() -> bool:
        page = ask(proxy.url, "GET", "/-/metrics").body.decode()
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                labels = found.setdefault(sample.name, defaultdict(set, ADDED_LABELS))
                for name, value in sample.labels.items():
                    labels[name].add(value)
        return {"fastwrap_engine_resident_memory_bytes", "hw_gpu_energy_consumed_joules_total"} <= found.keys()

    until(scrape, "all that is sampled")
    return found


def test_all_that_is_asked_for_is_there(scraped: dict[str, Labels]) -> None:
    used = set()
    for expression, text in asked():
        parts = nodes(expression)
        selectors = selected(parts)
        assert selectors, expression
        for selector in selectors:
            assert selector.name in scraped, expression
            used.add(selector.name)
            for matcher in selector.matchers.matchers:
                values = scraped[selector.name].get(matcher.name, set())
                assert any(re.fullmatch(matcher.value, value) for value in values), (expression, matcher.name)
        grouped = {label for part in parts if isinstance(part, promql.AggregateExpr) and part.modifier
                   for label in part.modifier.labels}  # fmt: skip
        labels = [scraped[str(selector.name)].keys() for selector in selectors]
        assert all(grouped <= names for names in labels), expression
        shown = grouped if any(isinstance(part, promql.AggregateExpr) for part in parts) else set(labels[0])
        assert set(re.findall(r"{{ ?(?:\$labels\.)?(\w+)", text)) <= shown, (expression, text)
    not_shown = {name for name in scraped if name not in used and not name.endswith(("_bucket", "_count", "_sum"))}
    assert not not_shown, "the dashboard shows every metric"


def test_the_page_that_is_scraped_is_fastwraps() -> None:
    [job] = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert (job["job_name"], job["metrics_path"]) == ("fastwrap", "/-/metrics")
    provisioning = DEPLOY / "grafana/provisioning"
    [source] = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert {panel["datasource"]["uid"] for panel in panels()} == {source["uid"]}
