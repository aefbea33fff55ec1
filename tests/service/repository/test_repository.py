"""Versions on disk: which one serves, what is refused, how one rolls back."""

from __future__ import annotations

import gc
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_model import TinyModel, write_tiny_model

from isoserve.service.errors import Problem
from isoserve.service.inference.model import Model, load_model
from isoserve.service.observability.metrics import Metrics
from isoserve.service.repository.repository import Repository
from isoserve.service.settings import Settings


def repository_of(root: Path) -> Repository:
    repository = Repository(Settings(repository=root, max_batch=2), 1, Metrics())
    repository.scan()
    return repository


def write(root: Path, name: str, version: int, seed: int = 0) -> Path:
    return write_tiny_model(root / name / str(version) / "model.onnx", TinyModel(seed=seed))


def serving(repository: Repository, name: str) -> int | None:
    served = repository.models[name].served
    return served.model.version if served else None


def states(repository: Repository, name: str) -> dict[int, str]:
    return {n: known.state for n, known in sorted(repository.models[name].versions.items())}


def test_the_highest_version_by_number_serves(tmp_path: Path) -> None:
    for version in (2, 9, 10):
        write(tmp_path, "m", version)
    repository = repository_of(tmp_path)
    assert serving(repository, "m") == 10
    assert states(repository, "m") == {2: "available", 9: "available", 10: "serving"}


def test_what_is_not_named_as_a_version_or_a_model_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "m", 1)
    for odd in ("m/latest", "m/007", "m/0", "m/-1", "m/1.part", ".git/1", "no model/1", "empty"):
        (tmp_path / odd).mkdir(parents=True)
    (tmp_path / "README.md").write_text("hello")
    repository = repository_of(tmp_path)
    assert set(repository.models) == {"m"}
    assert states(repository, "m") == {1: "serving"}


def test_a_new_version_takes_over_and_its_removal_rolls_back(tmp_path: Path) -> None:
    write(tmp_path, "m", 1)
    repository = repository_of(tmp_path)
    write(tmp_path, "m", 2)
    repository.scan()
    assert serving(repository, "m") == 2
    shutil.rmtree(tmp_path / "m" / "2")
    repository.scan()
    assert serving(repository, "m") == 1
    assert states(repository, "m") == {1: "serving"}


def test_a_bad_version_is_reported_and_the_old_one_serves_on(tmp_path: Path) -> None:
    write(tmp_path, "m", 1)
    repository = repository_of(tmp_path)
    before = repository.models["m"].served
    bad = tmp_path / "m" / "2" / "model.onnx"
    bad.parent.mkdir()
    bad.write_bytes(b"not a model")
    repository.scan()
    assert repository.models["m"].served is before
    assert states(repository, "m") == {1: "serving", 2: "refused"}
    assert repository.models["m"].versions[2].reason == "not_onnx"
    write(tmp_path, "m", 2)
    repository.scan()
    assert states(repository, "m") == {1: "available", 2: "serving"}


def test_a_refused_file_is_not_tried_again_until_it_changes(tmp_path: Path) -> None:
    bad = tmp_path / "m" / "1" / "model.onnx"
    bad.parent.mkdir(parents=True)
    bad.write_bytes(b"not a model")
    repository = repository_of(tmp_path)
    since = repository.models["m"].versions[1].since
    repository.scan()
    assert repository.models["m"].versions[1].since == since


