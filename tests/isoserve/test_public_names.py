"""``import isoserve``: the names a program uses, each loaded when it is first used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import isoserve

ROOT = Path(__file__).parents[2]


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )


@pytest.mark.parametrize("name", isoserve.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(isoserve, name).__name__ == name
    assert name in dir(isoserve)


def test_type_checkers_see_the_names_that_programs_do() -> None:
    tree = ast.parse(Path(isoserve.__file__).read_text())
    ifs = [node for node in tree.body if isinstance(node, ast.If)]
    (block,) = [node for node in ifs if isinstance(node.test, ast.Name)]  # TYPE_CHECKING
    declared = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert declared == isoserve._HOMES
    assert set(declared) == set(isoserve.__all__)


def test_the_import_is_light_and_judging_needs_no_torch() -> None:
    done = python(
        "import sys, isoserve\n"
        "heavy = ('torch', 'numpy', 'httpx', 'pydantic', 'onnxruntime', 'PIL')\n"
        "print([name for name in heavy if name in sys.modules])\n"
        "from isoserve import AsyncClient, Client, load\n"
        "print('torch' in sys.modules, 'onnx' in sys.modules, 'fastapi' in sys.modules)\n"
        "from isoserve import IsoMax2Head\n"
        "print('torch' in sys.modules)\n"
    )
    assert done.stdout.splitlines() == ["[]", "False False False", "True"], done.stderr


@pytest.mark.parametrize("name", ["Classifier", "IsoMax2Head", "entropic_score", "export", "wrap"])
def test_without_the_train_extra_a_training_name_says_what_to_install(name: str) -> None:
    done = python(f"import sys; sys.modules['torch'] = None\nfrom isoserve import {name}")
    assert done.returncode == 1
    said = f"isoserve.{name} needs torch: pip install 'isoserve[train]'"
    assert done.stderr.splitlines()[-1] == f"ModuleNotFoundError: {said}"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        isoserve.nothing  # noqa: B018
