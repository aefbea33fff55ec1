"""``--recipe fast``: whitening, orthogonal steps, alternating mirrors, averages, a teacher."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn
from training_run import train_here, training_images

from isoserve.models.backbones.whitened import WhitenedResNet
from isoserve.models.classifier import Classifier
from isoserve.models.errors import InputError
from isoserve.models.heads import IsoMax2Head, Logits
from isoserve.training.augment import cut_out, mirrored_in, translate_and_alternate
from isoserve.training.batches import normalise
from isoserve.training.checkpoint import Checkpoint
from isoserve.training.objective import Objective
from isoserve.training.optimizers import Muon, make_optimizer, orthogonalise
from isoserve.training.pixmix import fractals, pixmix
from isoserve.training.recipe import Recipe
from isoserve.training.recipes import WAYS


@pytest.fixture(scope="module")
def fast(quick: Recipe) -> Recipe:
    """The recipe's own choices in a smaller network."""
    small = quick.model_dump(include={"network", "image_size", "epochs", "batch_size", "seed"})
    own = dict(WAYS["fast"].defaults) | small | {"averaging": 0.5, "precision": "32-true"}
    return Recipe(recipe="fast", held_out=0.35, **own)


@pytest.fixture(scope="module")
def trained(colours: Path, fast: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    torch.set_num_threads(1)
    return train_here(colours, fast, tmp_path_factory.mktemp("fast"))


def test_it_learns(trained: Checkpoint) -> None:
    assert trained.history[-1]["held_out_accuracy"] > 0.8


def test_what_is_served_is_the_average(trained: Checkpoint) -> None:
    served = trained.classifier().state_dict()
    for name, weight in served.items():
        assert torch.equal(weight, trained.averaged[name]), name
    assert not torch.equal(served["head.prototypes"], trained.weights["head.prototypes"])


def test_an_interrupted_run_goes_on_to_the_same_weights_and_average(
    colours: Path, fast: Recipe, trained: Checkpoint, tmp_path: Path
) -> None:
    images = training_images(colours, fast)

    class Interrupted(Fabric):
        def barrier(self, *_: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        WAYS["fast"].fit(
            Interrupted(accelerator="cpu", devices=1), fast, str(colours), images, tmp_path
        )
    assert Checkpoint.load(tmp_path).epoch == 1
    resumed = train_here(colours, fast, tmp_path)
    for name, weight in trained.weights.items():
        assert torch.equal(resumed.weights[name], weight), name
        assert torch.equal(resumed.averaged[name], trained.averaged[name]), name


def test_whitened_patches_are_uncorrelated_with_unit_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(64, 3, 16, 16, generator=generator).cumsum(2).cumsum(3)
    images = images / images.std()
    network = WhitenedResNet((4, 4, 4))
    network.whiten(images)
    answers = network.whitening(images).permute(0, 2, 3, 1).reshape(-1, 24)
    covariance = torch.cov(answers.T)[:12, :12]
    strong = torch.diagonal(covariance) > 0.9  # the weakest directions are held down
    assert strong.sum() >= 6
    strongest = covariance[strong][:, strong]
    assert torch.allclose(strongest, torch.eye(int(strong.sum())), atol=0.1)
    assert torch.equal(network.whitening.weight[:12], -network.whitening.weight[12:])
    assert not network.whitening.weight.requires_grad


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (8, 8)])
def test_orthogonal_steps_have_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    scaled = matrix * torch.logspace(0, -0.5, shape[1])
    values = torch.linalg.svdvals(orthogonalise(scaled, steps=8))
    assert values.min() > 0.6
    assert values.max() < 1.3
    exact = torch.linalg.svd(scaled, full_matrices=False)
    found = orthogonalise(scaled, steps=8)
    cosine = (found * (exact.U @ exact.Vh)).sum() / (found.norm() * (exact.U @ exact.Vh).norm())
    assert cosine > 0.97


