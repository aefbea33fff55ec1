"""How large a reproduction is: which networks, data, seeds and epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from isoserve.training.recipe import Recipe
from isoserve.training.reproduce.given_runs import GivenRun

FOOLING_SEED = 1000
"""Seed of the network the fooling images are evolved against; it is not among the evaluated."""

LOSSES = ("softmax", "isomax", "isomax2", "isomax+", "acet")

STUDIES = ("entropic scale", "ablation", "fewer images")
"""Trainings beside those of the main tables, one step away from the usual recipe."""

OPENOOD = "openood"
"""A study without trainings of its own, run only where it is asked for: the networks are shown
OpenOOD's sets (:mod:`isoserve.training.reproduce.openood_sets`)."""


@dataclass(frozen=True)
class Scale:
    """One size of the whole grid; the recipe's network, loss and seed are filled in a cell."""

    name: str
    words: str
    """What it is good for, in a sentence."""
    recipe: Recipe
    networks: tuple[str, ...]
    in_data: tuple[str, ...]
    out_data: tuple[str, ...]
    """Natural out-distributions; noise and fooling images are always there."""
    seeds: int
    acet_steps: int
    acet_epochs: int
    acet_learning_rate: float
    """Below the recipe's where epochs are few: at 0.05 it never leaves uniform outputs on digits,
    at 0.01 it reaches the accuracy of the others."""
    study: tuple[str, str]
    """Network and in-distribution of the figures and of [IsoMax2] table 3."""
    losses: tuple[str, ...] = field(default=LOSSES, kw_only=True)
    """Those that are trained; the studies of others fall away."""
    fooling: bool = field(default=True, kw_only=True)
    """Whether fooling images are among the out-distributions, which takes a network of its own."""
    tuned: bool = field(default=True, kw_only=True)
    """Whether ODIN and Mahalanobis, whose search costs more than a training, are run."""
    studies: tuple[str, ...] = field(default=STUDIES, kw_only=True)
    """Of :data:`STUDIES` those that are trained, and :data:`OPENOOD` where it is asked for."""
    trained: Mapping[str, GivenRun] = field(default_factory=dict, kw_only=True)
    """By loss: runs that are there already, and that alone are evaluated."""
    images_per_class: tuple[int, ...]
    """Training set sizes of [IsoMax2] figure 2, beside the whole set."""
    noise_images: int
    fooling_images: int
    fooling_generations: int
    tuning_images: int = 1000
    """Held-out images, and as many adversarial ones, that ODIN and Mahalanobis are tuned on."""
    out_limit: int | None = None
    odin_steps: tuple[float, ...] = field(
        default=(0.0, 0.0005, 0.001, 0.0014, 0.002, 0.0024, 0.005, 0.01, 0.05, 0.1, 0.2)
    )
    mahalanobis_steps: tuple[float, ...] = field(
        default=(0.0, 0.01, 0.005, 0.002, 0.0014, 0.001, 0.0005)
    )

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Each network with each in-distribution."""
        return [(network, data) for data in self.in_data for network in self.networks]

    def of_runs(self, runs: Mapping[str, GivenRun]) -> Scale:
        """The scale's images and systems, with these runs in place of all of its trainings."""
        recipe = next(iter(runs.values())).recipe
        return replace(
            self,
            words="Runs that were there, shown what this scale shows its own networks.",
            trained=runs,
            recipe=self.recipe.model_copy(update={"epochs": recipe.epochs}),
            networks=(recipe.network,),
            study=(recipe.network, self.study[1]),
            losses=tuple(runs),
            seeds=1,
            fooling=False,
            studies=tuple(name for name in self.studies if name == OPENOOD),
        )


SCALES: dict[str, Scale] = {
    scale.name: scale
    for scale in (
        Scale(
            name="smoke",
            words="Every system, table and figure on scikit-learn's digits in minutes: it shows "
            "that the machinery works; its numbers say nothing about the methods.",
            recipe=Recipe(
                epochs=8,
                batch_size=64,
                learning_rate=0.05,
                flip=False,
                image_size=16,
                held_out=0.2,
            ),
            networks=("resnet9_narrow_32",),
            in_data=("digits",),
            out_data=("jigsaw", "strokes", "gratings"),
            seeds=2,
            acet_steps=2,
            acet_epochs=8,
            acet_learning_rate=0.01,
            study=("resnet9_narrow_32", "digits"),
            images_per_class=(20, 50),
            noise_images=300,
            fooling_images=100,
            fooling_generations=120,
            tuning_images=200,
            odin_steps=(0.0, 0.0014, 0.01),
            mahalanobis_steps=(0.0, 0.0014, 0.01),
        ),
        Scale(
            name="cpu",
            words="A small network under a schedule made for few epochs: with ten, two hours on "
            "two cores with bfloat16 instructions. Differences between systems mean something, "
            "levels do not.",
            recipe=Recipe(epochs=10, schedule="one-cycle", precision="bf16-mixed"),
            networks=("resnet9_narrow_32",),
            in_data=("cifar10",),
            out_data=("svhn", "tinyimagenet", "lsun"),
            seeds=3,
            acet_steps=4,
            acet_epochs=6,
            acet_learning_rate=0.02,
            study=("resnet9_narrow_32", "cifar10"),
            images_per_class=(500, 1500, 3000),
            noise_images=2000,
            fooling_images=1000,
            fooling_generations=400,
        ),
        Scale(
            name="paper",
            words="The papers' networks, data sets and 300 epochs: for one or more large GPUs.",
            recipe=Recipe(epochs=300),
            networks=("densenet100_32", "resnet34_32"),
            in_data=("cifar10", "cifar100", "svhn"),
            out_data=("svhn", "cifar10", "tinyimagenet", "lsun"),
            seeds=1,
            acet_steps=40,
            acet_epochs=100,
            acet_learning_rate=0.1,
            study=("densenet100_32", "cifar10"),
            images_per_class=(500, 1500, 3000),
            noise_images=10_000,
            fooling_images=10_000,
            fooling_generations=300,
        ),
    )
}
