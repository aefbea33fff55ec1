"""The dashboards are of Grafana's own types, as the TypeScript compiler reads them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy_tools import DEPLOY, types_of_others

GRAFANA = DEPLOY / "grafana"


def typechecked(folder: Path) -> subprocess.CompletedProcess[str]:
    types_of_others()
    command = [GRAFANA / "typecheck", folder]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_dashboards_are_of_grafanas_types() -> None:
    result = typechecked(GRAFANA / "dashboards")
    assert result.returncode == 0, result.stdout
    assert "2 dashboards" in result.stdout


def test_planted_mistakes_are_found(tmp_path: Path) -> None:
    """One a copy, so that one run of the compiler shows that each is found by itself."""

    def of_kind(document: dict[str, Any], kind: str) -> dict[str, Any]:
        panel: dict[str, Any] = next(p for p in document["panels"] if p["type"] == kind)
        return panel

    mistakes: dict[str, Callable[[dict[str, Any]], Any]] = {
        "document": lambda d: d.update(refresh=30),
        "place": lambda d: d["panels"][0]["gridPos"].update(w="6"),
        "option": lambda d: of_kind(d, "stat")["options"].update(colorMode="backround"),
        "unknown": lambda d: of_kind(d, "bargauge")["options"].update(minWidth=8),
        "field": lambda d: of_kind(d, "timeseries")["fieldConfig"]["defaults"]["custom"].update(
            showPoints="no"
        ),
    }
    for name, plant in mistakes.items():
        document = json.loads((GRAFANA / "dashboards" / "model.json").read_text())
        plant(document)
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    result = typechecked(tmp_path)
    assert result.returncode != 0
    assert {line.split(".ts")[0] for line in result.stdout.splitlines() if ".ts(" in line} == set(
        mistakes
    )
