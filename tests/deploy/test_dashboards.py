"""Grafana's dashboards: written by their script, complete, and of expressions that parse."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from deploy_tools import DEPLOY, ROOT, rules
from prometheus_client.parser import text_string_to_metric_families

from isoserve.service.observability.metrics import Metrics

GRAFANA = DEPLOY / "grafana"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))
DOCUMENTS: dict[str, dict[str, Any]] = {path.name: json.loads(path.read_text()) for path in FILES}
PANELS = [
    pytest.param(document, panel, id=f"{name}:{panel['title']}")
    for name, document in DOCUMENTS.items()
    for panel in document["panels"]
]


def test_the_committed_files_are_what_the_script_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(GRAFANA)
    documents = importlib.import_module("write_dashboards").documents()
    for name in ("write_dashboards", "model_dashboard", "service_dashboard", "panels"):
        sys.modules.pop(name)
    assert documents == {path.name: path.read_text() for path in FILES}


def check_expression(expression: str, variables: set[str]) -> None:
    promql_parser.parse(expression.replace("$__rate_interval", "1m"))
    assert set(re.findall(r"\$(\w+)", expression)) - {"__rate_interval"} <= variables
    # Each series that is selected is one of the chosen job; constants have none.
    for selected in re.findall(
        r"(?:isoserve[:_]\w[\w:]*|process_\w+|\bup|ALERTS)(\{[^}]*\})?", expression
    ):
        constant = "p_value_uniform" in expression and not selected
        assert constant or 'job=~"$job"' in selected, expression
    assert "rate(" not in expression or "[$__rate_interval]" in expression


def check(expression: str, variables: set[str]) -> None:
    check_expression(expression, variables)
    check_series(expression)


def check_series(expression: str) -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    exported = set()
    for family in text_string_to_metric_families(Metrics().exposition().decode()):
        exported |= {family.name, f"{family.name}_total"}
        exported |= {f"{family.name}_{part}" for part in ("bucket", "count", "sum")}
    assert set(re.findall(r"\bisoserve[:_]\w[\w:]*", expression)) <= recorded | exported


@pytest.mark.parametrize(("document", "panel"), PANELS)
def test_a_panel_says_what_it_shows_in_which_unit(
    document: dict[str, Any], panel: dict[str, Any]
) -> None:
    assert panel["title"]
    assert len(panel["description"]) > 20
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "${datasource}"
    titles = [other["title"] for other in document["panels"]]
    assert titles.count(panel["title"]) == 1


@pytest.mark.parametrize(("document", "panel"), PANELS)
def test_an_expression_parses_and_follows_the_chosen_variables(
    document: dict[str, Any], panel: dict[str, Any]
) -> None:
    variables = {variable["name"] for variable in document["templating"]["list"]}
    for target in panel["targets"]:
        check_expression(target["expr"], variables)


@pytest.mark.parametrize(("document", "panel"), PANELS)
def test_an_expression_uses_only_series_that_there_are(
    document: dict[str, Any],  # noqa: ARG001
    panel: dict[str, Any],
) -> None:
    for target in panel["targets"]:
        check_series(target["expr"])


@pytest.mark.parametrize(
    "wrong",
    [
        'sum(rate(isoserve_images_total{job=~"$job"}[$__rate_interval])',
        'sum(rate(isoserve_images_total{job=~"$job"}[5m]))',
        'sum(isoserve_images_total{job=~"$jobs"})',
        'isoserve_images_total{model=~"$model"}',
        'isoserve_imagess_total{job=~"$job"}',
        'isoserve:rejected:part{job=~"$job"}',
    ],
)
def test_a_planted_mistake_in_an_expression_is_found(wrong: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        check(wrong, {"job", "model"})


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_dashboard_fills_its_grid_and_cannot_be_edited(document: dict[str, Any]) -> None:
    assert document["editable"] is False
    places = [panel["gridPos"] for panel in document["panels"]]
    covered = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(covered) == len(set(covered))
    assert len(covered) == 24 * (1 + max(y for _, y in covered))


def test_grafana_is_given_the_dashboards_and_the_data_source_where_compose_puts_them() -> None:
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/isoserve.yml").read_text())
    folder = provider["providers"][0]["options"]["path"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    mounts = dict(mount.split(":")[:2] for mount in compose["volumes"])
    assert mounts["./deploy/grafana/dashboards"] == folder
    home = Path(compose["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert home.name in DOCUMENTS
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
