"""Calibration against brute force, and the file it leaves."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from scipy.special import softmax
from scipy.stats import binom
from torch import Tensor, nn
from training_run import train_here, training_images

from isoserve.models.card import SCHEMA_2_OUTPUTS, DataSummary, InputSpec, read_card
from isoserve.models.errors import InputError
from isoserve.models.heads import Logits
from isoserve.training.checkpoint import Checkpoint
from isoserve.training.data import LabelledImages, load_images, split
from isoserve.training.evaluation.evaluate import evaluate
from isoserve.training.onnx_graph import read_model, run_graph
from isoserve.training.onnx_model.calibrate import calibrate, fit_temperature, guaranteed_rank
from isoserve.training.onnx_model.export import (
    Description,
    ExportImages,
    export_checkpoint,
    export_network,
    save,
)
from isoserve.training.out_distributions import load_out_distribution
from isoserve.training.recipe import Recipe


@pytest.fixture(scope="module")
def checkpoint(
    colours: Path, quick: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> Checkpoint:
    return train_here(colours, quick, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def images(colours: Path, quick: Recipe) -> ExportImages:
    training, held_out = split(training_images(colours, quick), quick)
    return ExportImages(held_out, training)


@pytest.fixture(scope="module")
def held_out(images: ExportImages) -> LabelledImages:
    return images.held_out


@pytest.fixture(scope="module")
def model_file(
    checkpoint: Checkpoint,
    images: ExportImages,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    save(export_checkpoint(checkpoint, images, name="colours"), path)
    return path


def _alone(path: Path, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """The copied file, read with onnxruntime alone."""
    session = onnxruntime.InferenceSession(path.read_bytes())
    return dict(
        zip(SCHEMA_2_OUTPUTS, session.run(SCHEMA_2_OUTPUTS, {"images": pixels}), strict=True)
    )


def test_one_file_carries_everything(model_file: Path, held_out: LabelledImages) -> None:
    assert [path.name for path in model_file.parent.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(model_file.read_bytes())
    card = read_card(session.get_modelmeta().custom_metadata_map)
    assert card.classes == ["blue", "green", "red"]
    for folder in (Path.cwd(), Path(onnx.__file__).parents[1]):
        assert str(folder).encode() not in model_file.read_bytes()
    assert (card.input.height, card.input.width) == (16, 16)
    assert card.calibration.n == len(held_out) == sum(card.calibration.class_counts)
    assert [(i.name, i.type, i.shape[1:]) for i in session.get_inputs()] == [
        ("images", "tensor(uint8)", [16, 16, 3])
    ]
    assert tuple(output.name for output in session.get_outputs()) == SCHEMA_2_OUTPUTS


def test_outputs_are_the_arithmetic_of_the_distances(
    model_file: Path, checkpoint: Checkpoint, held_out: LabelledImages
) -> None:
    outputs = _alone(model_file, held_out.pixels)
    distances = outputs["distances"].astype(np.float64)
    p = softmax(-distances, axis=1)
    np.testing.assert_allclose(outputs["entropic_score"], (p * np.log(p)).sum(axis=1), atol=1e-4)
    _, card = read_model(model_file)
    scales = checkpoint.weights["head.scales"].double().numpy()
    tilts = checkpoint.weights["head.tilts"].double().numpy()
    cold = (-scales * distances - tilts) / card.calibration.temperature
    np.testing.assert_allclose(outputs["probabilities"], softmax(cold, axis=1), atol=1e-4)


def test_p_values_are_the_conformal_formula(model_file: Path, held_out: LabelledImages) -> None:
    outputs = _alone(model_file, held_out.pixels)
    scores, predicted = outputs["ood_score"], outputs["probabilities"].argmax(axis=1)
    for index, score in enumerate(scores):
        everyone = (1 + (scores <= score).sum()) / (len(scores) + 1)
        same = scores[predicted == predicted[index]]
        among_same = (1 + (same <= score).sum()) / (len(same) + 1)
        # Scores of other batches may differ in the last bit, which moves a rank by one.
        assert outputs["p_value"][index] == pytest.approx(everyone, abs=1.01 / len(scores))
        assert outputs["class_p_value"][index] == pytest.approx(among_same, abs=1.01 / len(same))
    order = np.argsort(scores)
    assert (np.diff(outputs["p_value"][order]) >= 0).all()


def test_an_image_scores_the_same_in_any_batch(model_file: Path, held_out: LabelledImages) -> None:
    whole = _alone(model_file, held_out.pixels)
    for index in range(5):
        alone = _alone(model_file, held_out.pixels[index : index + 1])
        for name in ("entropic_score", "probabilities"):
            np.testing.assert_allclose(alone[name][0], whole[name][index], atol=1e-5)


@pytest.mark.parametrize("loss", ["softmax", "isomax", "isomax+"])
def test_every_head_exports_in_parity(
    loss: str, colours: Path, quick: Recipe, tmp_path: Path
) -> None:
    recipe = quick.model_copy(update={"loss": loss, "epochs": 1})
    checkpoint = train_here(colours, recipe, tmp_path)
    images = training_images(colours, recipe)
    model = export_checkpoint(
        checkpoint, ExportImages(*split(images, recipe)[::-1]), name=f"colours-{len(loss)}"
    )
    assert read_card({e.key: e.value for e in model.metadata_props}).loss == loss


def test_a_scale_that_is_not_positive_is_refused(
    checkpoint: Checkpoint, held_out: LabelledImages
) -> None:
    scales = checkpoint.weights["head.scales"]
    kept = scales.clone()
    try:
        scales[1] = -0.5
        with pytest.raises(InputError, match=r"smallest learned scale is -0\.5"):
            export_checkpoint(checkpoint, ExportImages(held_out), name="colours")
    finally:
        scales.copy_(kept)


def test_an_export_that_differs_from_torch_is_refused(
    checkpoint: Checkpoint, held_out: LabelledImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: onnx.ModelProto, pixels: np.ndarray, batch_size: int = 64) -> object:
        outputs = run_graph(model, pixels, batch_size)
        return outputs | {"distances": outputs["distances"] * np.float32(1.0001)}

    monkeypatch.setattr("isoserve.training.onnx_model.parity.run_graph", broken)
    with pytest.raises(InputError, match=r"distances at batch 1 differs by 0\.000"):
        export_checkpoint(checkpoint, ExportImages(held_out), name="colours")


def test_too_few_images_to_calibrate(model_file: Path, held_out: LabelledImages) -> None:
    model, _ = read_model(model_file)
    with pytest.raises(InputError, match="58 images are too few to calibrate.*at least 59"):
        calibrate(model, held_out.take(np.arange(58)), alpha=0.05, delta=0.05)


def test_calibrating_again_replaces_the_scores(model_file: Path, held_out: LabelledImages) -> None:
    model, _ = read_model(model_file)
    fewer = held_out.take(np.arange(60))
    result = calibrate(model, fewer, alpha=0.1, delta=0.05)
    p_values = run_graph(result.model, fewer.pixels)["p_value"]
    np.testing.assert_allclose(np.sort(p_values) * 61, np.arange(2, 62), atol=1.01)
    assert result.calibration.alpha == 0.1
    assert float(np.mean(p_values <= np.float32(0.1))) <= 0.1


@pytest.mark.parametrize(("n", "alpha", "expected"), [(5000, 0.05, 225), (59, 0.05, 1)])
def test_the_guaranteed_rank(n: int, alpha: float, expected: int) -> None:
    assert guaranteed_rank(n, alpha, 0.05) == expected
    # By simulation: the share of uniform images below the k-th smallest of n.
    generator = np.random.default_rng(0)
    kth = [np.sort(generator.random(n))[expected - 1] for _ in range(4000)]
    assert np.mean(np.array(kth) <= alpha) >= 0.94


@pytest.mark.parametrize("delta", [0.01, 0.05, 0.5, 0.9])
def test_the_guaranteed_rank_is_the_largest(delta: float) -> None:
    """The k-th smallest of n uniform values is at most alpha where k of them are."""
    share = binom.sf(np.arange(200), 200, 0.05)  # of k = 1, 2, ...
    assert guaranteed_rank(200, 0.05, delta) == np.flatnonzero(share >= 1 - delta).max() + 1


def test_the_temperature_is_found_again() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (20_000, 5))
    labels = np.array([generator.choice(5, p=p) for p in softmax(logits, axis=1)])
    assert fit_temperature(3.0 * logits, labels) == pytest.approx(3.0, rel=0.03)


def test_a_class_never_predicted_takes_the_marginal_scores(
    checkpoint: Checkpoint, held_out: LabelledImages
) -> None:
    only_blue = held_out.take(np.flatnonzero(held_out.labels == 0))
    images = LabelledImages(
        "blue",
        np.repeat(only_blue.pixels, 5, axis=0),
        np.repeat(only_blue.labels, 5),
        held_out.classes,
    )
    model = export_checkpoint(checkpoint, ExportImages(images), name="blue")
    weights = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    counts = read_card({e.key: e.value for e in model.metadata_props}).calibration.class_counts
    unseen = counts.index(0)
    row = weights["class_calibration_scores"][unseen]
    np.testing.assert_array_equal(row[row < np.inf], weights["calibration_scores"][0])


def test_evaluation_finds_noise(model_file: Path, colours: Path, tmp_path: Path) -> None:
    model, card = read_model(model_file)
    test = load_images(str(colours), "test", card.input, Path("unused"))
    noise = load_out_distribution("uniform", card.input, Path("unused"), limit=50)
    result = evaluate(model, card, test, [noise])
    outputs = run_graph(model, test.pixels)
    assert result.test.accuracy == np.mean(outputs["probabilities"].argmax(axis=1) == test.labels)
    assert result.test.rejected == np.mean(outputs["p_value"] <= np.float32(0.05))
    assert result.out_distributions[0].n == 50
    assert 0 <= result.out_distributions[0].auroc <= 1
    result.save(tmp_path, card)
    assert {path.name for path in tmp_path.iterdir()} == {
        "confusion.png",
        "evaluation.json",
        "scores.png",
        "worst.png",
    }
    updated = result.added_to(card)
    assert updated.evaluation == result.out_distributions
    assert [part.split for part in updated.held_out] == ["calibration", "test"]


def test_evaluating_on_other_classes_is_refused(
    model_file: Path, colours: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(colours, tmp_path / "colours")
    (root / "test" / "red").rename(root / "test" / "rouge")
    model, card = read_model(model_file)
    test = load_images(str(root), "test", card.input, Path("unused"))
    with pytest.raises(
        InputError, match=r"blue, green, rouge; the model was trained on blue, green, red"
    ):
        evaluate(model, card, test, [])


def test_files_that_are_no_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model file at"):
        read_model(tmp_path / "model.onnx")
    (tmp_path / "text.onnx").write_text("this is not a protobuf")
    with pytest.raises(InputError, match="is not an ONNX model"):
        read_model(tmp_path / "text.onnx")
    graph = onnx.helper.make_graph([], "empty", [], [])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "bare.onnx")
    with pytest.raises(InputError, match=r"no 'isoserve.card'"):
        read_model(tmp_path / "bare.onnx")


class _WholeNetwork(nn.Module):
    """Not a Classifier, and no head of ours: its logits are its own business."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, images: Tensor) -> Logits:
        logits = self.layer(images.mean(dim=(2, 3)))
        return Logits(cold_logits=4 * logits, score_logits=logits)


