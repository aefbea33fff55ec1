"""The README names each dependency, links to files that exist, and shows a real answer."""

import json
import re
import runpy
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=;]", requirement)[0] for requirement in requirements}


def _listed(heading: str) -> set[str]:
    table = README.split(heading)[1].split("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:] if "|" in line]
    return {name.strip() for row in rows for name in row.split(",")}


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert _listed("| package | what it is for |") == _names(project["dependencies"])
    assert _listed("| `[train]` | what it is for |") == _names(
        project["optional-dependencies"]["train"]
    )


def test_every_package_of_an_extra_for_serving_has_its_reason() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    rows = dict(re.findall(r"^\| `\[(\w+)\]`: ([^|]+) \|", README, re.MULTILINE))
    assert {name: set(packages.split(", ")) for name, packages in rows.items()} == {
        name: _names(packages) for name, packages in extras.items() if name not in ("train", "dev")
    }


def test_links_lead_to_files() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_every_document_is_linked() -> None:
    operations = (ROOT / "docs" / "operations.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f"docs/{page.name}" in README or page.name in operations, page.name


def test_the_answer_shown_is_a_verdict() -> None:
    shown = README.split("```json\n")[1].split("```")[0]
    answer = json.loads(shown)
    assert answer.keys() == {"id", "model", "version", "prediction", "top_k", "ood"}
    assert answer["ood"]["is_ood"] == (answer["ood"]["p_value"] <= answer["ood"]["alpha"])


def test_the_measured_part_is_what_the_benchmarks_wrote() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "readme_measurements.py"))
    assert page["readme"]() == README, "run: python docs/readme_measurements.py"
    names = ("ood_overhead", "predict_folder", "serving_observability", "serving_overload")
    for name in (*names, "serving_throughput"):
        assert (ROOT / "benchmarks" / "results" / f"{name}.json").exists()
    found = json.loads((ROOT / "benchmarks/results/serving_throughput.json").read_text())
    for network in found["networks"].values():
        load = network["servers"]["isoserve"]["64"]
        assert f"| {load['ratio']:.2f} | {load['p99_ms']:.0f} |" in README
