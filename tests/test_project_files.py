"""What the next person works with: the workflow, the linters before a commit, the citation."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest
import yaml
from deploy_tools import ROOT, run_tool

WORKFLOW = ROOT / ".github" / "workflows" / "tests.yml"
FOLDERS = ("benchmarks", "deploy", "docs", "isoserve", "models", "service", "tests", "training")
MOST_LINES = 320
MAKEFILE = (ROOT / "Makefile").read_text()


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("vendor.github-workflows", WORKFLOW),
        ("vendor.citation-file-format", ROOT / "CITATION.cff"),
    ],
)
def test_it_keeps_its_schema(schema: str, path: Path) -> None:
    done = run_tool("check-jsonschema", "--builtin-schema", schema, path)
    assert done.returncode == 0, done.stdout


def test_the_workflow_runs_what_the_checks_here_run() -> None:
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert ".ci/run" in commands
    assert "make test-${{ matrix.end }}" in commands
    for end in jobs["ranges"]["strategy"]["matrix"]["end"]:
        assert re.search(rf"^test-{end}:", MAKEFILE, re.MULTILINE)
    supported = set(re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text()))
    assert set(jobs["all"]["strategy"]["matrix"]["python"]) == supported


def test_the_linters_before_a_commit_are_those_of_make_lint() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    before_commit = {hook["entry"].replace(" --fix", "") for hook in hooks}
    lint = MAKEFILE.split("\nlint:")[1].split("\n\n")[0]
    commands = re.findall(r"\$\(bin\)/(.+)", lint)
    assert before_commit == {f".venv/bin/{each.replace(' --check', '')}" for each in commands}


def test_the_version_is_the_same_everywhere() -> None:
    version = importlib.metadata.version("isoserve")
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert f"\n## {version}\n" in (ROOT / "CHANGELOG.md").read_text()


def test_no_file_is_longer_than_three_screens() -> None:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in files}
    assert len(lengths) > 400
    assert {path: lines for path, lines in lengths.items() if lines > MOST_LINES} == {}


def test_the_top_of_the_service_has_at_most_twenty_entries() -> None:
    entries = {path.name for path in (ROOT / "service").iterdir()} - {"__pycache__"}
    assert len(entries) <= 20, sorted(entries)
