"""The README: short, readable outside the repository, with a real answer and real numbers."""

import json
import re
import runpy

from docs_pages import DOCS, ROOT, links

README = (ROOT / "README.md").read_text()


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 120
    assert README.count("![") <= 4  # the page and at most three charts


def test_the_two_commands_are_on_the_first_screen() -> None:
    first_screen = "\n".join(README.splitlines()[:18])
    assert "make serve" in first_screen
    assert "make test" in first_screen
    assert "curl --data-binary @photo.jpg localhost:8000/v1/predict" in first_screen


def test_links_work_outside_the_repository() -> None:
    relative = [link for link in links(ROOT / "README.md") if "://" not in link]
    assert relative == []


def test_the_answer_shown_is_a_verdict() -> None:
    shown = README.split("```json\n")[1].split("```")[0]
    answer = json.loads(shown)
    assert answer.keys() == {"id", "model", "version", "prediction", "top_k", "ood"}
    assert answer["ood"]["is_ood"] == (answer["ood"]["p_value"] <= answer["ood"]["alpha"])


def test_the_numbers_are_what_the_benchmarks_wrote() -> None:
    page = runpy.run_path(str(DOCS / "measurements_page.py"))
    assert page["readme"]() == README, "run: python docs/measurements_page.py"
    found = json.loads((ROOT / "benchmarks/results/serving_throughput.json").read_text())
    ratio = found["networks"]["cifar10"]["servers"]["isoserve"]["64"]["ratio"]
    assert re.search(rf"\b{ratio:.2f} at 64 connections", README)
