"""The simulation behind the false-alarm table: its PromQL is Prometheus', its traffic is true."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from deploy_tools import RULES, run_tool
from scipy.stats import beta

from benchmarks.alerts.promql import Evaluator, Labels, Vector, labels
from benchmarks.alerts.rules import held, model_rules, run
from benchmarks.alerts.traffic import STEP_SECONDS, Traffic

COMPARED = (
    "isoserve:rejected:lower",
    "isoserve:rejected:limit",
    "isoserve:p_value:kolmogorov",
    "isoserve:p_value:kolmogorov_limit",
    "isoserve:p_value:psi",
    "isoserve:p_value:psi_limit",
    "isoserve:p_value_uniform:share",
    "isoserve:class_rejected:lower",
    "isoserve:class_rejected:limit",
    "isoserve:class_mix:share",
    "isoserve:class_mix:psi",
    "isoserve:class_mix:psi_limit",
)
AN_HOUR = int(3600 / STEP_SECONDS)


def stored_series(counters: dict[str, Vector], steps: int) -> dict[str, Vector]:
    """What the recording rules make of the counters, by our evaluator."""
    evaluator = Evaluator(steps, STEP_SECONDS)
    for name, vector in counters.items():
        evaluator.store(name, vector)
    for rule in model_rules():
        if not rule.is_alert:
            made = evaluator.evaluate(rule.expression)
            extra = rule.labels
            evaluator.store(
                rule.name, {labels(**(dict(key) | extra)): each for key, each in made.items()}
            )
    return evaluator.stored


def test_our_promql_gives_the_values_that_prometheus_gives(tmp_path: Path) -> None:
    steps = 32 * AN_HOUR
    traffic = Traffic(0.5, steps, foreign_share=0.2, foreign_from=28 * AN_HOUR)
    counters = traffic.counters(np.random.default_rng(5))
    at = 31 * AN_HOUR
    ours = stored_series(counters, steps)
    every = 10
    document = {
        "rule_files": [str(RULES / "model.yml")],
        "evaluation_interval": "15m",
        # Else in any order, and what one group recorded 15 minutes ago is stale for the next.
        "group_eval_order": [group["name"] for group in _groups()],
        "tests": [
            {
                "interval": f"{int(STEP_SECONDS) * every}s",
                "input_series": [
                    {"series": f"{name}{{{_matchers(key)}}}", "values": _values(series[::every])}
                    for name, vector in counters.items()
                    for key, series in vector.items()
                ],
                "promql_expr_test": [
                    {
                        "expr": name,
                        "eval_time": "31h",
                        "exp_samples": [{"labels": "none", "value": 0}],
                    }
                    for name in COMPARED
                ],
            }
        ],
    }
    test = tmp_path / "test.yml"
    test.write_text(yaml.safe_dump(document))
    said = run_tool("promtool", "test", "rules", test)
    version = run_tool("promtool", "--version")
    # From version 3 on a window leaves out its first sample and extrapolates instead.
    tolerance = 1e-6 if "version 2." in version.stdout + version.stderr else 0.2
    theirs = _samples(said.stdout + said.stderr)
    for name in COMPARED:
        expected = {key: each[at] for key, each in ours[name].items() if not np.isnan(each[at])}
        assert expected, name
        assert expected == pytest.approx(theirs[name], rel=tolerance, abs=tolerance), name


def test_in_distribution_traffic_is_rejected_as_often_as_its_calibration_makes_it() -> None:
    shares = [
        sum(Traffic(1.0, 10)._in_distribution_shares(np.random.default_rng(seed))[:3])
        for seed in range(2000)
    ]
    k, m = 250, 5000
    assert np.mean(shares) == pytest.approx(beta.mean(k, m + 1 - k), abs=3e-4)
    assert np.std(shares) == pytest.approx(beta.std(k, m + 1 - k), rel=0.1)


def test_foreign_traffic_has_the_recall_it_was_given() -> None:
    traffic = Traffic(10.0, 2 * AN_HOUR, foreign_share=1.0, recall=0.7)
    counters = traffic.counters(np.random.default_rng(0))["isoserve_images_total"]
    totals = {dict(key)["verdict"]: series[-1] for key, series in counters.items()}
    assert totals["ood"] / sum(totals.values()) == pytest.approx(0.7, abs=0.01)


def test_a_condition_must_hold_as_long_as_prometheus_asks() -> None:
    condition = np.array([False, True, True, True, False, True, True])
    assert held(condition, 2 * STEP_SECONDS).tolist() == [False] * 3 + [True] + [False] * 3
    assert held(condition, 0).tolist() == condition.tolist()


@pytest.mark.parametrize("rate", [0.1, 1.0, 10.0])
def test_an_in_distribution_week_is_silent(rate: float) -> None:
    steps = 7 * 24 * AN_HOUR
    counters = Traffic(rate, steps).counters(np.random.default_rng(1))
    assert run(model_rules(), counters, steps) == []


def test_half_foreign_traffic_pages_within_twenty_minutes() -> None:
    steps, begin = 4 * AN_HOUR, 2 * AN_HOUR
    traffic = Traffic(1.0, steps, foreign_share=0.5, foreign_from=begin)
    firings = run(model_rules(), traffic.counters(np.random.default_rng(1)), steps)
    pages = [int(np.argmax(each.active)) - begin for each in firings if each.severity == "page"]
    assert 7 * 60 / STEP_SECONDS < min(pages) < 20 * 60 / STEP_SECONDS


def _groups() -> list[dict[str, object]]:
    groups: list[dict[str, object]] = yaml.safe_load((RULES / "model.yml").read_text())["groups"]
    return groups


def _matchers(key: Labels) -> str:
    return ", ".join(f'{name}="{value}"' for name, value in sorted(key))


def _values(series: np.ndarray) -> str:
    return " ".join(f"{value:g}" if value % 1 else str(int(value)) for value in series)


def _samples(said: str) -> dict[str, dict[Labels, float]]:
    """What promtool reports as got, by expression."""
    found: dict[str, dict[Labels, float]] = {}
    for name, got in re.findall(r'expr: "([^"]+)".*?got: ?(.*?)(?=\n|$)', said, re.DOTALL):
        found[name] = {
            labels(**dict(re.findall(r'(\w+)="([^"]*)"', inside))): float(value)
            for inside, value in re.findall(r"\{(.*?)\} ([-+.\dEe]+)", got)
        }
    for vector in found.values():
        for key in [*vector]:
            vector[frozenset(pair for pair in key if pair[0] != "__name__")] = vector.pop(key)
    return found
