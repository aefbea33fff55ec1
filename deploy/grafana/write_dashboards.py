"""Writes dashboards/model.json and dashboards/service.json.

python deploy/grafana/write_dashboards.py
"""

from __future__ import annotations

import json
from pathlib import Path

import model_dashboard
import service_dashboard

FOLDER = Path(__file__).parent / "dashboards"


def documents() -> dict[str, str]:
    """File name -> JSON."""
    made = {
        "model.json": model_dashboard.document(),
        "service.json": service_dashboard.document(),
    }
    return {
        name: json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        for name, document in made.items()
    }


if __name__ == "__main__":
    for name, text in documents().items():
        (FOLDER / name).write_text(text)
