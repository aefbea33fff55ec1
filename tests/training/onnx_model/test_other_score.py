"""``isoserve calibrate --score``: what decides is changed, without training images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from combined_model import (
    SIDE,
    Former,
    colour_images,
    exported,
    trained_classifier,
    write_colour_folder,
)
from onnx import TensorProto

from isoserve.cli import cli
from isoserve.models.errors import InputError
from isoserve.training.data import load_class_folders
from isoserve.training.onnx_graph import read_model, run_graph
from isoserve.training.onnx_model.export import save
from isoserve.training.onnx_model.half_weights import with_half_weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_folder(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def combined(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("combined") / "model.onnx"
    save(exported(trained_classifier(), folder, "colours"), path)
    return path


def _calibrated(source: Path, images: Path, score: str, target: Path) -> Path:
    words = ["calibrate", str(source), str(images), "--score", score, "--output", str(target)]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    return target


def _refused(source: Path, images: Path, score: str, target: Path) -> str:
    words = ["calibrate", str(source), str(images), "--score", score, "--output", str(target)]
    result = CliRunner().invoke(cli, words)
    assert isinstance(result.exception, InputError), result.output
    assert not target.exists()
    return str(result.exception)


def test_there_and_back_the_views_stay_and_the_decision_changes(
    combined: Path, folder: Path, tmp_path: Path
) -> None:
    entropic = _calibrated(combined, folder, "entropic", tmp_path / "entropic.onnx")
    again = _calibrated(entropic, folder, "combined", tmp_path / "again.onnx")
    pixels = np.concatenate(
        [colour_images(6, seed=5)[0], np.zeros((1, SIDE, SIDE, 3), dtype=np.uint8)]
    )
    models = [read_model(path) for path in (combined, entropic, again)]
    assert [card.score for _, card in models] == ["combined", "entropic", "combined"]
    assert [card.combination is None for _, card in models] == [False, True, False]
    assert all(card.statistics == models[0][1].statistics for _, card in models)
    first, second, third = (run_graph(model, pixels) for model, _ in models)
    for found in (second, third):
        for name in ("entropic_score", "boundary_score", "density_score", "distances"):
            np.testing.assert_allclose(found[name], first[name], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(second["ood_score"], second["entropic_score"])
    np.testing.assert_array_equal(second["p_value"], second["entropic_p_value"])
    assert (third["ood_score"] != third["entropic_score"]).all()
    assert models[2][1].calibration.n < models[1][1].calibration.n  # some scale the views


def test_weights_of_16_bits_stay_so(combined: Path, folder: Path, tmp_path: Path) -> None:
    model, card = read_model(combined)
    held_out = load_class_folders(folder, card.input)
    half = tmp_path / "half.onnx"
    save(with_half_weights(model, held_out), half)
    again = read_model(_calibrated(half, folder, "entropic", tmp_path / "entropic.onnx"))[0]
    former = read_model(half)[0]
    kinds = [
        sum(each.data_type == TensorProto.FLOAT16 for each in graph.initializer)
        for graph in (former.graph, again.graph)
    ]
    assert kinds[0] == kinds[1]
    pixels = colour_images(6, seed=5)[0]
    expected, found = run_graph(former, pixels), run_graph(again, pixels)
    np.testing.assert_allclose(found["density_score"], expected["density_score"], rtol=1e-3)


def test_a_file_without_statistics_is_refused_with_the_way_out(
    folder: Path, tmp_path: Path
) -> None:
    former = tmp_path / "former.onnx"
    save(exported(Former(trained_classifier()), folder, "colours"), former)
    assert "isoserve upgrade" in _refused(former, folder, "combined", tmp_path / "new.onnx")


def test_too_few_images_for_the_scales_are_refused_with_the_number(
    combined: Path, folder: Path, tmp_path: Path
) -> None:
    entropic = _calibrated(combined, folder, "entropic", tmp_path / "entropic.onnx")
    few = tmp_path / "few"
    for kind in sorted(path for path in folder.iterdir() if path.is_dir()):
        (few / kind.name).mkdir(parents=True)
        for image in sorted(kind.iterdir())[:22]:
            (few / kind.name / image.name).write_bytes(image.read_bytes())
    assert "at least 79" in _refused(entropic, few, "combined", tmp_path / "new.onnx")
