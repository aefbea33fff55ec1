"""When a server says that requests may come."""

from __future__ import annotations

from pathlib import Path

from tiny_model import write_tiny_model

from isoserve.service.observability.metrics import Metrics
from isoserve.service.repository.repository import Repository
from isoserve.service.repository.versions import ModelRecord
from isoserve.service.settings import Settings


def ready_of(root: Path, default_model: str = "") -> str:
    settings = Settings(repository=root, max_batch=2, default_model=default_model)
    repository = Repository(settings, 1, Metrics())
    assert repository.not_ready == "the models are being loaded"
    repository.scan()
    repository.close()
    return repository.not_ready


def test_it_is_ready_once_requests_that_name_no_model_are_answered(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "b" / "1" / "model.onnx")
    assert ready_of(tmp_path) == ""
    assert ready_of(tmp_path, "b") == ""
    assert ready_of(tmp_path, "c") == (
        "default_model is 'c', which is not in the repository; b would answer by name"
    )


def test_a_first_model_that_does_not_load_takes_the_others_from_nobody_unless_it_was_named(
    tmp_path: Path,
) -> None:
    write_tiny_model(tmp_path / "b" / "1" / "model.onnx")
    (tmp_path / "a" / "1").mkdir(parents=True)
    (tmp_path / "a" / "1" / "model.onnx").write_bytes(b"junk")
    assert ready_of(tmp_path) == ""
    assert ready_of(tmp_path, "a") == (
        "model 'a' has no version that serves; b would answer by name"
    )


def test_while_the_first_model_is_being_loaded_it_is_not_ready(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "b" / "1" / "model.onnx")
    repository = Repository(Settings(repository=tmp_path, max_batch=2), 1, Metrics())
    repository.scan()
    repository.close()
    repository.settled = False
    repository.models["a"] = ModelRecord("a")
    assert repository.not_ready == (
        "model 'a', which answers requests that name none, is being loaded; b would answer by name"
    )
