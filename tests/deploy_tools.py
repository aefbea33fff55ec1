"""The programs that read what we deploy.

A test that needs one that is absent is skipped, or fails where CHECK_EVERYTHING is set.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "rules"


def tool(name: str) -> str:
    """Path of a program beside this Python or on the path."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which(name, path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    if found is None:
        _give_up(f"{name} is not installed; deploy/get_tools installs it or says how")
        raise AssertionError
    return found


def types_of_others() -> None:
    """Skips or fails where the types of dashboards and custom objects were not fetched."""
    if not (DEPLOY.parent / "build" / "deploy-tools" / "got").exists():
        _give_up("types of dashboards and custom objects are absent; deploy/get_tools gets them")


def package_of_npm(name: str) -> Path:
    """The folder of an npm package that deploy/get_tools fetched."""
    found = ROOT / "build" / "deploy-tools" / "node_modules" / name
    if not found.is_dir():
        _give_up(f"npm's {name} is absent; deploy/get_tools gets it")
    return found


def _give_up(reason: str) -> None:
    (pytest.fail if os.environ.get("CHECK_EVERYTHING") else pytest.skip)(reason)


def run_tool(name: str, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; its exit status is the caller's to look at."""
    command = [tool(name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def rules() -> list[dict[str, Any]]:
    """Every rule, recording or alerting, in the order of files and groups."""
    return [
        rule
        for path in sorted(RULES.glob("*.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


def alerts() -> list[dict[str, Any]]:
    """The alerting rules."""
    return [rule for rule in rules() if "alert" in rule]
