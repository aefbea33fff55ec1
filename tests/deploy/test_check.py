"""deploy/check: what an absent tool does to the tests that want it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from deploy_tools import ROOT, tool


def test_an_absent_tool_skips_a_test_and_fails_it_where_everything_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CHECK_EVERYTHING", raising=False)
    with pytest.raises(pytest.skip.Exception, match="promtool is not installed"):
        tool("promtool")
    monkeypatch.setenv("CHECK_EVERYTHING", "1")
    with pytest.raises(pytest.fail.Exception, match="deploy/get_tools"):
        tool("promtool")


@pytest.mark.parametrize(
    ("flags", "ci", "asked"),
    [([], "", ""), (["--strict"], "", "1"), ([], "true", "1"), ([], "false", "")],
)
def test_strict_or_ci_asks_for_everything(
    tmp_path: Path, flags: list[str], ci: str, asked: str
) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "asked=$CHECK_EVERYTHING" "$@"\n')
    python.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if k != "CHECK_EVERYTHING"} | {"CI": ci}
    said = subprocess.run(
        [ROOT / "deploy" / "check", *flags, python],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == f"asked={asked} -m pytest tests/deploy -q\n"


def test_make_calls_it() -> None:
    said = subprocess.run(
        ["make", "--dry-run", "--old-file=.venv/.test", "check-deploy"],
        cwd=ROOT,
        env=os.environ | {"MAKEFLAGS": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "deploy/check  .venv/bin/python" in said.stdout
