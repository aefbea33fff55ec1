"""Which networks a scale trains, and for what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from isoserve.training.data import LabelledImages
from isoserve.training.recipe import Recipe
from isoserve.training.reproduce.given_runs import GivenRun
from isoserve.training.reproduce.scale import FOOLING_SEED, STUDIES, Scale

MAIN_LOSSES = ("softmax", "isomax", "isomax2")
"""Trained with every seed; IsoMax+, like ACET, with the first alone."""

LOSS_NAMES = {
    "softmax": "SoftMax",
    "isomax": "IsoMax",
    "isomax2": "IsoMax2",
    "isomax+": "IsoMax+",
    "acet": "ACET",
}
"""Of each of the scale's losses, as the papers write them."""

ENTROPIC_SCALES = (1.0, 3.0)
"""[IsoMax] figure 1, beside the usual 10."""

ABLATION: tuple[dict[str, object], ...] = (
    {"scale_learning_rate": 1.0, "scale_weight_decay": 1e-4},
    {"scale_learning_rate": 0.1, "scale_weight_decay": 1e-4},
    {"scale_learning_rate": 1.0, "scale_weight_decay": 0.0},
    {"prototype_start": "normal"},
)
"""What is not as usual: three cells of [IsoMax2] table 3, and one that no paper has."""


Purpose = Literal["main", "acet", "fooling", "entropic scale", "ablation", "fewer images"]


@dataclass(frozen=True)
class Training:
    """One network to train."""

    purpose: Purpose
    in_data: str
    recipe: Recipe
    images_per_class: int | None = None
    """None: the whole training set."""
    given: GivenRun | None = None
    """A finished run that is taken as it is."""

    @property
    def loss(self) -> str:
        """The recipe's, or ACET where it adds its adversarial term."""
        return "acet" if self.recipe.acet_steps else self.recipe.loss

    @property
    def words(self) -> str:
        recipe = self.recipe
        parts = [recipe.network, self.in_data, LOSS_NAMES[self.loss], f"seed {recipe.seed}"]
        if self.purpose == "entropic scale":
            parts.append(f"E_s {recipe.entropic_scale:g}")
        if self.purpose == "ablation":
            parts.append(ablation_name(recipe))
        if self.images_per_class:
            parts.append(f"{self.images_per_class} images per class")
        return ", ".join(parts)


def ablation_name(recipe: Recipe) -> str:
    """The setting as [IsoMax2] table 3 has it in ``published``, or the start it has not."""
    if recipe.prototype_start != "zeros":
        return f"prototypes={recipe.prototype_start}"
    decay = "yes" if recipe.scale_weight_decay else "no"
    return f"wd={decay} lr={recipe.scale_learning_rate:g}x"


def main_training(scale: Scale, network: str, in_data: str, loss: str, seed: int) -> Training:
    """The training of a main loss, as every table uses it."""
    if loss in scale.trained:
        given = scale.trained[loss]
        return Training("main", in_data, given.recipe, given=given)
    update = {"network": network, "loss": loss, "seed": seed}
    return Training("main", in_data, _changed(scale.recipe, **update))


def acet_training(scale: Scale, network: str, in_data: str, seed: int) -> Training:
    update = {
        "acet_steps": scale.acet_steps,
        "epochs": scale.acet_epochs,
        "learning_rate": scale.acet_learning_rate,
    }
    return _varied("acet", main_training(scale, network, in_data, "softmax", seed), **update)


def fooling_target(scale: Scale, network: str, in_data: str) -> Training:
    """The network that fooling images are evolved against: of a seed that nothing else has."""
    return _varied("fooling", main_training(scale, network, in_data, "softmax", FOOLING_SEED))


def entropic_scale_trainings(scale: Scale) -> list[Training]:
    main = main_training(scale, *scale.study, "isomax", 0)
    return [_varied("entropic scale", main, entropic_scale=value) for value in ENTROPIC_SCALES]


def ablation_trainings(scale: Scale) -> list[Training]:
    main = main_training(scale, *scale.study, "isomax2", 0)
    return [_varied("ablation", main, **changed) for changed in ABLATION]


def fewer_images_trainings(scale: Scale, loss: str) -> list[Training]:
    """The same number of epochs on fewer images per class ([IsoMax2] figure 2)."""
    main = main_training(scale, *scale.study, loss, 0)
    return [
        Training("fewer images", main.in_data, main.recipe, per_class)
        for per_class in scale.images_per_class
    ]


def all_trainings(scale: Scale) -> list[Training]:
    """Everything the scale trains, in order; those the main tables need come first."""
    pairs = scale.pairs
    if scale.trained:
        return [main_training(scale, *pair, loss, 0) for pair in pairs for loss in scale.trained]
    plan = [
        main_training(scale, network, data, loss, seed)
        for seed in range(scale.seeds)
        for network, data in pairs
        for loss in MAIN_LOSSES
    ]
    plan += [fooling_target(scale, *pair) for pair in pairs]
    plan += [main_training(scale, *pair, "isomax+", 0) for pair in pairs]
    plan += [acet_training(scale, *pair, 0) for pair in pairs]
    if scale.study in pairs:
        plan += entropic_scale_trainings(scale) + ablation_trainings(scale)
        plan += fewer_images_trainings(scale, "softmax")
        plan += fewer_images_trainings(scale, "isomax2")
    return [training for training in plan if _wanted(scale, training)]


def _wanted(scale: Scale, training: Training) -> bool:
    if training.purpose == "fooling":
        return scale.fooling
    if training.purpose in STUDIES and training.purpose not in scale.studies:
        return False
    return training.loss in scale.losses


def first_of_each_class(images: LabelledImages, per_class: int | None) -> LabelledImages:
    """The first ``per_class`` images of each class, in order; all of them for None."""
    if per_class is None:
        return images
    chosen = [
        np.flatnonzero(images.labels == label)[:per_class] for label in range(len(images.classes))
    ]
    return images.take(np.sort(np.concatenate(chosen)))


def _varied(purpose: Purpose, training: Training, **update: object) -> Training:
    return Training(purpose, training.in_data, _changed(training.recipe, **update))


def _changed(recipe: Recipe, **update: object) -> Recipe:
    return Recipe.model_validate(recipe.model_dump() | update)