def test_a_version_directory_that_fills_later_is_loaded_then(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    repository = repository_of(tmp_path)
    assert states(repository, "m") == {1: "refused"}
    assert repository.not_ready
    write(tmp_path, "m", 1)
    repository.scan()
    assert not repository.not_ready


def test_a_serving_file_overwritten_in_place(tmp_path: Path) -> None:
    path = write(tmp_path, "m", 1)
    repository = repository_of(tmp_path)
    before = repository.models["m"].versions[1].sha256
    path.write_bytes(b"oops")
    repository.scan()
    assert serving(repository, "m") == 1
    assert repository.models["m"].versions[1].reason == "not_onnx"
    write(tmp_path, "m", 1, seed=1)
    repository.scan()
    assert repository.models["m"].versions[1].sha256 != before
    assert repository.models["m"].versions[1].reason == ""


def test_unload_rolls_back_and_load_brings_it_again(tmp_path: Path) -> None:
    for version in (1, 2):
        write(tmp_path, "m", version)
    repository = repository_of(tmp_path)
    repository.unload("m", 2)
    assert serving(repository, "m") == 1
    repository.scan()
    assert states(repository, "m") == {1: "serving", 2: "unloaded"}
    repository.unload("m")
    assert serving(repository, "m") is None
    with pytest.raises(Problem) as caught:
        repository.resolve("m", None)
    assert caught.value.status == 503
    repository.load("m")
    assert states(repository, "m") == {1: "available", 2: "serving"}
    for call in (repository.load, repository.unload):
        for arguments in (("x", None), ("m", 3)):
            with pytest.raises(Problem) as caught:
                call(*arguments)
            assert caught.value.status == 404


def test_a_model_that_was_unloaded_stays_so_when_a_version_is_published(tmp_path: Path) -> None:
    write(tmp_path, "m", 1)
    repository = repository_of(tmp_path)
    repository.unload("m")
    write(tmp_path, "m", 2)
    repository.scan()
    assert states(repository, "m") == {1: "unloaded", 2: "unloaded"}
    repository.load("m")
    assert states(repository, "m") == {1: "available", 2: "serving"}
    write(tmp_path, "m", 3)
    repository.scan()
    assert serving(repository, "m") == 3


def test_of_two_versions_at_once_the_bad_one_is_refused_and_the_other_serves(
    tmp_path: Path,
) -> None:
    write(tmp_path, "m", 1)
    repository = repository_of(tmp_path)
    write(tmp_path, "m", 2)
    write(tmp_path, "m", 3).write_bytes(b"not a model")
    repository.scan()
    assert states(repository, "m") == {1: "available", 2: "serving", 3: "refused"}


def test_a_half_written_version_is_loaded_once_it_is_whole(tmp_path: Path) -> None:
    whole = write(tmp_path, "m", 1).read_bytes()
    repository = repository_of(tmp_path)
    half = tmp_path / "m" / "2" / "model.onnx"
    half.parent.mkdir()
    for share in (0.0, 0.5, 0.9, 0.999):
        half.write_bytes(whole[: int(share * len(whole))])
        repository.scan()
        assert states(repository, "m") == {1: "serving", 2: "refused"}
    half.write_bytes(whole)
    repository.scan()
    assert states(repository, "m") == {1: "available", 2: "serving"}


def test_a_version_may_be_a_link_to_a_folder_and_a_dangling_one_is_passed_over(
    tmp_path: Path,
) -> None:
    write(tmp_path / "store", "net", 7)
    root = tmp_path / "root"
    write(root, "m", 1)
    (root / "m" / "2").symlink_to(tmp_path / "store" / "net" / "7")
    (root / "m" / "3").symlink_to(tmp_path / "nowhere")
    assert states(repository_of(root), "m") == {1: "available", 2: "serving"}


def test_a_folder_that_cannot_be_read_holds_up_no_other_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b"):
        write(tmp_path, name, 1)
    repository = repository_of(tmp_path)
    looked_through = Path.iterdir

    def iterdir(folder: Path) -> Iterator[Path]:
        if folder.name == "a":
            raise PermissionError(13, "Permission denied")
        return looked_through(folder)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", iterdir)
        write(tmp_path, "b", 2)
        for _ in range(2):
            repository.scan()
        assert (serving(repository, "a"), serving(repository, "b")) == (1, 2)
        assert caplog.text.count("the folder of a cannot be read: Permission denied") == 1
    write(tmp_path, "a", 2)
    repository.scan()
    assert serving(repository, "a") == 2


def test_a_file_that_fails_in_an_unforeseen_way_is_refused_and_the_other_models_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write(tmp_path, name, 1)

    def load(name: str, *given: Any) -> Model:
        if name == "a":
            raise MemoryError
        return load_model(name, *given)

    monkeypatch.setattr("isoserve.service.inference.model.load_model", load)
    repository = repository_of(tmp_path)
    assert serving(repository, "b") == 1
    assert states(repository, "a") == {1: "refused"}
    known = repository.models["a"].versions[1]
    assert known.reason == "failed"
    assert "MemoryError" in known.detail


def test_several_models_serve_beside_each_other_and_leave_one_by_one(tmp_path: Path) -> None:
    write(tmp_path, "b", 1)
    write(tmp_path, "a", 5)
    repository = repository_of(tmp_path)
    assert repository.resolve("b", None).model.version == 1
    assert repository.resolve(None, None).model.name == "a"
    shutil.rmtree(tmp_path / "a")
    repository.scan()
    assert repository.resolve(None, None).model.name == "b"
    with pytest.raises(Problem) as caught:
        repository.resolve("a", None)
    assert caught.value.status == 404


def test_a_single_file_serves_under_its_cards_name(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "some.onnx", TinyModel(name="colours"))
    repository = repository_of(path)
    assert repository.resolve("colours", 1).model.name == "colours"


def test_the_old_versions_memory_is_freed(tmp_path: Path) -> None:
    write(tmp_path, "m", 1)
    repository = repository_of(tmp_path)
    old = weakref.ref(repository.resolve("m", None).model)
    write(tmp_path, "m", 2)
    gc.disable()
    try:
        repository.scan()
        assert old() is None
    finally:
        gc.enable()


def test_a_version_that_left_is_no_longer_announced(tmp_path: Path) -> None:
    write(tmp_path, "m", 1)
    metrics = Metrics()
    repository = Repository(Settings(repository=tmp_path, max_batch=2), 1, metrics)
    repository.scan()
    write(tmp_path, "m", 2)
    repository.scan()
    lines = [
        line
        for line in metrics.exposition().decode().splitlines()
        if line.startswith(("isoserve_model_info{", "isoserve_model_alpha{"))
    ]
    assert len(lines) == 2
    assert all('version="2"' in line for line in lines)
    assert 'isoserve_model_loads_total{outcome="loaded"} 2.0' in metrics.exposition().decode()
