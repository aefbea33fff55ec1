"""What a server imports, and when: the process that tries a model starts before the engines are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from tiny_model import write_tiny_model

from isoserve.commands.serve import _begin_to_load
from isoserve.service.repository.loader import ModelLoader
from isoserve.service.settings import Settings

ENGINES = {"numpy", "onnxruntime", "PIL", "openvino"}
WEB = {"fastapi", "starlette", "uvicorn", "prometheus_client", "grpc"}
OF_OTHERS = {
    *("torch", "torchvision", "onnx", "scipy", "sklearn", "matplotlib", "pandas", "pyarrow"),
    *("fsspec", "boto3", "sqlalchemy", "psycopg", "model_signing", "cryptography", "sigstore"),
    *("httpx", "requests", "ray", "openvino", "grpc", "pytest"),
}


def imported_by(module: str) -> set[str]:
    """The top-level modules of a fresh interpreter that has imported this one."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    ("module", "needless"),
    [
        # Until the process that tries the model has started.
        ("isoserve.commands.serve", ENGINES | WEB | OF_OTHERS),
        # That process itself: it runs one network, and reads no image and no setting.
        ("isoserve.service.repository.load_check", {"PIL", "pydantic_settings"} | WEB | OF_OTHERS),
        # All that serves, without the extras that were not asked for.
        ("isoserve.service.server", OF_OTHERS),
    ],
)
def test_a_server_imports_nothing_needless(module: str, needless: set[str]) -> None:
    assert not imported_by(module) & needless


class Loader:
    """Remembers what it was asked to try."""

    def __init__(self) -> None:
        self.asked: set[Path] = set()

    def tried(self, path: Path) -> None:
        self.asked.add(path)


def begun(root: Path, workers: int = 1) -> set[Path]:
    """The files that are being tried before anything else is imported."""
    loader = Loader()
    _begin_to_load(Settings(repository=root, workers=workers), cast("ModelLoader", loader))
    return loader.asked


def test_the_newest_version_of_each_model_is_tried_at_once(tmp_path: Path) -> None:
    for name, version in (("cats", 1), ("cats", 12), ("cats", 3), ("dogs", 2)):
        write_tiny_model(tmp_path / name / str(version) / "model.onnx")
    (tmp_path / "empty").mkdir()
    newest = {tmp_path / "cats" / "12" / "model.onnx", tmp_path / "dogs" / "2" / "model.onnx"}
    assert begun(tmp_path) == newest
    assert begun(tmp_path, workers=2) == newest  # once for all workers
    assert begun(tmp_path / "dogs" / "2" / "model.onnx") == {tmp_path / "dogs/2/model.onnx"}
    assert begun(tmp_path / "nothing") == set()
