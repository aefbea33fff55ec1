"""Prometheus' rules and Alertmanager's routes: form, sources of their numbers, runbooks."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml
from deploy_tools import DEPLOY, ROOT, RULES, alerts, rules, run_tool
from prometheus_client.parser import text_string_to_metric_families
from scipy.stats import chi2, kstwobign, norm

from isoserve.service.observability.drift import P_VALUE_BUCKETS
from isoserve.service.observability.metrics import SECONDS_BUCKETS, Metrics

PROMETHEUS = DEPLOY / "prometheus"
NOT_OURS = {"up", "ALERTS"}


def test_promtool_accepts_configuration_and_rules() -> None:
    assert run_tool("promtool", "check", "config", PROMETHEUS / "prometheus.yml").returncode == 0
    result = run_tool(
        "promtool", "check", "rules", "--lint=all", "--lint-fatal", *sorted(RULES.glob("*.yml"))
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", ["model_test.yml", "days_test.yml", "service_test.yml"])
def test_alerts_fire_and_keep_silent_as_their_unit_tests_say(name: str) -> None:
    result = run_tool("promtool", "test", "rules", PROMETHEUS / "tests" / name)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("case", "file", "right", "wrong"),
    [
        ("a short burst", "model_alerts.yml", "for: 7m", "for: 2m"),
        ("half the traffic", "model_alerts.yml", "for: 7m", "for: 40m"),
        ("p-values crowd", "model_alerts.yml", "kolmogorov >= 0.1", "kolmogorov >= 0.5"),
        ("not one rejection", "model_alerts.yml", "rejected:count == 0", "rejected:count < 0"),
        ("low traffic", "model.yml", "alpha >= 5", "alpha >= 0"),
    ],
)
def test_the_unit_tests_find_a_planted_mistake(
    tmp_path: Path, case: str, file: str, right: str, wrong: str
) -> None:
    shutil.copytree(PROMETHEUS, tmp_path / "prometheus")
    test = tmp_path / "prometheus" / "tests" / "model_test.yml"
    document = yaml.safe_load(test.read_text())
    document["tests"] = [t for t in document["tests"] if t["name"].startswith(case)]
    test.write_text(yaml.safe_dump(document))
    broken = tmp_path / "prometheus" / "rules" / file
    assert right in broken.read_text()
    broken.write_text(broken.read_text().replace(right, wrong))
    result = run_tool("promtool", "test", "rules", test)
    assert "FAILED" in result.stdout + result.stderr


def test_promtool_finds_a_planted_syntax_error(tmp_path: Path) -> None:
    broken = tmp_path / "rules.yml"
    broken.write_text(
        (RULES / "model.yml").read_text().replace("sum without (verdict)", "sum whithout (verdict)")
    )
    assert run_tool("promtool", "check", "rules", broken).returncode != 0


def test_promtool_finds_a_planted_mistake_in_the_configuration(tmp_path: Path) -> None:
    shutil.copytree(PROMETHEUS, tmp_path / "prometheus")
    path = tmp_path / "prometheus" / "prometheus.yml"
    path.write_text(path.read_text().replace("scrape_configs:", "scrape_config:"))
    assert run_tool("promtool", "check", "config", path).returncode != 0


def test_promtool_finds_one_rule_written_twice(tmp_path: Path) -> None:
    document = yaml.safe_load((RULES / "model.yml").read_text())
    document["groups"][1]["rules"] *= 2
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump(document))
    assert run_tool("promtool", "check", "rules", path).returncode == 0
    linted = run_tool("promtool", "check", "rules", "--lint=all", "--lint-fatal", path)
    assert linted.returncode != 0


def test_promtool_likes_the_names_of_our_metrics_and_finds_a_planted_mistake() -> None:
    text = Metrics().exposition().decode()
    assert run_tool("promtool", "check", "metrics", input=text).returncode == 0
    wrong = text.replace("isoserve_shed_total", "isoserve_shed")
    assert wrong != text
    assert run_tool("promtool", "check", "metrics", input=wrong).returncode != 0


def test_amtool_accepts_the_routes_and_finds_a_planted_mistake(tmp_path: Path) -> None:
    path = DEPLOY / "alertmanager" / "alertmanager.yml"
    assert run_tool("amtool", "check-config", path).returncode == 0
    broken = tmp_path / "alertmanager.yml"
    broken.write_text(path.read_text().replace("- name: page", "- name: pages"))
    assert run_tool("amtool", "check-config", broken).returncode != 0


@pytest.mark.parametrize(("severity", "receiver"), [("page", "page"), ("ticket", "ticket")])
def test_each_severity_goes_to_its_receiver(severity: str, receiver: str) -> None:
    path = DEPLOY / "alertmanager" / "alertmanager.yml"
    result = run_tool(
        "amtool", "config", "routes", "test", f"--config.file={path}", f"severity={severity}"
    )
    assert result.stdout.strip() == receiver


def test_alertmanager_inhibits_only_alerts_that_there_are() -> None:
    names = {alert["alert"] for alert in alerts()}
    text = (DEPLOY / "alertmanager" / "alertmanager.yml").read_text()
    used = set(re.findall(r"Isoserve\w+", text))
    assert used
    assert used <= names


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_says_what_is_wrong_and_where_to_read_on(alert: dict[str, object]) -> None:
    labels, annotations = alert["labels"], alert["annotations"]
    assert isinstance(labels, dict)
    assert isinstance(annotations, dict)
    assert labels["severity"] in ("page", "ticket")
    assert {"summary", "description", "runbook_url"} <= set(annotations)
    runbook = ROOT / annotations["runbook_url"]
    assert runbook.name == f"{alert['alert']}.md"
    assert {"## Look", "## Do"} <= set(runbook.read_text().splitlines())


def test_a_runbook_is_of_an_alert_and_in_the_index() -> None:
    folder = ROOT / "docs" / "runbooks"
    pages = {path.stem for path in folder.glob("*.md")} - {"README"}
    assert pages == {alert["alert"] for alert in alerts()}
    index = (folder / "README.md").read_text()
    assert set(re.findall(r"\((\w+)\.md\)", index)) == pages


def test_links_between_runbooks_lead_somewhere() -> None:
    for path in (ROOT / "docs" / "runbooks").glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            assert (path.parent / target).resolve().exists(), f"{path.name}: {target}"


def test_every_metric_in_a_rule_is_exported_by_the_service() -> None:
    exported = set()
    for family in text_string_to_metric_families(Metrics().exposition().decode()):
        exported |= {family.name, f"{family.name}_total"}
        exported |= {f"{family.name}_{part}" for part in ("bucket", "count", "sum")}
    used = {name for rule in rules() for name in re.findall(r"\bisoserve_\w+", rule["expr"])}
    assert used
    assert used <= exported


def test_bucket_bounds_in_rules_are_those_the_service_counts_by() -> None:
    uniform = next(r["expr"] for r in rules() if r.get("record") == "isoserve:p_value_uniform:cdf")
    bounds = re.findall(r'vector\(([\d.]+)\), "le", "([\d.]+)"', uniform)
    assert [(float(value), label) for value, label in bounds] == [
        (bound, str(bound)) for bound in P_VALUE_BUCKETS
    ]
    below = re.findall(r'"below", "([\d.]+)"', uniform)
    assert [float(bound) for bound in below] == [*P_VALUE_BUCKETS[:-1]]
    in_seconds = {
        float(le)
        for rule in rules()
        for le in re.findall(r'duration_seconds_bucket{[^}]*le="([^"]+)"', rule["expr"])
    }
    assert in_seconds == {0.25}
    assert in_seconds <= set(SECONDS_BUCKETS)


def test_quantiles_written_into_the_rules_are_right() -> None:
    expressions = {rule.get("record"): rule["expr"] for rule in rules()}
    kolmogorov = expressions["isoserve:p_value:kolmogorov_limit"]
    assert f"{kstwobign.ppf(0.99):.3f} * sqrt(" in kolmogorov
    psi = expressions["isoserve:p_value:psi_limit"]
    assert f"{chi2.ppf(0.99, len(P_VALUE_BUCKETS) - 1):.3f} * (" in psi
    mix = expressions["isoserve:class_mix:psi_limit"]
    assert f"{norm.ppf(0.99):.3f} * sqrt(" in mix
    smoothing = expressions["isoserve:p_value:share"]
    assert f"0.5 * {len(P_VALUE_BUCKETS)})" in smoothing
    # The factors in the alerts: from the 99 % limit to one in a million windows.
    assert pytest.approx(kstwobign.isf(1e-6) / kstwobign.isf(0.01), abs=0.02) == 1.65
    assert chi2.sf(2 * chi2.ppf(0.99, 12), 12) < 1e-6


def test_alert_names_are_in_one_namespace() -> None:
    documents = [yaml.safe_load(path.read_text()) for path in RULES.glob("*.yml")]
    groups = [group["name"] for document in documents for group in document["groups"]]
    assert len(groups) == len(set(groups))
    assert all(re.fullmatch(r"Isoserve[A-Z]\w+", alert["alert"]) for alert in alerts())


def test_the_documents_name_every_metric_of_the_service_with_its_type() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    written = dict(re.findall(r"^\| `(isoserve_\w+)` \| (\w+) \|", text, re.MULTILINE))
    exported = {
        family.name + ("_total" if family.type == "counter" else ""): family.type
        for family in text_string_to_metric_families(Metrics().exposition().decode())
        if family.name.startswith("isoserve_")
    }
    assert written == exported
