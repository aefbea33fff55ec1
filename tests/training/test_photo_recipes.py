"""``frozen`` and ``finetune``: what they do to a network, its images and its weights."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor
from training_run import training_images

from isoserve.models.backbones import build_backbone
from isoserve.models.card import InputSpec
from isoserve.models.errors import InputError
from isoserve.training.checkpoint import Checkpoint
from isoserve.training.class_weights import class_weights
from isoserve.training.data import load_images
from isoserve.training.freezing import freeze, keep_frozen
from isoserve.training.moving_average import decay_after
from isoserve.training.optimizers import make_optimizer
from isoserve.training.photo_views import PhotoViews, held_larger, mix
from isoserve.training.recipe import Recipe
from isoserve.training.recipes import WAYS, fit

SMALL = "resnet9_narrow_32"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights for SMALL, none of which is where it would start."""
    torch.manual_seed(7)
    path = tmp_path_factory.mktemp("weights") / "small.pth"
    torch.save(build_backbone(SMALL).network.state_dict(), path)
    return path


def recipe(name: str, **settings: object) -> Recipe:
    defaults = {**WAYS[name].defaults, "precision": "32-true"}
    small = {"network": SMALL, "image_size": 16, "batch_size": 32, "held_out": 0.35}
    return Recipe.model_validate({"recipe": name, **defaults, **small, **settings})


def train(folder: Path, wanted: Recipe, output: Path) -> Checkpoint:
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    return fit(fabric, wanted, str(folder), training_images(folder, wanted), output)


def body(checkpoint: Checkpoint) -> dict[str, Tensor]:
    state = checkpoint.classifier().backbone.state_dict()
    return {name: value for name, value in state.items() if value.is_floating_point()}


def test_frozen_learns_the_classes_and_leaves_the_network_as_it_was(
    colours: Path, weights: Path, tmp_path: Path
) -> None:
    wanted = recipe("frozen", weights=str(weights), epochs=12, views=2)
    done = train(colours, wanted, tmp_path)
    assert done.history[-1]["held_out_accuracy"] > 0.9
    given = torch.load(weights, weights_only=True)
    assert all(torch.equal(value, given[name]) for name, value in body(done).items())


def test_frozen_computes_its_features_once(
    colours: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = recipe("frozen", weights=str(weights), epochs=2, views=2)
    first = train(colours, wanted, tmp_path)
    assert len(list((tmp_path / "features").glob("*.npy"))) == 3
    (tmp_path / "checkpoint.pt").unlink()
    monkeypatch.setattr("isoserve.training.recipes.frozen.PhotoViews", None)
    again = train(colours, wanted, tmp_path)
    assert all(torch.equal(first.weights[name], again.weights[name]) for name in first.weights)
    assert train(colours, wanted, tmp_path).history == again.history
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["loss"]) == pytest.approx(again.history[1]["loss"], rel=1e-5)


def test_frozen_starts_at_class_means(colours: Path, weights: Path, tmp_path: Path) -> None:
    wanted = recipe(
        "frozen", weights=str(weights), epochs=1, views=1, prototype_start="class-means",
        learning_rate=1e-9,
    )  # fmt: skip
    done = train(colours, wanted, tmp_path)
    assert done.history[-1]["held_out_accuracy"] > 0.9


def test_frozen_refuses_weights_that_are_no_numbers(
    colours: Path, weights: Path, tmp_path: Path
) -> None:
    broken = torch.load(weights, weights_only=True)
    broken["layers.0.0.weight"][0] = torch.nan
    torch.save(broken, tmp_path / "broken.pth")
    wanted = recipe("frozen", weights=str(tmp_path / "broken.pth"), epochs=2)
    with pytest.raises(InputError, match="the loss is nan in epoch 1: the weights of resnet9"):
        train(colours, wanted, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_finetune_moves_what_is_not_frozen(colours: Path, weights: Path, tmp_path: Path) -> None:
    wanted = recipe(
        "finetune", weights=str(weights), epochs=3, freeze=0.5, learning_rate=0.02, mixing=0.2
    )
    done = train(colours, wanted, tmp_path)
    given = torch.load(weights, weights_only=True)
    moved = {name for name, value in body(done).items() if not torch.equal(value, given[name])}
    assert "layers.0.0.weight" not in moved
    assert not any(name.startswith("layers.0.") for name in moved)  # its statistics neither
    assert any(name.startswith("layers.5.") for name in moved)
    assert done.averaged


def test_finetune_resumes_to_the_same_weights(colours: Path, weights: Path, tmp_path: Path) -> None:
    wanted = recipe("finetune", weights=str(weights), epochs=2)
    whole = train(colours, wanted, tmp_path / "whole")
    stopped: list[int] = []

    class Stop(Exception):
        pass

    save = Checkpoint.save

    def stop_after_one(checkpoint: Checkpoint, folder: Path) -> None:
        save(checkpoint, folder)
        stopped.append(checkpoint.epoch)
        if len(stopped) == 1:
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "save", stop_after_one)
        with pytest.raises(Stop):
            train(colours, wanted, tmp_path / "half")
    half = train(colours, wanted, tmp_path / "half")
    for name, value in whole.averaged.items():
        assert torch.equal(half.averaged[name], value)


