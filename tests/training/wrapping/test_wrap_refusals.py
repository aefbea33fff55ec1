"""What isoserve wrap refuses, in one line and without leaving a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from plain_classifier import (
    CLASSES,
    SIZE,
    STATED,
    variant,
)
from running_server import ROOT

import isoserve as iso


def isoserve_wrap(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "isoserve", "wrap", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_and_its_refusal(logits: Path, few: Path, tmp_path: Path) -> None:
    names = tmp_path / "classes.txt"
    names.write_text("blue\ngreen\nred\n")
    of_all = [logits, "--images", few, "--mean", "0.4,0.35,0.3", "--std", "0.2,0.25,0.3"]
    target = tmp_path / "model.onnx"
    done = isoserve_wrap(*of_all, "--output", target, "--classes", names, "--size", SIZE)
    assert done.returncode == 0, done.stderr
    assert f"written: {target}" in done.stdout
    card = json.loads(
        onnxruntime.InferenceSession(str(target))
        .get_modelmeta()
        .custom_metadata_map["isoserve.card"]
    )
    assert card["recipe"]["recipe"] == "wrap"

    names.write_text("green\nblue\nred\n")
    wrong = isoserve_wrap(*of_all, "--output", tmp_path / "none.onnx", "--classes", names)
    assert wrong.returncode == 2
    assert len(wrong.stderr.splitlines()) == 1
    assert "another order of the classes would give" in wrong.stderr
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".txt"] == ["model.onnx"]


REFUSED = {
    "no linear layer": ({"features": "nothing"}, "has no tensor 'nothing'"),
    "no vector": ({"features": "/body/body.0/Conv_output_0"}, "one vector"),
    "another size": ({"input_size": 32}, "--size 32x32 does not fit"),
    "another layout": ({"layout": "nhwc"}, "--layout nchw does"),
    "other classes": ({"classes": ["blue", "green"]}, "holds red, which the classes are not"),
    "more classes": ({"classes": [*CLASSES, "white"]}, "there are 4 classes"),
    "two numbers": ({"mean": [0.5, 0.5]}, "it must be three numbers"),
    "no spread": ({"std": 0.0}, "three positive numbers"),
    "a range": ({"value_range": "-1..1"}, "it must be 0..1 or 0..255"),
    "an accuracy": ({"expect_accuracy": 95}, "expect_accuracy is 95"),
    "a score": ({"score": "best"}, "score is 'best'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_one_line_and_leaves_nothing(
    logits: Path, few: Path, tmp_path: Path, case: str
) -> None:
    given, said = REFUSED[case]
    target = tmp_path / "folder" / "model.onnx"
    with pytest.raises(iso.InputError) as refused:
        iso.wrap(logits, target, images=few, **{**STATED, **given})
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_refused(logits: Path, few: Path, tmp_path: Path) -> None:
    other = tmp_path / "weights.pth"
    other.write_bytes(b"no protobuf of any kind")
    with pytest.raises(iso.InputError, match="not an ONNX model"):
        iso.wrap(other, tmp_path / "model.onnx", images=few)
    target = tmp_path / "model.onnx"
    iso.wrap(logits, target, images=few, **STATED)
    with pytest.raises(iso.InputError, match="an Isoserve model already"):
        iso.wrap(target, tmp_path / "again.onnx", images=few)

    def end_in_sigmoid(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node("Sigmoid", ["logits"], ["each"]))
        model.graph.output[0].name = "each"

    def take_numbers(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64

    for change, said in ((end_in_sigmoid, "--features|sigmoid"), (take_numbers, "takes int64")):
        changed = variant(logits, tmp_path / "changed.onnx", change)
        with pytest.raises(iso.InputError, match=said):
            iso.wrap(changed, tmp_path / "none.onnx", images=few, **STATED)
