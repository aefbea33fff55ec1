"""``isoserve average``: the mean of fine-tuned runs is one network, measured on its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from isoserve.cli import cli
from isoserve.models.errors import InputError
from isoserve.training.checkpoint import Checkpoint
from isoserve.training.onnx_graph import read_model


def _isoserve(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def _refused(*words: object) -> str:
    result = _isoserve(*words)
    assert isinstance(result.exception, InputError), result.output
    return str(result.exception)


@pytest.fixture(name="pair")
def _pair(run: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two runs as if fine-tuned from one file of weights, the second with moved prototypes."""
    trained = Checkpoint.load(run)
    trained = replace(trained, recipe=trained.recipe | {"weights": "published.pth"})
    moved = dict(trained.weights)
    moved["head.prototypes"] = moved["head.prototypes"] + 0.02
    trained.save(tmp_path / "a")
    replace(trained, weights={}, averaged=moved).save(tmp_path / "b")
    return tmp_path / "a", tmp_path / "b"


def test_the_mean_of_two_runs_is_exported_like_one(
    pair: tuple[Path, Path], colours: Path, tmp_path: Path
) -> None:
    mean = tmp_path / "mean"
    result = _isoserve("average", *pair, "--output", mean)
    assert result.exit_code == 0, result.output
    lines = [line.split(":")[0] for line in result.output.splitlines() if "held-out" in line]
    assert lines == [str(pair[0]), str(pair[1]), "mean"]
    first, merged = Checkpoint.load(pair[0]), Checkpoint.load(mean)
    expected = first.weights["head.prototypes"] + 0.01
    assert torch.allclose(merged.weights["head.prototypes"], expected, atol=1e-6)
    filters = [name for name, value in merged.weights.items() if value.ndim == 4]
    assert all(torch.equal(merged.weights[name], first.weights[name]) for name in filters)
    variances = [name for name in merged.weights if name.endswith("running_var")]
    assert any(not torch.equal(merged.weights[name], first.weights[name]) for name in variances)
    for name in variances:  # measured on the same images, so not far from what training left
        assert torch.allclose(merged.weights[name], first.weights[name], rtol=2, atol=0.5), name

    exported = _isoserve("export", mean, "--source", colours)
    assert exported.exit_code == 0, exported.output
    _, card = read_model(mean / "model.onnx")
    assert card.parameters == sum(v.numel() for v in merged.classifier().parameters())


def test_an_average_is_not_resumed(pair: tuple[Path, Path], colours: Path, tmp_path: Path) -> None:
    mean = tmp_path / "mean"
    assert _isoserve("average", *pair, "--output", mean).exit_code == 0
    assert "already holds a run" in _refused("average", *pair, "--output", mean)
    merged = Checkpoint.load(mean)
    replace(merged, recipe=merged.recipe | {"weights": "none"}).save(mean)
    message = _refused("train", colours, "--output", mean, "--resume")
    assert "an average of runs, which cannot be trained on" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": {"weights": "none"}}, "began from random weights"),
        ({"recipe": {"seed": 4}}, "has seed 3"),
        ({"data_digest": "0" * 64}, "has images (digest)"),
    ],
)
def test_runs_that_do_not_fit_together_are_refused(
    pair: tuple[Path, Path], tmp_path: Path, change: dict[str, object], message: str
) -> None:
    other = Checkpoint.load(pair[1])
    recipe = change.pop("recipe", {})
    assert isinstance(recipe, dict)
    replace(other, recipe=other.recipe | recipe, **change).save(pair[1])  # type: ignore[arg-type]
    assert message in _refused("average", *pair, "--output", tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_one_run_has_no_average(pair: tuple[Path, Path], tmp_path: Path) -> None:
    message = _refused("average", pair[0], "--output", tmp_path / "mean")
    assert "needs at least two" in message