def test_any_network_that_gives_logits_is_exported(held_out: LabelledImages) -> None:
    torch.manual_seed(0)
    network = _WholeNetwork().eval()
    description = Description(
        name="own",
        classes=list(held_out.classes),
        input=InputSpec(height=16, width=16),
        mean=[0.5, 0.4, 0.3],
        std=[0.2, 0.2, 0.2],
        network="own",
        data=DataSummary(
            name="colours", digest="", training_images=1, calibration_images=len(held_out)
        ),
    )
    model = export_network(network, ExportImages(held_out), description)
    card = read_card({entry.key: entry.value for entry in model.metadata_props})
    assert card.loss == "custom"
    assert card.parameters == 12
    outputs = run_graph(model, held_out.pixels)
    means = held_out.pixels.astype(np.float64).mean(axis=(1, 2)) / 255
    weight, bias = (value.detach().double().numpy() for value in network.layer.parameters())
    logits = (means - description.mean) / description.std @ weight.T + bias
    p = softmax(logits, axis=1)
    np.testing.assert_allclose(outputs["entropic_score"], (p * np.log(p)).sum(axis=1), atol=1e-5)
    cold = 4 * logits / card.calibration.temperature
    np.testing.assert_allclose(outputs["probabilities"], softmax(cold, axis=1), atol=1e-4)
