"""The queue to Label Studio and back: tasks in its import layout, its JSON export as labels."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest
from image_bytes import encode
from tiny_model import TinyModel, write_tiny_model

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install 'isoserve[review]'")

from isoserve.models.errors import InputError
from isoserve.service.review.label_studio_tasks import TaskOptions, export_tasks
from isoserve.service.review.labels_file import import_labels
from isoserve.service.review.store import Filter, KeptImage, ReviewStore

ROOT = Path(__file__).parents[3]

# The parts of Label Studio's documented "Basic JSON" that tasks with predictions of choices have.
TASKS = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["data", "predictions"],
        "additionalProperties": False,
        "properties": {
            "data": {
                "type": "object",
                "required": ["image"],
                "properties": {"image": {"type": "string", "minLength": 1}},
            },
            "predictions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["result"],
                    "additionalProperties": False,
                    "properties": {
                        "model_version": {"type": "string"},
                        "score": {"type": "number"},
                        "result": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "required": ["id", "from_name", "to_name", "type", "value"],
                                "additionalProperties": False,
                                "properties": {
                                    "id": {"type": "string"},
                                    "from_name": {"type": "string"},
                                    "to_name": {"const": "image"},
                                    "type": {"const": "choices"},
                                    "value": {
                                        "type": "object",
                                        "required": ["choices"],
                                        "additionalProperties": False,
                                        "properties": {
                                            "choices": {
                                                "type": "array",
                                                "minItems": 1,
                                                "items": {"type": "string"},
                                            }
                                        },
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


def kept(number: int, level: int, p_value: float, label: str = "red") -> KeptImage:
    noise = np.random.default_rng(number).integers(0, 30, (16, 16, 3))
    image = encode("PNG", (level + noise).astype(np.uint8))
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
    store.keep([kept(n, 40 * n, p) for n, p in enumerate((0.03, 0.01, 0.05, 0.02, 0.04))])
    store.close()
    return url


def isoserve(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "isoserve", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )


def annotated(task: dict[str, Any], *results: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The task as Label Studio exports it, an annotation for each result."""
    annotations = [
        {"id": n, "result": [result], "was_cancelled": False, "ground_truth": False, **more}
        for n, result in enumerate(results, 1)
    ]
    return {**task, "id": 7, "project": 1, "annotations": annotations}


def choice(name: str, source: str = "class") -> dict[str, Any]:
    value = {"choices": [name]}
    return {"from_name": source, "to_name": "image", "type": "choices", "value": value}


def text(name: str) -> dict[str, Any]:
    value = {"text": [name]}
    return {"from_name": "new_class_name", "to_name": "image", "type": "textarea", "value": value}


def tasks_of(store: ReviewStore, folder: Path) -> list[dict[str, Any]]:
    export_tasks(store, folder)
    return list(json.loads((folder / "tasks.json").read_text()))


def written(path: Path, tasks: Any) -> Path:
    path.write_text(json.dumps(tasks))
    return path


