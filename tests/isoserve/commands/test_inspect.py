"""``isoserve inspect``: the card as a page."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner
from tiny_model import tiny_card, tiny_model, write_tiny_model

from isoserve.commands.inspect import inspect
from isoserve.models.card import CARD_KEY, HeldOut, ModelCard, OODResult
from isoserve.models.errors import InputError

EVALUATED = tiny_card().model_copy(
    update={
        "held_out": [
            HeldOut(split="test", n=1234, accuracy=0.9123, ece=0.021, nll=0.345, rejected=0.0481)
        ],
        "evaluation": [
            OODResult(
                out_distribution="[svhn]",
                n=10,
                tnr_at_tpr95=0.71,
                auroc=0.95,
                dtacc=0.91,
                rejected=0.68,
            )
        ],
        "licence": "Apache-2.0",
    }
)


def write(path: Path, card: ModelCard) -> Path:
    model = tiny_model()
    onnx.helper.set_model_props(model, {CARD_KEY: card.model_dump_json()})
    path.write_bytes(model.SerializeToString())
    return path


def test_the_page_shows_every_number_of_the_card_in_plain_text(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", EVALUATED)
    done = CliRunner().invoke(inspect, [str(path)])
    assert done.exit_code == 0
    assert "\x1b" not in done.output
    for words in (
        "tiny",
        "3: red, green, blue",
        "8 x 8",
        "200 images the weights have not seen",
        f"{EVALUATED.calibration.threshold:.4f}",
        "0.02",
        "Apache-2.0",
    ):
        assert words in done.output
    rows = [line.split() for line in done.output.splitlines()]
    assert ["test", "1,234", "0.9123", "0.0210", "0.3450", "0.0481"] in rows
    assert ["[svhn]", "10", "0.9500", "0.7100", "0.9100", "0.6800"] in rows
    for name, count in zip(EVALUATED.classes, EVALUATED.calibration.class_counts, strict=True):
        assert [name, str(count)] in rows


def test_json_is_the_card_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", EVALUATED)
    output = CliRunner().invoke(inspect, [str(path), "--json"]).output
    assert ModelCard.model_validate_json(output) == EVALUATED


def test_a_file_that_could_not_serve_is_refused_with_the_reason(tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no model")
    bare = tiny_model()
    del bare.metadata_props[:]
    (tmp_path / "bare.onnx").write_bytes(bare.SerializeToString())
    for name, words in (("bad", "ONNX Runtime"), ("bare", "no 'isoserve.card'"), ("no", "No such")):
        with pytest.raises(InputError, match=words) as caught:
            CliRunner().invoke(inspect, [str(tmp_path / f"{name}.onnx")], catch_exceptions=False)
        assert f"{name}.onnx" in str(caught.value)


def test_a_card_without_evaluation_has_no_empty_tables(tmp_path: Path) -> None:
    output = CliRunner().invoke(inspect, [str(write_tiny_model(tmp_path / "m.onnx"))]).output
    assert "anything else" not in output
    assert "Calibration by class" in output
