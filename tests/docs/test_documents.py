"""The documents against the program: settings, routes, commands, links, Python examples."""

from __future__ import annotations

import importlib
import json
import re
import runpy
import shlex
import tomllib
from pathlib import Path

import click
import pytest
from docs_pages import DOCS, ROOT, blocks, links, local_target, pages

from isoserve.cli import COMMANDS
from isoserve.commands.options import flag
from isoserve.service.app import create_app
from isoserve.service.errors import Problem
from isoserve.service.settings import ENV_PREFIX, Settings

PAGES = pages()


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_the_settings_page_is_the_settings_class() -> None:
    expected = runpy.run_path(str(DOCS / "settings_page.py"))["settings_page"]()
    assert (DOCS / "settings.md").read_text() == expected, "run: python docs/settings_page.py"


@pytest.mark.parametrize("setting", Settings.model_fields)
def test_every_setting_is_documented_with_its_sentence(setting: str) -> None:
    text = (DOCS / "settings.md").read_text()
    assert f"## `{flag(setting)}`\n\n{Settings.model_fields[setting].description}\n" in text
    assert f"`{ENV_PREFIX}{setting.upper()}`" in text


def documented_routes() -> set[str]:
    return set(
        re.findall(r"`((?:GET|POST|PUT|DELETE|PATCH) /[^`]*)`", (DOCS / "http.md").read_text())
    )


def served_routes(folder: Path) -> set[str]:
    """Of a server with all its parts on."""
    tokens = folder / "tokens"
    tokens.write_text("a-token-0123456789")
    settings = Settings(
        repository=ROOT,
        review_database=f"sqlite:///{folder / 'review.db'}",
        review_token_file=tokens,
    )
    document = create_app(settings).api.openapi()
    return {
        f"{method.upper()} {path}"
        for path, operations in document["paths"].items()
        for method in operations
    }


def test_every_route_of_the_openapi_document_is_documented_and_no_other(
    tmp_path: Path,
) -> None:
    served = served_routes(tmp_path)
    assert served - documented_routes() == set()
    assert documented_routes() - served == set()


def test_every_query_parameter_of_predict_is_documented() -> None:
    document = create_app(Settings(repository=ROOT)).api.openapi()
    text = (DOCS / "http.md").read_text()
    for parameter in document["paths"]["/v1/predict"]["post"]["parameters"]:
        assert f"| `{parameter['name']}` |" in text


def test_every_reason_of_an_image_that_is_refused_is_documented() -> None:
    from isoserve.service.inference.images import Reason

    text = (DOCS / "http.md").read_text()
    for reason in [*Reason, "queue_full", "no_such_model", "bad_parameter"]:
        assert f"`{reason}`" in text
    assert set(Problem(400, "a", "b").as_dict("c")) == set(
        re.findall(r'"(\w+)":', blocks(DOCS / "http.md", "json")[1])
    )


def commands(page: Path) -> list[list[str]]:
    """Every ``isoserve COMMAND ...`` of the page's shell blocks, as words."""
    found = []
    for block in blocks(page, "sh"):
        shell = re.sub(r"<<'(\w+)'\n.*?^\1$", "", block, flags=re.MULTILINE | re.DOTALL)
        for line in shell.replace("\\\n", " ").splitlines():
            words = shlex.split(line.split("|")[-1 if "| isoserve" in line else 0], comments=True)
            start = next((place for place, word in enumerate(words) if word == "isoserve"), None)
            if start is not None and start + 1 < len(words) and line[0] != "_":
                found.append(words[start + 1 :])
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_commands_shown_have_the_options_shown(page: Path) -> None:
    for command, *words in commands(page):
        if command.startswith("-"):
            continue
        module, attribute = COMMANDS[command][0].split(":")
        found = getattr(importlib.import_module(module), attribute)
        if isinstance(found, click.Group):
            found = found.commands[words[0]]
        options = {
            option
            for parameter in found.params
            if isinstance(parameter, click.Option)
            for option in (*parameter.opts, *parameter.secondary_opts)
        }
        given = {word.split("=")[0] for word in words if re.fullmatch(r"--[a-z].*", word)}
        assert given <= options | {"--help"}, f"{name(page)}: isoserve {command}"


@pytest.mark.parametrize("page", [*PAGES, *sorted(ROOT.glob("[C-S]*.md"))], ids=name)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    for link in links(page):
        target = local_target(page, link)
        assert target is None or target.exists(), f"{name(page)} links to {link}"


def test_the_measurements_are_what_the_benchmarks_wrote() -> None:
    expected = runpy.run_path(str(DOCS / "measurements_page.py"))["measurements_page"]()
    text = (DOCS / "measurements.md").read_text()
    assert text == expected, "run: python docs/measurements_page.py"
    found = json.loads((ROOT / "benchmarks/results/serving_throughput.json").read_text())
    for network in found["networks"].values():
        load = network["servers"]["isoserve"]["64"]
        assert f"| {load['ratio']:.2f} | {load['p99_ms']:.0f} |" in text


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEPENDENCIES = (DOCS / "dependencies.md").read_text()


def packages(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=;]", requirement)[0] for requirement in requirements}


def listed(heading: str) -> set[str]:
    table = DEPENDENCIES.split(heading)[1].split("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:] if "|" in line]
    return {package.strip() for row in rows for package in row.split(",")}


def test_every_dependency_has_its_reason() -> None:
    extras = PROJECT["optional-dependencies"]
    assert listed("| package | what it is for |") == packages(PROJECT["dependencies"])
    assert listed("| `[train]` | what it is for |") == packages(extras["train"])


def test_every_package_of_another_extra_has_its_reason() -> None:
    rows = dict(re.findall(r"^\| `\[(\w+)\]`: ([^|]+) \|", DEPENDENCIES, re.MULTILINE))
    assert {name: set(row.split(", ")) for name, row in rows.items()} == {
        name: packages(wanted)
        for name, wanted in PROJECT["optional-dependencies"].items()
        if name not in ("train", "dev")
    }


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_examples_compile_and_import_what_exists(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, name(page), "exec")
        for module, names in re.findall(
            r"^from (isoserve[\w.]*) import (.+)$", block, re.MULTILINE
        ):
            for each in names.split(","):
                assert hasattr(importlib.import_module(module), each.strip())
