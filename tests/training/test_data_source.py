"""Tables of labels, Parquet, calibration folders and duplicates: read, or refused in one line."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from isoserve.cli import cli
from isoserve.models.card import InputSpec
from isoserve.models.errors import InputError
from isoserve.training.data import LabelledImages
from isoserve.training.data_source import DataSource
from isoserve.training.duplicates import describe_duplicates, digests_of, digests_of_split

SPEC = InputSpec(height=4, width=4)
HERE = Path("unused")


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (value, 0, 0)).save(file, "PNG")
    return file.getvalue()


def load(source: DataSource, split: str = "train") -> LabelledImages:
    return source.load("test" if split == "test" else "train", SPEC, HERE)


def table(root: Path, text: str) -> DataSource:
    (root / "photos").mkdir(exist_ok=True)
    for number in range(4):
        (root / "photos" / f"{number}.png").write_bytes(png(number))
    (root / "labels.csv").write_text(text, encoding="utf-8")
    return DataSource(str(root / "photos"), str(root / "labels.csv"))


def test_a_table_names_the_class_of_each_file(tmp_path: Path) -> None:
    source = table(tmp_path, "\ufeffPath, Label\n3.png,dog\n0.png,cat\n1.png,dog\n")
    images = load(source)
    assert images.classes == ("cat", "dog")
    assert images.pixels[:, 0, 0, 0].tolist() == [3, 0, 1]
    assert images.labels.tolist() == [1, 0, 1]
    assert np.array_equal(load(source, "test").labels, images.labels)  # it names no splits
    assert DataSource.parse(source.text()) == source
    assert DataSource.parse(DataSource("photos").text()) == DataSource("photos")


def test_a_tables_splits_are_kept_apart(tmp_path: Path) -> None:
    lines = ["path,label,split", "0.png,a,train", "1.png,b,train", "2.png,a,Test", "3.png,b,test"]
    source = table(tmp_path, "\n".join(lines))
    assert load(source).pixels[:, 0, 0, 0].tolist() == [0, 1]
    assert load(source, "test").pixels[:, 0, 0, 0].tolist() == [2, 3]
    lines[3:] = ["2.png,a,valid", "3.png,b,val"]
    images = load(table(tmp_path, "\n".join(lines)))
    assert images.calibration is not None
    assert images.calibration.pixels[:, 0, 0, 0].tolist() == [2, 3]
    with pytest.raises(InputError, match="no test images; its splits are train, validation"):
        load(table(tmp_path, "\n".join(lines)), "test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n0.png,a\n", "no column 'path' but file, label"),
        ("", "no column 'path' but none"),
        ("path,label\n0.png,\n", "line 2: a path and a label are needed"),
        ("path,label\n0.png,a\n0.png,b\n", "line 3: '0.png' is 'b' here and 'a' before"),
        ("path,label\n0.png,a\n1.png,a\n", "has 1 class; a classifier needs at least two"),
        ("path,label,split\n0.png,a,dev\n", "split is 'dev'; it must be train, val or test"),
        ("path,label\n0.png,a\nmissing.png,b\n", "class 'b' has no readable image"),
    ],
)
def test_a_bad_table_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(table(tmp_path, text))


def test_a_file_that_is_not_there_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    images = load(table(tmp_path, "path,label\n0.png,a\ngone.png,a\n1.png,b\n"))
    assert len(images) == 2
    assert "gone.png" in images.skipped[0]


def test_parquet_of_image_bytes_is_read_with_the_hubs_names(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    feature = {"names": ["dog", "cat"], "_type": "ClassLabel"}
    metadata = {"huggingface": json.dumps({"info": {"features": {"label": feature}}})}
    for name, values in (("train-00000-of-00001", [1, 2, 3]), ("test-00000-of-00001", [4, 5])):
        images = [{"bytes": png(value), "path": None} for value in values]
        columns = {"image": images, "label": [value % 2 for value in values]}
        written = pyarrow.table(columns).replace_schema_metadata(metadata)
        (tmp_path / "data").mkdir(exist_ok=True)
        parquet.write_table(written, tmp_path / "data" / f"{name}.parquet")
    images = load(DataSource(str(tmp_path)))
    assert images.classes == ("cat", "dog")
    assert images.labels.tolist() == [0, 1, 0]
    assert images.pixels[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert load(DataSource(str(tmp_path)), "test").labels.tolist() == [1, 0]
    plain = pyarrow.table({"img": [png(1), b"no image", png(2)], "label": ["x", "y", "y"]})
    parquet.write_table(plain, tmp_path / "plain.parquet")
    images = load(DataSource(str(tmp_path / "plain.parquet")))
    assert images.classes == ("x", "y")
    assert "plain.parquet, row 1" in images.skipped[0]
    parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match="has the columns a; one of image"):
        load(DataSource(str(tmp_path / "other.parquet")))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(InputError, match=r"cannot read .*broken.parquet"):
        load(DataSource(str(tmp_path / "broken.parquet")))


def test_a_saved_data_set_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["one", "two"])}
    )
    rows = {"image": [{"bytes": png(n), "path": None} for n in range(4)], "label": [0, 1, 0, 1]}
    made = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": made, "test": made.select([2, 3])}).save_to_disk(tmp_path / "d")
    source = DataSource(f"hf:{tmp_path / 'd'}")
    assert load(source).pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert load(source, "test").labels.tolist() == [0, 1]


def fill(root: Path, *folders: str, images: int, first: int = 0) -> Path:
    for number, folder in enumerate(folders):
        (root / folder).mkdir(parents=True)
        for index in range(images):
            pixels = np.full((4, 4, 3), (first + index, number, 0), np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{index}.png")
    return root


def test_a_calibration_folder_takes_the_place_of_val(tmp_path: Path) -> None:
    fill(tmp_path / "photos", "train/a", "train/b", images=3)
    fill(tmp_path / "photos", "val/a", "val/b", images=2, first=100)
    fill(tmp_path / "fresh", "a", "b", images=4, first=200)
    images = load(DataSource(str(tmp_path / "photos"), calibration=str(tmp_path / "fresh")))
    assert images.calibration is not None
    assert images.calibration.pixels[:, 0, 0, 0].min() == 200


def test_files_in_two_splits_are_counted_and_named(tmp_path: Path) -> None:
    root = fill(tmp_path, "train/a", "train/b", images=3)
    fill(root, "val/a", "val/b", "test/a", "test/b", images=2, first=100)
    shutil.copy(root / "train" / "a" / "1.png", root / "val" / "a" / "copy.png")
    shutil.copy(root / "train" / "b" / "2.png", root / "test" / "b" / "copy.png")
    images = load(DataSource(str(root)))
    held_out = images.calibration
    assert held_out is not None
    line = describe_duplicates(held_out, "calibration", digests_of(images), "training")
    assert line.startswith("1 calibration image also among the training images, the first ")
    assert "copy.png as " in line
    in_test = digests_of_split(str(root), "test")
    assert "1 training image also among the test images" in describe_duplicates(
        images, "training", in_test, "test"
    )
    assert describe_duplicates(held_out, "calibration", in_test, "test") == ""
    assert digests_of_split("cifar10", "test") == {}


def test_train_takes_a_table_and_a_calibration_folder(tmp_path: Path) -> None:
    photos = fill(tmp_path / "photos", "x", "y", images=40)
    fresh = fill(tmp_path / "fresh", "left", "right", images=30, first=100)
    shutil.copy(photos / "x" / "0.png", fresh / "left" / "copy.png")
    rows = [
        f"{name}/{n}.png,{label}"
        for name, label in (("x", "left"), ("y", "right"))
        for n in range(40)
    ]
    (tmp_path / "labels.csv").write_text("path,label\n" + "\n".join(rows))
    output = tmp_path / "run"
    words = ["train", photos, "--labels", tmp_path / "labels.csv", "--calibration", fresh]
    words += ["--output", output, "--network", "densenet22_32", "--image-size", 16]
    words += ["--epochs", 1, "--recipe", "paper", "--batch-size", 16]
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert "1 calibration image also among the training images" in result.output
    again = ["export", output, "--output", tmp_path / "again.onnx"]
    result = CliRunner().invoke(cli, [str(word) for word in again])
    assert result.exit_code == 0, result.output
    card = json.loads(_card(tmp_path / "again.onnx"))
    assert card["classes"] == ["left", "right"]
    assert card["calibration"]["n"] == 61


def _card(path: Path) -> str:
    import onnx

    return next(p.value for p in onnx.load(path).metadata_props if p.key == "isoserve.card")
