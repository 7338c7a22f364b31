"""The dashboard and the alerts ask for metrics and labels that the gateway has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from equipoise.guard.gateway.metrics import GatewayMetrics

FOLDER = Path(__file__).parents[3] / "docs" / "monitoring"
BOARD: dict[str, Any] = json.loads((FOLDER / "grafana.json").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
ADDED = {"instance", "job", "le"}
"""Labels that Prometheus adds."""


def expressions() -> Iterator[str]:
    for panel in BOARD["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (variable["query"] for variable in BOARD["templating"]["list"])
    yield from (rule["expr"] for rule in RULES)


def exported() -> dict[str, set[str]]:
    """The names of all samples with their labels, after one value of each."""
    metrics = GatewayMetrics()
    metrics.requests.labels("/v1/chat/completions", 200).inc()
    metrics.decisions.labels("output", "allow", "policy").inc()
    metrics.receipts.labels("checked").inc()
    metrics.rail.labels("output").observe(0.1)
    metrics.reloads.labels("taken").inc()
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


SAMPLES = exported()


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_every_metric_and_label_exists(expression: str) -> None:
    names = set(re.findall(r"equipoise_\w+", expression))
    assert names <= SAMPLES.keys()
    known = ADDED.union(*(SAMPLES[name] for name in names))
    used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression))
    used |= {label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")}
    assert used <= known


def test_every_metric_is_on_the_dashboard() -> None:
    used = " ".join(target["expr"] for panel in BOARD["panels"] for target in panel["targets"])
    families = {re.sub(r"_(total|bucket|sum|count|created)$", "", name) for name in SAMPLES}
    assert {name for name in families if name not in used} == set()


def test_panels_have_titles_places_and_the_chosen_source() -> None:
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    corners = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in BOARD["panels"]]
    assert len(set(corners)) == len(corners)
    assert all(panel["title"] and panel["datasource"]["uid"] == "${source}" for panel in BOARD["panels"])


def test_alerts_have_names_and_summaries() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    assert all(rule["annotations"]["summary"].endswith((".", "traffic.")) for rule in RULES)


def test_values_of_labels_in_alerts_are_those_that_the_gateway_writes() -> None:
    from equipoise.guard.decision import OUTCOMES
    from equipoise.guard.pipeline import FAIL_MODE

    text = " ".join(expressions())
    assert set(re.findall(r'by="([^"]*)"', text)) == {FAIL_MODE}
    for actions in re.findall(r'action=~"([^"]*)"', text):
        assert set(actions.split("|")) <= set(OUTCOMES)
