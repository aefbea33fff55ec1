"""What a run leaves on disk: one file, written whole or not at all, read without pickled code."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from isoserve.models.card import InputSpec
from isoserve.models.classifier import Classifier
from isoserve.models.errors import InputError
from isoserve.training.atomic import atomic_path
from isoserve.training.recipe import Recipe

FILE_NAME = "checkpoint.pt"


@dataclass(frozen=True)
class Checkpoint:
    """A training run after some whole number of epochs."""

    recipe: dict[str, Any]
    command: str
    source: str
    data_name: str
    data_digest: str
    training_images: int
    classes: list[str]
    input: dict[str, Any]
    mean: list[float]
    std: list[float]
    history: list[dict[str, float]]
    weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    loss_scale: dict[str, Any] = field(default_factory=dict)
    """State of 16-mixed's gradient scaler, empty in other precisions."""
    averaged: dict[str, Tensor] = field(default_factory=dict)
    """The weights' moving average, which is what is served; empty where the recipe has none."""

    @property
    def epoch(self) -> int:
        return len(self.history)

    def parsed_recipe(self) -> Recipe:
        return Recipe.model_validate(self.recipe)

    def input_spec(self) -> InputSpec:
        return InputSpec.model_validate(self.input)

    def classifier(self) -> Classifier:
        """The network with this checkpoint's weights, in evaluation mode."""
        recipe = self.parsed_recipe()
        classifier = recipe.fresh_classifier(len(self.classes))
        classifier.load_state_dict(self.averaged or self.weights)
        return classifier.eval()

    def save(self, folder: Path) -> None:
        """Replace ``folder/checkpoint.pt`` atomically: a kill leaves the old or the new file."""
        with atomic_path(folder / FILE_NAME) as temporary:
            torch.save(asdict(self), temporary)

    @classmethod
    def load(cls, folder: Path) -> Checkpoint:
        """Read ``folder/checkpoint.pt``; tensors and plain values only, never code.

        Raises:
            InputError: no such file, one that cannot be read, no checkpoint of ours, or one whose
                recipe this version does not know.
        """
        path = folder / FILE_NAME
        if not path.is_file():
            raise InputError(f"no {FILE_NAME} in {folder}: give the --output folder of a training")
        try:
            fields = torch.load(path, map_location="cpu", weights_only=True)
            checkpoint = cls(**fields)
            checkpoint.parsed_recipe()
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InputError(
                f"{path} has a recipe this version does not know: {where}: {first['msg']}"
            ) from error
        except OSError as error:
            raise InputError(f"cannot read '{path}': {error.strerror or error}") from error
        except Exception as error:  # of foreign bytes the reader of pickles raises almost anything
            raise InputError(f"{path} is damaged or not a checkpoint of this program") from error
        return checkpoint
