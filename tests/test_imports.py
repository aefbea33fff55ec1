"""The contracts of ``pyproject.toml`` on who may import whom, by import-linter."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("importlinter", reason="import-linter is missing: pip install 'isoserve[dev]'")

ROOT = Path(__file__).parent.parent
LINT = "import sys; from importlinter.cli import lint_imports;sys.exit(lint_imports(no_cache=True))"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LINT], cwd=folder, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(name="copy")
def _copy(tmp_path: Path) -> Path:
    """The packages alone, to be spoiled."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    ignored = shutil.ignore_patterns("__pycache__", "*.html", "*.js", "*.css", "*.csv")
    shutil.copytree(ROOT / "isoserve", tmp_path / "isoserve", ignore=ignored)
    return tmp_path


def test_imports_run_one_way_and_in_no_circle() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "imported", "contract"),
    [
        ("service/inference/model.py", "isoserve.service.http.body", "The rooms of the service"),
        ("service/utils.py", "isoserve.models.text", "The rooms of the service"),
        ("service/inference/images.py", "torch", "The server and the client"),
        ("service/batching/job.py", "starlette.types", "HTTP stays in its room"),
        ("service/repository/folder.py", "isoserve.service.repository.repository", "No circles"),
        ("training/data.py", "isoserve.service.settings", "Commands use the server"),
    ],
)
def test_an_arrow_up_a_circle_and_a_room_of_no_floor_are_found(
    copy: Path, module: str, imported: str, contract: str
) -> None:
    with (copy / "isoserve" / module).open("a") as file:
        file.write(f"\nimport {imported}\n")
    done = lint(copy)
    assert done.returncode == 1, done.stderr
    broken = [line for line in done.stdout.splitlines() if " BROKEN" in line]
    assert [line for line in broken if line.startswith(contract)], done.stdout