def test_a_photograph_is_held_larger_than_the_network_takes_it(colours: Path) -> None:
    spec = InputSpec(height=14, width=14)
    images = load_images(str(colours), "train", spec, Path("unused"))
    larger = held_larger(images.take(np.array([5, 2])), spec)
    assert larger.shape == (2, 16, 16, 3)
    whole = load_images(str(colours), "train", InputSpec(height=16, width=16), Path("unused"))
    assert np.array_equal(larger, whole.pixels[[5, 2]])


@pytest.mark.parametrize("strength", ["light", "strong"])
def test_views_are_fixed_by_their_generator_and_differ_within_a_batch(strength: str) -> None:
    pattern = torch.arange(3 * 40 * 40, dtype=torch.uint8).reshape(1, 3, 40, 40)
    images = pattern.expand(6, -1, -1, -1)
    views = PhotoViews((24, 32), strength=strength, flip=True)  # type: ignore[arg-type]
    before = torch.random.get_rng_state()
    first = views.batch(images, torch.Generator().manual_seed(3))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.shape == (6, 3, 24, 32)
    assert first.dtype == torch.uint8
    assert torch.equal(first, views.batch(images, torch.Generator().manual_seed(3)))
    assert not torch.equal(first, views.batch(images, torch.Generator().manual_seed(4)))
    assert not torch.equal(first[0], first[1])


def test_mixing_mixes_labels_as_it_mixes_images() -> None:
    targets = torch.tensor([0, 1, 2, 0])
    inputs = targets.float()[:, None, None, None].expand(-1, 3, 8, 8)
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        mixed, shares = mix(inputs, targets, 3, 1.0, generator)
        assert torch.allclose(shares.sum(dim=1), torch.ones(4))
        # Each image's pixels are the mean of its labels, whichever way they were mixed.
        assert torch.allclose(mixed.mean(dim=(1, 2, 3)), shares @ torch.arange(3.0), atol=1e-5)


def test_adamw_has_a_lower_rate_for_the_body_and_no_decay_on_its_norms() -> None:
    wanted = recipe("finetune", weights="none", learning_rate=0.1, body_learning_rate=0.2)
    classifier = wanted.fresh_classifier(3)
    freeze(classifier.backbone, 0.2)
    matrices, norms, prototypes, own = make_optimizer(classifier, wanted).param_groups
    assert (matrices["lr"], norms["lr"]) == (pytest.approx(0.02), pytest.approx(0.02))
    assert (prototypes["lr"], own["lr"]) == (0.1, pytest.approx(0.01))
    assert (norms["weight_decay"], own["weight_decay"]) == (0, 0)
    trained = [p for group in (matrices, norms) for p in group["params"]]
    assert len(trained) == sum(p.requires_grad for p in classifier.backbone.parameters())


def test_a_frozen_layer_keeps_its_statistics() -> None:
    network = build_backbone(SMALL).network
    freeze(network, 0.5)
    network.train()
    keep_frozen(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network(torch.rand(4, 3, 16, 16))
    after = network.state_dict()
    assert torch.equal(after["layers.0.1.running_mean"], before["layers.0.1.running_mean"])
    assert not torch.equal(after["layers.5.body.1.1.running_mean"],
                           before["layers.5.body.1.1.running_mean"])  # fmt: skip


def test_training_may_see_smaller_crops_than_the_network_is_served(
    colours: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    batch = PhotoViews.batch

    def recorded(views: PhotoViews, images: Tensor, generator: torch.Generator) -> Tensor:
        found = batch(views, images, generator)
        seen.append(tuple(found.shape[2:]))
        return found

    monkeypatch.setattr(PhotoViews, "batch", recorded)
    done = train(
        colours, recipe("finetune", weights=str(weights), epochs=1, crop_size=12), tmp_path
    )
    assert set(seen) == {(12, 12)}
    assert (done.input_spec().height, done.input_spec().width) == (16, 16)


def test_the_average_of_a_short_training_has_left_its_start() -> None:
    left = 1.0
    for step in range(1, 100):
        left *= decay_after(step, 0.99)
    assert left < 1e-9 < 0.99**99
    assert decay_after(10_000, 0.99) == 0.99


def test_balanced_classes_weigh_the_same() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [2] * 1)
    weights = class_weights("balanced", labels, 3)
    assert weights is not None
    shares = np.bincount(labels) * weights.numpy()
    assert shares == pytest.approx([10 / 3] * 3)
    assert class_weights("none", labels, 3) is None


def test_class_weights_reach_the_training_of_head_and_network(
    colours: Path, weights: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few"
    for name, count in (("blue", 60), ("red", 12)):
        (few / "train" / name).mkdir(parents=True)
        for file in sorted((colours / "train" / name).iterdir())[:count]:
            (few / "train" / name / file.name).write_bytes(file.read_bytes())
    for kind in ("frozen", "finetune"):
        losses = []
        for balance in ("none", "balanced"):
            wanted = recipe(kind, weights=str(weights), epochs=1, views=1, class_weights=balance,
                            held_out=0.1, alpha=0.2, batch_size=8)  # fmt: skip
            done = train(few, wanted, tmp_path / kind / balance)
            losses.append(done.history[0]["loss"])
        assert losses[0] != losses[1]
