"""``isoserve train``, ``export``, ``calibrate`` and ``evaluate``, as typed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

import isoserve
from isoserve.cli import cli
from isoserve.models import openvino_engine
from isoserve.models.errors import InputError
from isoserve.service.inference.execution import Execution
from isoserve.training.checkpoint import Checkpoint
from isoserve.training.onnx_graph import read_model, run_graph
from isoserve.training.recipe import Recipe


def _isoserve(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def _refused(*words: object) -> str:
    result = _isoserve(*words)
    if isinstance(result.exception, InputError):
        return str(result.exception)
    assert result.exit_code == 2, result.output
    return result.output


def test_the_card_tells_how_the_model_was_made(run: Path, quick: Recipe) -> None:
    _, card = read_model(run / "model.onnx")
    assert (card.network, card.loss, card.seed) == (quick.network, "isomax2", quick.seed)
    assert (card.licence, card.data.note) == ("CC0-1.0", "drawn")
    assert (card.data.training_images, card.data.calibration_images) == (117, 63)
    assert card.recipe["epochs"] == 2


def test_export_evaluate_and_calibrate(run: Path, colours: Path, tmp_path: Path) -> None:
    exported = tmp_path / "again.onnx"
    result = _isoserve("export", run, "--output", exported, "--name", "again")
    assert result.exit_code == 0, result.output
    result = _isoserve(
        "evaluate", exported, colours, "--ood", "gaussian", "--ood", f"greens={colours}/test/green",
        "--limit", 20, "--output", tmp_path / "results", "--update-card",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "results" / "evaluation.json").read_text())
    _, card = read_model(exported)
    assert card.name == "again"
    assert [row.out_distribution for row in card.evaluation] == ["gaussian", "greens"]
    assert report["out_distributions"] == [row.model_dump() for row in card.evaluation]
    alone = report["views"]["greens"]
    assert list(alone) == ["entropic", "boundary", "density"]
    assert all(0 <= value <= 1 for measures in alone.values() for value in measures.values())
    result = _isoserve("calibrate", exported, colours / "test", "--alpha", 0.2)
    assert result.exit_code == 0, result.output
    _, card = read_model(exported)
    assert (card.calibration.alpha, card.calibration.n, card.evaluation) == (0.2, 51, [])
    assert card.combination is not None
    assert (card.score, card.combination.n) == ("combined", 39)


def test_half_weights_are_half_the_file_and_the_same_verdicts(run: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.onnx"
    result = _isoserve("export", run, "--output", half, "--half")
    assert result.exit_code == 0, result.output
    whole, _ = read_model(run / "model.onnx")
    short, card = read_model(half)
    assert half.stat().st_size < 0.7 * (run / "model.onnx").stat().st_size
    told = card.recipe["against_float32"]
    assert (told["n"], told["same_class"]) == (63, 1.0)
    assert told["largest_difference"]["probabilities"] < 0.02
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    for name, bar in (("probabilities", 0.02), ("distances", 0.05)):
        assert np.abs(run_graph(short, pixels)[name] - run_graph(whole, pixels)[name]).max() < bar


def test_a_card_on_a_foreign_graph_is_no_model(run: Path, colours: Path, tmp_path: Path) -> None:
    model, _ = read_model(run / "model.onnx")
    model.graph.output[0].name = "other"
    onnx.save(model, tmp_path / "model.onnx")
    told = _refused("evaluate", tmp_path / "model.onnx", colours, "--output", tmp_path / "results")
    assert "its graph lacks probabilities" in told


def test_what_an_evaluation_left_out_is_told(run: Path, colours: Path, tmp_path: Path) -> None:
    others = shutil.copytree(colours / "test" / "red", tmp_path / "others")
    (others / "broken.png").write_bytes(b"no")
    result = _isoserve(
        "evaluate", run / "model.onnx", colours, "--ood", others, "--output", tmp_path / "results"
    )
    assert result.exit_code == 0, result.output
    assert f"skipped {others / 'broken.png'}: " in result.stderr


def test_training_twice_into_one_folder_is_refused(run: Path, colours: Path) -> None:
    message = _refused("train", colours, "--output", run)
    assert "add --resume to go on, or choose another --output" in message


def test_exporting_with_other_images_is_refused(run: Path, colours: Path) -> None:
    message = _refused("export", run, "--source", colours / "test")
    assert "is not what" in message


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--alpha", "1", "--alpha is '1'"),
        ("--alpha", "0", "--alpha is '0'"),
        ("--epochs", "0", "--epochs is '0'"),
        ("--recipe", "cake", "--recipe is 'cake'; it must be one of auto, "),
        ("--network", "resnet35", "no network named 'resnet35'"),
        ("--network", "timm/resnet35", "has no network 'resnet35'"),
        ("--weights", "nowhere.pth", "--weights is nowhere.pth: no file nowhere.pth; give a"),
        ("--weights", "default", "--weights is default: densenet22_32 has no published weights"),
        ("--loss", "hinge", "--loss is 'hinge': Input should be 'softmax'"),
        ("--seed", "x", "--seed is 'x': Input should be a valid integer"),
        ("--seed", str(2**64), "--seed is '18446744073709551616': Input should be less than"),
        ("--alpha", "0.001", "too few to calibrate"),
        ("--name", "my model", "--name is 'my model'; it must be up to 64 of A-Z"),
        ("--accelerator", "abacus", "--accelerator abacus --devices auto --nodes 1: "),
        ("--devices", "none", "--accelerator auto --devices none --nodes 1: "),
    ],
)
def test_bad_settings_are_refused_and_leave_nothing(
    flag: str, value: str, message: str, colours: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    network = [] if flag == "--network" else ["--network", "densenet22_32"]
    assert message in _refused("train", colours, "--output", output, *network, flag, value)
    assert not output.exists()


@pytest.mark.parametrize(
    ("network", "size", "message"),
    [
        ("resnet35", "64", "no network named 'resnet35'"),
        ("vit_b_16", "40", "--image-size is 40: vit_b_16, made for 224, does not take it"),
    ],
)
def test_a_network_that_cannot_take_the_images_is_refused(
    network: str, size: str, message: str, colours: Path, tmp_path: Path
) -> None:
    words = ("train", colours, "--output", tmp_path / "run", "--network", network)
    assert message in _refused(*words, "--image-size", size)


def test_a_model_of_a_folder_that_no_model_can_be_named_after(run: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint.load(run)
    replace(checkpoint, data_name="写真").save(tmp_path / "run")
    result = _isoserve("export", tmp_path / "run")
    assert result.exit_code == 0, result.output
    _, card = read_model(tmp_path / "run" / "model.onnx")
    assert (card.name, card.data.name) == ("model", "写真")


def test_what_looks_like_markup_in_a_path_is_shown_as_it_is(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "[red]a[" / "b]" / "m.onnx"
    result = _isoserve("export", run, "--output", target)
    assert result.output.endswith(f"written: {target}\n")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert "no data set and no folder" in _refused(
        "train", tmp_path / "nowhere", "--output", tmp_path / "run"
    )
    assert "no checkpoint.pt in" in _refused("export", tmp_path / "nowhere")
    assert "no model file at" in _refused("calibrate", tmp_path / "none.onnx", tmp_path)


@pytest.mark.skipif(not openvino_engine.is_installed(), reason="openvino is not installed")
def test_calibrated_through_the_engine_that_serves(
    run: Path, colours: Path, tmp_path: Path
) -> None:
    output = tmp_path / "model.onnx"
    words = ("calibrate", run / "model.onnx", colours / "test", "--alpha", 0.2)
    message = _refused(*words, "--output", output, "--precision", "bfloat16")
    assert "--precision bfloat16 needs --engine openvino" in message
    assert not output.exists()
    done = _isoserve(*words, "--output", output, "--engine", "openvino")
    assert done.exit_code == 0, done.output
    _, card = read_model(output)
    assert (card.calibration.engine, card.calibration.precision) == ("openvino", "float32")
    served = isoserve.load(output, execution=Execution(engine="openvino", precision="float32"))
    verdict = served.predict(next((colours / "test").glob("*/*")))
    assert 0 < verdict.ood.p_value <= 1


def test_calibrating_below_the_smallest_number_names_it(run: Path, colours: Path) -> None:
    message = _refused("calibrate", run / "model.onnx", colours / "test", "--alpha", "0.01")
    assert "90 images are too few to calibrate" in message
    assert "at least 299" in message


def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    run: Path, colours: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    output = str(tmp_path / "file" / "run")
    for words in (
        ["train", str(colours), "--output", output],
        ["evaluate", str(run / "model.onnx"), str(colours), "--output", output],
        ["export", str(run), "--output", f"{output}/model.onnx"],
        ["calibrate", str(run / "model.onnx"), str(colours / "test"), "--output", f"{output}/m"],
        ["quantize", str(run / "model.onnx"), str(colours / "test"), "--output", f"{output}/m"],
        ["card", str(run / "model.onnx"), "--output", f"{output}/card.html"],
    ):
        with pytest.raises(InputError, match=f"cannot write into '{output}.*Not a directory"):
            CliRunner().invoke(cli, words, catch_exceptions=False)