def test_tasks_have_label_studios_layout_and_come_the_least_known_first(
    database: str, tmp_path: Path
) -> None:
    model = write_tiny_model(tmp_path / "model.onnx", TinyModel())
    out = tmp_path / "tasks"
    done = isoserve(
        *("review", "export", out, "--database", database),
        *("--format", "label-studio", "--model", model),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"5 tasks in {out}, what the model knows least first\n"
    tasks = json.loads((out / "tasks.json").read_text())
    jsonschema.validate(tasks, TASKS)
    assert [task["predictions"][0]["score"] for task in tasks] == [0.01, 0.02, 0.03, 0.04, 0.05]
    ids = [task["predictions"][0]["result"][0]["id"] for task in tasks]
    assert len(set(ids)) == 5
    first = tasks[0]
    image = base64.b64decode(first["data"]["image"].removeprefix("data:image/png;base64,"))
    assert hashlib.sha256(image).hexdigest() == first["data"]["sha256"] == kept(1, 40, 0).sha256
    assert first["predictions"][0]["model_version"] == "tiny/3"
    assert first["predictions"][0]["result"][0]["value"] == {"choices": ["red"]}
    interface = ElementTree.fromstring((out / "tasks.xml").read_text())
    offered = [tag.get("value") for tag in interface.findall("Choices[@name='class']/Choice")]
    assert offered == ["red", "green", "blue"]
    names = {tag.get("name") for tag in interface}
    assert {
        part["from_name"] for task in tasks for part in task["predictions"][0]["result"]
    } <= names


def test_label_studios_own_sdk_takes_the_tasks(database: str, tmp_path: Path) -> None:
    interface = pytest.importorskip(
        "label_studio_sdk.label_interface",
        reason="Label Studio's SDK is missing: pip install label-studio-sdk",
    )
    tasks = tasks_of(ReviewStore(database), tmp_path / "tasks")
    config = interface.LabelInterface((tmp_path / "tasks" / "tasks.xml").read_text())
    config.validate()
    for task in tasks:
        assert config.validate_task({"data": task["data"]})
        for prediction in task["predictions"]:
            assert config.validate_prediction(prediction, return_errors=True) == []


def test_image_files_are_called_by_their_prefix(database: str, tmp_path: Path) -> None:
    out = tmp_path / "tasks"
    prefix = "/data/local-files/?d=tasks/images/"
    export_tasks(ReviewStore(database), out, TaskOptions(image_url=prefix))
    for task in json.loads((out / "tasks.json").read_text()):
        name = task["data"]["image"].removeprefix(prefix)
        file = (out / "images" / name).read_bytes()
        assert hashlib.sha256(file).hexdigest() == task["data"]["sha256"]


def test_a_single_file_has_its_interface_beside_it_and_overwrites_nothing(
    database: str, tmp_path: Path
) -> None:
    store, file = ReviewStore(database), tmp_path / "queue.json"
    assert export_tasks(store, file) == 5
    assert (tmp_path / "queue.xml").exists()
    before = file.read_bytes()
    with pytest.raises(InputError, match="has something in it"):
        export_tasks(store, file)
    assert file.read_bytes() == before
    assert not list(tmp_path.glob("*.part"))


def test_choices_new_names_and_junk_come_back_as_marks(database: str, tmp_path: Path) -> None:
    store = ReviewStore(database)
    a, b, c, d, e = tasks_of(store, tmp_path / "tasks")
    export = [
        annotated(a, choice("red"), choice("red")),
        annotated(b, text(" gray ")),
        annotated(c, choice("junk", "junk")),
        annotated(d, choice("red"), choice("blue")),
        annotated(e, choice("red"), was_cancelled=True),
        annotated({"data": {"sha256": "0" * 64}}, choice("red")),
    ]
    done = import_labels(store, written(tmp_path / "export.json", export))
    assert (done.labelled, done.junk) == ({"red": 1, "gray": 1}, 1)
    assert (done.disagreeing, done.unlabelled, done.absent) == (1, 1, 1)
    marks = {row.sha256: (row.mark, row.class_name) for row in store.listed(Filter(), None, 10)}
    assert marks[a["data"]["sha256"]] == ("known_class", "red")
    assert marks[b["data"]["sha256"]] == ("new_class", "gray")
    assert marks[c["data"]["sha256"]] == ("junk", None)
    assert marks[d["data"]["sha256"]] == marks[e["data"]["sha256"]] == (None, None)
    left = tasks_of(store, tmp_path / "again")
    assert [task["data"]["sha256"] for task in left] == [t["data"]["sha256"] for t in (d, e)]
    assert 'value="gray"' in (tmp_path / "again" / "tasks.xml").read_text()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("no json", "not JSON"),
        ('{"a": 1}', "not a list of tasks"),
        (
            '[{"image": "x", "class": "red"}]',
            "task 1 has no list of .*not as JSON-MIN",
        ),
        ('[{"data": {"image": "x"}, "annotations": []}]', "task 1 has no sha256 in its data"),
        ('[{"data": {"sha256": "x"}, "annotations": [7]}]', "task 1 has an annotation that is"),
    ],
)
def test_what_is_no_export_of_these_tasks_is_refused(
    database: str, tmp_path: Path, content: str, reason: str
) -> None:
    (tmp_path / "export.json").write_text(content)
    with pytest.raises(InputError, match=reason):
        import_labels(ReviewStore(database), tmp_path / "export.json")


def test_one_bad_class_name_and_nothing_is_marked(database: str, tmp_path: Path) -> None:
    store = ReviewStore(database)
    first, second, *_ = tasks_of(store, tmp_path / "tasks")
    export = [annotated(first, choice("red")), annotated(second, text("../up"))]
    file = written(tmp_path / "export.json", export)
    done = isoserve("review", "import", file, "--database", database)
    assert done.returncode == 2
    assert "task 2: class '../up' must be 1 to 100 characters that can name a folder" in done.stderr
    assert done.stderr.count("\n") == 1
    assert store.counts()["none"] == 5


def test_an_option_of_the_other_format_is_refused(database: str, tmp_path: Path) -> None:
    done = isoserve(
        *("review", "export", tmp_path / "out", "--database", database, "--image-url", "x")
    )
    assert done.returncode == 2
    assert "--image-url does not go with --format folder" in done.stderr


def test_from_the_queue_over_label_studio_to_a_trained_model(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'review.db'}"
    store = ReviewStore(database)
    levels = {"dark": 10, "light": 200}
    for place, level in enumerate(levels.values()):
        store.keep([kept(100 * place + n, level, 0.001 * n, "dark") for n in range(65)])
    tasks = tasks_of(store, tmp_path / "tasks")
    answers = []
    for task in tasks:
        image = base64.b64decode(task["data"]["image"].partition(",")[2])
        bright = image in {kept(100 + n, 200, 0).image for n in range(65)}
        answers.append(annotated(task, text("light") if bright else choice("dark")))
    file = written(tmp_path / "project-1.json", answers)
    taken = isoserve("review", "import", file, "--database", database)
    assert taken.returncode == 0, taken.stderr
    assert taken.stdout.splitlines() == [
        "      65  dark",
        "      65  light",
        "     130  labelled in all: 2 classes",
    ]
    exported = isoserve("review", "export", tmp_path / "next", "--database", database)
    assert exported.returncode == 0, exported.stderr
    trained = isoserve(
        *("train", tmp_path / "next", "--output", tmp_path / "run", "--network", "densenet22_32"),
        *("--image-size", "16", "--epochs", "1", "--batch-size", "16", "--accelerator", "cpu"),
    )
    assert trained.returncode == 0, trained.stderr
    shown = isoserve("inspect", tmp_path / "run" / "model.onnx", "--json")
    assert json.loads(shown.stdout)["classes"] == ["dark", "light"]
