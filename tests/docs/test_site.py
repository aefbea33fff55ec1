"""The documentation site: built strictly, so that a broken link or a page without a place fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from docs_pages import ROOT


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", site],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_site_builds_with_the_reference_from_the_docstrings(tmp_path: Path) -> None:
    done = build(ROOT / "mkdocs.yml", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "I don't know" in (tmp_path / "index.html").read_text()
    judging = (tmp_path / "api" / "judging" / "index.html").read_text()
    assert "The verdict on one image, or on each of several." in judging
    assert "isoserve.local_model.LocalModel.predict" in judging
    training = (tmp_path / "api" / "training" / "index.html").read_text()
    assert "Write a trained network as one file that serves anywhere" in training
    assert ":class:<code>" not in judging + training


def test_a_broken_link_and_a_page_without_a_place_fail(tmp_path: Path) -> None:
    config = tmp_path / "mkdocs.yml"
    config.write_text(f"INHERIT: {ROOT / 'mkdocs.yml'}\nhooks: []\nnav: [index.md]\n")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("[gone](nowhere.md) and [gone](index.md#nowhere)\n")
    (tmp_path / "docs" / "homeless.md").write_text("In no menu.\n")
    done = build(config, tmp_path / "site")
    assert done.returncode == 1
    for warned in ("nowhere.md", "#nowhere", "homeless.md"):
        assert warned in done.stderr
