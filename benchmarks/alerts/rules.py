"""Prometheus rule files run over simulated counters: which alerts fire at which step."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from benchmarks.alerts.promql import Evaluator, Vector, labels
from benchmarks.alerts.traffic import STEP_SECONDS

RULE_FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus" / "rules"
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Rule:
    """A recording rule, or an alert with how long its condition must hold."""

    name: str
    expression: str
    is_alert: bool
    labels: dict[str, str]
    hold_seconds: float


@dataclass(frozen=True)
class Firing:
    """One alert with one set of labels: bool [T], true where it fires."""

    name: str
    severity: str
    active: NDArray[np.bool_]

    def episodes(self) -> int:
        """How often it began to fire."""
        return int(
            (self.active & ~np.roll(self.active, 1)).sum() - (self.active[-1] & self.active[0])
        )


def model_rules() -> list[Rule]:
    """The rules on verdicts, in the order in which Prometheus evaluates them.

    The alerts that need no statistics (a refused version, no model) are left out.
    """
    found = [
        rule for name in ("model.yml", "model_alerts.yml") for rule in _read(RULE_FOLDER / name)
    ]
    return [rule for rule in found if "isoserve:" in rule.expression or not rule.is_alert]


def run(rules: list[Rule], counters: dict[str, Vector], steps: int) -> list[Firing]:
    """Every alert that fires at least once."""
    evaluator = Evaluator(steps, STEP_SECONDS)
    for name, vector in counters.items():
        evaluator.store(name, vector)
    firings = []
    for rule in rules:
        vector = evaluator.evaluate(rule.expression)
        if not rule.is_alert:
            extra = rule.labels.items()
            evaluator.store(
                rule.name,
                {labels(**(dict(key) | dict(extra))): series for key, series in vector.items()},
            )
            continue
        for series in vector.values():
            active = held(~np.isnan(series), rule.hold_seconds)
            if active.any():
                firings.append(Firing(rule.name, rule.labels["severity"], active))
    return firings


def held(condition: NDArray[np.bool_], seconds: float) -> NDArray[np.bool_]:
    """True where the condition has been true for that long, as Prometheus' ``for`` counts."""
    index = np.arange(condition.size)
    last_false = np.maximum.accumulate(np.where(condition, -1, index))
    began = last_false + 1
    held_for: NDArray[np.bool_] = condition & ((index - began) * STEP_SECONDS >= seconds)
    return held_for


def _read(path: Path) -> list[Rule]:
    groups = yaml.safe_load(path.read_text())["groups"]
    return [
        Rule(
            name=rule.get("record") or rule["alert"],
            expression=rule["expr"],
            is_alert="alert" in rule,
            labels=rule.get("labels", {}),
            hold_seconds=_seconds(rule.get("for", "0s")),
        )
        for group in groups
        for rule in group["rules"]
    ]


def _seconds(duration: str) -> float:
    return sum(int(n) * UNITS[unit] for n, unit in re.findall(r"(\d+)([smhd])", duration))
