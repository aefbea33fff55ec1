"""``isoserve upgrade``: a file of schema 1 gets the combined score, or the reason why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from combined_model import (
    COLOURS,
    SIDE,
    Former,
    colour_images,
    exported,
    trained_classifier,
    write_colour_folder,
)
from tiny_model import TinyModel, tiny_card, tiny_model

from isoserve.cli import cli
from isoserve.models.card import ModelCard
from isoserve.models.errors import InputError
from isoserve.training.onnx_graph import read_model, run_graph
from isoserve.training.onnx_model.export import save, set_card


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_folder(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_folder(tmp_path_factory.mktemp("others"), seed=2)


@pytest.fixture(scope="module")
def former(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("former") / "model.onnx"
    save(exported(Former(trained_classifier()), folder, "colours"), path)
    return path


def _upgrade(*words: object) -> str:
    result = CliRunner().invoke(cli, ["upgrade", *(str(word) for word in words)])
    assert result.exit_code == 0, result.output
    return result.output


def _refused(target: Path, *words: object) -> str:
    given = ["upgrade", *(str(word) for word in words), "--output", str(target)]
    result = CliRunner().invoke(cli, given)
    assert isinstance(result.exception, InputError), result.output
    assert not target.exists()
    return str(result.exception)


def _with_card(path: Path, source: Path, **changes: object) -> Path:
    model, card = read_model(source)
    set_card(model, card.model_copy(update=changes))
    save(model, path)
    return path


def test_an_upgraded_file_is_the_one_that_an_export_today_would_give(
    former: Path, folder: Path, tmp_path: Path
) -> None:
    today, upgraded = tmp_path / "today.onnx", tmp_path / "upgraded.onnx"
    save(exported(trained_classifier(), folder, "colours"), today)
    _upgrade(former, folder, "--output", upgraded)
    (_, before), (_, after), (_, new) = map(read_model, (former, upgraded, today))
    assert (before.schema_version, before.score) == (1, "entropic")
    assert (after.schema_version, after.score) == (2, "combined")
    assert after.calibration.n == new.calibration.n < before.calibration.n
    assert after.statistics == new.statistics
    assert after.combination is not None
    assert after.combination.fitted_on == "held-out"
    strange = np.random.default_rng(0).integers(0, 256, (10, SIDE, SIDE, 3), dtype=np.uint8)
    pixels = np.concatenate([colour_images(30, seed=9)[0], strange])
    expected, found = (run_graph(read_model(path)[0], pixels) for path in (today, upgraded))
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        # A score within the last bits of a calibration score may rank one higher or lower.
        slack = 1.01 / min(after.calibration.class_counts) if name.endswith("p_value") else 1e-4
        np.testing.assert_allclose(found[name], values, atol=slack, rtol=1e-3, err_msg=name)


@pytest.mark.parametrize("loss", ["softmax", "isomax", "isomax+"])
def test_every_head_of_ours_is_upgraded(loss: str, folder: Path, tmp_path: Path) -> None:
    old, upgraded = tmp_path / "old.onnx", tmp_path / "upgraded.onnx"
    save(exported(Former(trained_classifier(loss)), folder, "colours"), old)
    _upgrade(old, folder, "--output", upgraded)
    pixels, _ = colour_images(30, seed=9)
    before, after = (run_graph(read_model(path)[0], pixels) for path in (old, upgraded))
    for name in ("distances", "entropic_score"):
        np.testing.assert_allclose(after[name], before[name], atol=1e-5)
    assert (before["probabilities"].argmax(1) == after["probabilities"].argmax(1)).all()
    assert read_model(upgraded)[1].score == "combined"


def test_the_file_is_replaced_where_no_output_is_named(
    former: Path, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(former.read_bytes())
    _upgrade(path, folder)
    assert read_model(path)[1].schema_version == 2


def test_images_of_ones_own_calibrate_where_the_training_set_has_changed(
    former: Path, folder: Path, others: Path, tmp_path: Path
) -> None:
    target = tmp_path / "upgraded.onnx"
    _upgrade(former, folder, "--held-out", others, "--output", target)
    card = read_model(target)[1]
    assert card.combination is not None
    assert card.calibration.n + card.combination.n == 240


def test_other_images_than_those_of_the_training_are_refused(
    former: Path, others: Path, tmp_path: Path
) -> None:
    line = _refused(tmp_path / "none.onnx", former, others)
    assert read_model(former)[1].data.digest[:12] in line
    assert "--held-out" in line


def test_a_card_that_says_nothing_of_held_out_images_is_refused(
    former: Path, folder: Path, tmp_path: Path
) -> None:
    silent = _with_card(tmp_path / "silent.onnx", former, recipe={})
    assert "--held-out" in _refused(tmp_path / "none.onnx", silent, folder)


def test_a_quantised_file_is_refused(former: Path, folder: Path, tmp_path: Path) -> None:
    int8 = _with_card(tmp_path / "int8.onnx", former, precision="int8")
    line = _refused(tmp_path / "none.onnx", int8, folder)
    assert "int8" in line
    assert "float32" in line


def _foreign() -> tuple[onnx.ModelProto, ModelCard]:
    tiny = TinyModel(classes=tuple(COLOURS), size=SIDE)
    return tiny_model(tiny), tiny_card(tiny)


@pytest.mark.parametrize(
    ("loss", "said"), [("isomax2", "made elsewhere, or rewritten since"), ("custom", "'custom'")]
)
def test_a_graph_made_elsewhere_is_refused(
    loss: str, said: str, folder: Path, others: Path, tmp_path: Path
) -> None:
    model, card = _foreign()
    set_card(model, card.model_copy(update={"loss": loss}))
    save(model, tmp_path / "foreign.onnx")
    before = (tmp_path / "foreign.onnx").read_bytes()
    line = _refused(tmp_path / "none.onnx", tmp_path / "foreign.onnx", folder, "--held-out", others)
    assert said in line
    assert (tmp_path / "foreign.onnx").read_bytes() == before


def test_too_few_held_out_images_are_refused_with_the_number_needed(
    former: Path, folder: Path, tmp_path: Path
) -> None:
    few = write_colour_folder(tmp_path / "few", n=30, seed=5)
    line = _refused(tmp_path / "none.onnx", former, folder, "--held-out", few)
    assert "59" in line
