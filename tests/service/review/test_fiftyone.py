"""The queue to FiftyOne and back: its image classification dataset, read strictly."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from click.testing import CliRunner
from image_bytes import encode
from pydantic import BaseModel, ConfigDict, FiniteFloat
from tiny_model import TinyModel, write_tiny_model

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install 'isoserve[review]'")

from isoserve.cli import cli
from isoserve.models.errors import InputError
from isoserve.service.review.export import export_images
from isoserve.service.review.fiftyone_dataset import export_dataset
from isoserve.service.review.labels_file import import_labels
from isoserve.service.review.store import KeptImage, ReviewStore

# FiftyOne itself needs a MongoDB server; this is the layout that its documentation gives for
# FiftyOneImageClassificationDataset, with confidence and attributes.


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Classification(Strict):
    label: int
    confidence: FiniteFloat
    attributes: dict[str, str | float | bool]


class LabelsFile(Strict):
    classes: list[str]
    labels: dict[str, Classification]


P_VALUES = (0.03, 0.01, 0.05, 0.02, 0.04)


def kept(number: int, p_value: float, label: Literal["red", "green"] = "red") -> KeptImage:
    noise = np.random.default_rng(number).integers(0, 255, (16, 16, 3))
    image = encode("PNG", noise.astype(np.uint8))
    return KeptImage(
        hashlib.sha256(image).hexdigest(),
        datetime(2026, 1, 2, tzinfo=UTC),
        *("tiny", 3, label, 0.5, p_value, -1.0, True, image),
    )


@pytest.fixture
def database(tmp_path: Path) -> str:
    """Five images, their p-values out of order."""
    url = f"sqlite:///{tmp_path / 'review.db'}"
    store = ReviewStore(url)
    store.keep([kept(n, p) for n, p in enumerate(P_VALUES)])
    store.close()
    return url


def exported(store: ReviewStore, folder: Path) -> list[str]:
    """The names of the samples, as FiftyOne orders them."""
    export_dataset(store, folder)
    return sorted(json.loads((folder / "labels.json").read_text())["labels"])


def labelled(names: dict[str, Any], path: Path, classes: list[str] | None = None) -> Path:
    """What FiftyOne writes of samples that were labelled."""
    path.write_text(json.dumps({"classes": classes, "labels": names}))
    return path


def test_the_dataset_has_fiftyones_layout_and_begins_with_what_is_known_least(
    database: str, tmp_path: Path
) -> None:
    model = write_tiny_model(tmp_path / "model.onnx", TinyModel())
    target = tmp_path / "dataset"
    words = ["review", "export", str(target), "--database", database, "--format", "fiftyone"]
    done = CliRunner().invoke(cli, [*words, "--model", str(model)])
    assert done.exit_code == 0, done.output
    assert "5 images" in done.output
    found = LabelsFile.model_validate_json((target / "labels.json").read_bytes(), strict=True)
    assert found.classes == [*TinyModel().classes]
    in_order = [found.labels[name] for name in sorted(found.labels)]
    assert [each.attributes["p_value"] for each in in_order] == sorted(P_VALUES)
    assert {found.classes[each.label] for each in in_order} == {"red"}
    assert in_order[0].attributes["model"] == "tiny/3"
    images = {path.stem: path for path in (target / "data").iterdir()}
    assert images.keys() == found.labels.keys()
    for name, path in images.items():
        assert name.endswith(hashlib.sha256(path.read_bytes()).hexdigest())


def test_labels_come_back_as_names_numbers_and_objects_and_become_an_image_folder(
    database: str, tmp_path: Path
) -> None:
    store = ReviewStore(database)
    first, second, third, fourth, fifth = exported(store, tmp_path / "dataset")
    labels = {
        first: "red",
        second: 1,
        third: {"label": "hat", "confidence": None, "attributes": {}},
        fourth: "junk",
        fifth: None,
    }
    path = labelled(labels, tmp_path / "labels.json", ["red", "green"])
    done = CliRunner().invoke(cli, ["review", "import", str(path), "--database", database])
    assert done.exit_code == 0, done.output
    counts = export_images(store, tmp_path / "next")
    assert dict(counts) == {"red": 1, "green": 1, "hat": 1}
    digest = second.partition("-")[2]
    assert [path.stem for path in (tmp_path / "next/green").iterdir()] == [
        f"reviewed-{digest[:20]}"
    ]
    assert "of no class: junk" in done.output
    assert "without a label" in done.output
    assert exported(store, tmp_path / "again") == [f"0000000-{fifth.partition('-')[2]}"]
    store.close()


def test_a_folder_absolute_paths_and_several_labels_are_read(database: str, tmp_path: Path) -> None:
    store = ReviewStore(database)
    first, second, *_ = exported(store, tmp_path / "dataset")
    (tmp_path / "labelled").mkdir()
    labels = {f"/there/{first}.png": ["red"], second: ["red", "green"], "a" * 64: "red"}
    labelled(labels, tmp_path / "labelled/labels.json")
    found = import_labels(store, tmp_path / "labelled")
    assert (found.labelled, found.disagreeing, found.absent) == ({"red": 1}, 1, 1)
    store.close()


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"IMG_1": "red"}, "'IMG_1' is none of the images"),
        ({"0000000-" + "a" * 64: 2}, "label 2"),
        ({"0000000-" + "a" * 64: True}, "label True"),
        ({"0000000-" + "a" * 64: {"confidence": 1}}, "label None"),
        ({"0000000-" + "a" * 64: "../up"}, "can name a folder"),
        (["red"], "FiftyOneImageClassificationDataset"),
    ],
)
def test_what_fiftyone_does_not_write_is_refused_and_marks_nothing(
    database: str, tmp_path: Path, labels: Any, said: str
) -> None:
    store = ReviewStore(database)
    names = exported(store, tmp_path / "dataset")
    if isinstance(labels, dict):
        labels = {names[0]: "red", **labels}
    with pytest.raises(InputError, match="labels.json") as refused:
        import_labels(store, labelled(labels, tmp_path / "labels.json", ["red", "green"]))
    assert said in str(refused.value)
    assert len(exported(store, tmp_path / "again")) == len(P_VALUES)
    store.close()
