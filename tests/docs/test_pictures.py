"""The documents' pictures are of today's page and dashboards."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "pictures"
GRAFANA = ROOT / "deploy" / "grafana"


@pytest.mark.parametrize("name", ["page_known", "page_unknown"])
def test_a_picture_of_the_page_is_of_todays(name: str) -> None:
    source = runpy.run_path(str(ROOT / "docs" / "page_pictures.py"))["source_digest"]()
    with Image.open(PICTURES / f"{name}.png") as picture:
        assert picture.info["Source"] == source, "python docs/page_pictures.py takes it anew"


@pytest.mark.parametrize("name", ["model", "service"])
def test_a_picture_of_a_dashboard_is_of_todays(name: str) -> None:
    document = json.loads((GRAFANA / "dashboards" / f"{name}.json").read_text())
    digest = runpy.run_path(str(GRAFANA / "pictures.py"))["dashboard_digest"](document)
    with Image.open(PICTURES / f"dashboard_{name}.png") as picture:
        assert picture.info["Source"] == digest, (
            "python deploy/grafana/draw_dashboards.py draws it anew"
        )