def test_weights_that_are_no_filters_take_the_steps_of_sgd() -> None:
    """Against torch's own Nesterov momentum and weight decay."""
    start = torch.linspace(-1, 1, 5)
    weights = [nn.Parameter(start.clone()) for _ in range(2)]
    group = {"params": weights[:1], "lr": 0.1, "weight_decay": 0.01}
    pair = [
        Muon([group], momentum=0.9),
        torch.optim.SGD(weights[1:], lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
    ]
    for _ in range(3):
        for weight, optimizer in zip(weights, pair, strict=True):
            weight.grad = weight.detach() ** 2 - 0.3
            optimizer.step()
    assert torch.allclose(weights[0], weights[1], atol=1e-6)


def test_filters_keep_their_length_and_the_whitening_is_not_trained() -> None:
    network = WhitenedResNet((4, 8, 8))
    network.whiten(torch.rand(8, 3, 16, 16))
    classifier = Classifier(network, IsoMax2Head(8, 3))
    optimizer = make_optimizer(classifier, Recipe(optimizer="muon"))
    filters, rest, own = optimizer.param_groups
    assert filters["orthogonal"]
    assert {p.ndim for p in filters["params"]} == {4}
    assert all(p is not network.whitening.weight for p in filters["params"])
    assert any(p is classifier.head.prototypes for p in rest["params"])
    assert len(own["params"]) == 2
    nn.init.normal_(classifier.head.prototypes)
    before = network.whitening.weight.clone()
    for _ in range(2):
        loss = classifier.head.loss(classifier(torch.rand(8, 3, 16, 16)), torch.arange(8) % 3)
        loss.backward()
        optimizer.step()
    assert torch.equal(network.whitening.weight, before)
    for bank in filters["params"]:
        assert bank.norm().item() == pytest.approx(len(bank) ** 0.5, rel=0.15)


def test_every_image_is_mirrored_in_every_second_epoch() -> None:
    indices = np.random.default_rng(0).permutation(500)
    first, second, third = (mirrored_in(epoch, indices, 500, seed=3) for epoch in range(3))
    assert torch.equal(first, ~second)
    assert torch.equal(first, third)
    assert 200 < int(first.sum()) < 300


def test_translated_images_reflect_their_borders() -> None:
    image = torch.arange(3 * 32 * 32).reshape(1, 3, 32, 32).remainder(251).to(torch.uint8)
    images = image.repeat(300, 1, 1, 1)
    mirrored = torch.arange(300) % 2 == 1
    out = translate_and_alternate(images, mirrored, torch.Generator().manual_seed(0))
    padded = np.pad(image[0].numpy(), ((0, 0), (2, 2), (2, 2)), mode="reflect")
    crops = {
        padded[:, top : top + 32, left : left + 32].tobytes(): (top, left)
        for top in range(5)
        for left in range(5)
    }
    seen = set()
    for view, turned in zip(out.numpy(), mirrored.tolist(), strict=True):
        seen.add(crops[np.ascontiguousarray(view[:, :, ::-1] if turned else view).tobytes()])
    assert len(seen) == 25


def test_a_square_is_cut_out() -> None:
    out = cut_out(torch.ones(200, 3, 16, 16), 6, torch.Generator().manual_seed(0))
    missing = (out == 0).sum(dim=(1, 2, 3))
    assert missing.max() in (3 * 25, 3 * 36)
    assert missing.min() > 0
    assert torch.equal(out[:, 0], out[:, 2])


def test_fractals_are_pictures_and_differ() -> None:
    pictures = fractals(24, 32, seed=0)
    assert pictures.shape == (24, 3, 32, 32)
    assert 0 <= float(pictures.min()) <= float(pictures.max()) <= 1
    assert torch.equal(pictures, fractals(24, 32, seed=0))
    deviation = pictures.std(dim=(2, 3)).amax(dim=1)
    assert (deviation > 0.02).all()
    assert torch.pdist(pictures.flatten(1)).min() > 1


def test_mixed_images_stay_pictures_and_keep_their_image() -> None:
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(0.1, 0.9, 32).expand(64, 3, 32, 32).contiguous()
    mixed = pixmix(ramp, fractals(16, 32, seed=1), generator)
    assert 0 <= float(mixed.min()) <= float(mixed.max()) <= 1
    changed = (mixed != ramp).flatten(1).any(dim=1)
    assert 0.8 < float(changed.float().mean()) <= 1
    rising = mixed.mean(dim=(1, 2))
    correlation = torch.corrcoef(torch.cat([rising, ramp[:1, 0, 0][None][0]]))[-1, :-1]
    assert float(correlation.median()) > 0.7


def _objective(recipe: Recipe, start: Checkpoint) -> Objective:
    return Objective(Fabric(accelerator="cpu", devices=1), recipe, IsoMax2Head(4, 3), start)


def test_a_teachers_probabilities_are_learned(trained: Checkpoint, tmp_path: Path) -> None:
    trained.save(tmp_path)
    recipe = Recipe(teacher=str(tmp_path), teacher_weight=1.0)
    pupil = replace(trained, mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4])
    objective = _objective(recipe, pupil)
    pixels = torch.randint(0, 255, (6, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        taught: Logits = trained.classifier()(normalise(pixels, trained))
    targets = torch.zeros(6, dtype=torch.int64)
    seen = normalise(pixels, pupil)
    assert objective.loss(taught, targets, seen).item() == pytest.approx(0.0, abs=1e-5)
    other = taught._replace(cold_logits=taught.cold_logits.roll(1, dims=1))
    assert objective.loss(other, targets, seen) > 0.01
    assert objective.loss(taught, targets, seen.flip(3)) > 1e-4


def test_a_teacher_of_other_classes_is_refused(trained: Checkpoint, tmp_path: Path) -> None:
    trained.save(tmp_path)
    start = replace(trained, classes=["blue", "red"])
    with pytest.raises(InputError, match="--teacher .* was trained on 3 classes of 16x16"):
        _objective(Recipe(teacher=str(tmp_path)), start)
    with pytest.raises(InputError, match=r"no checkpoint\.pt"):
        _objective(Recipe(teacher=str(tmp_path / "none")), start)


def test_normalised_distances_ignore_the_features_length(trained: Checkpoint) -> None:
    objective = _objective(Recipe(normalise_distances=True), trained)
    distances = torch.tensor([[1.0, 2.0, 3.0]])
    losses = [
        objective.loss(
            Logits(-10 * k * distances, -k * distances), torch.tensor([1]), torch.empty(0)
        )
        for k in (1.0, 4.0)
    ]
    assert losses[0].item() == pytest.approx(losses[1].item())
    assert losses[0].item() == pytest.approx(
        -torch.log_softmax(-10 * distances / 2, dim=1)[0, 1].item()
    )
