"""Any trained network of one's own -> a self-describing ``model.onnx``: ``isoserve.export``."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from isoserve.models.card import (
    DEFAULT_ALPHA,
    DEFAULT_DELTA,
    DataSummary,
    InputSpec,
    ModelCard,
    ScoreKind,
    check_model_name,
)
from isoserve.models.classifier import Classifier
from isoserve.models.errors import InputError
from isoserve.models.preprocessing import to_pixels
from isoserve.training.atomic import check_writable
from isoserve.training.data import LabelledImages, load_class_folders
from isoserve.training.onnx_graph import read_model
from isoserve.training.onnx_model.export import Description, ExportImages, export_network, save

Images: TypeAlias = (
    "str | os.PathLike[str] | tuple[NDArray[np.uint8], Sequence[int] | NDArray[Any]]"
)
"""A folder CLASS/*, or images uint8 [N, H, W, 3], RGB, with their labels [N], from 0."""


def export(
    network: nn.Module,
    path: str | os.PathLike[str],
    *,
    calibration: Images,
    training: Images | None = None,
    classes: Sequence[str] | None = None,
    input_size: int | tuple[int, int],
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.5, 0.5, 0.5),
    name: str = "model",
    score: ScoreKind | None = None,
    alpha: float = DEFAULT_ALPHA,
    delta: float = DEFAULT_DELTA,
    licence: str = "",
    note: str = "",
) -> ModelCard:
    """Write a trained network as one file that serves anywhere, calibrated and checked.

    The network is copied first: its device, mode and weights stay as they are. Images of another
    size are brought to the input as the server brings them: centre crop, then bicubic resize.

    Args:
        network: normalised images float [N, 3, H, W] -> Logits: a :class:`isoserve.Classifier`,
            or any module that returns :class:`isoserve.Logits`.
        path: the model file, such as ``model_repository/pets/1/model.onnx``; written whole or not
            at all, missing folders are made.
        calibration: in-distribution images the weights have *never* seen; from these come the
            class temperature and the p-values. 59 at the least with the default alpha and delta;
            a combined score sets a fifth of them aside for the scales of its views.
        training: what the network was trained on, for the statistics of its features and for the
            card: its count and its digest.
        classes: class names by output index; the folder's names in order if not given.
        input_size: side of the network's input in pixels, or (height, width).
        mean: of each channel of the pixels in 0..1 that the network was trained with; it is
            subtracted in the graph, and the result divided by ``std``.
        std: see ``mean``.
        name: the model's name, for the card.
        score: what decides: ``entropic``, the score of the distances alone, or ``combined`` with
            boundary and density, which needs ``training`` and a :class:`isoserve.Classifier`.
            Combined if not given and both are there.
        alpha: share of in-distribution images that may be rejected.
        delta: chance that the realised share exceeds alpha at the card's ``guaranteed_alpha``.
        licence: of the weights, for the card.
        note: on the images, for the card.

    Returns:
        The card that the file carries.

    Raises:
        InputError: an argument that does not fit the network or the others, too few images, or a
            graph whose outputs differ from the network's.
    """
    path = Path(path)
    check_model_name(name, "name")
    if score not in (None, *get_args(ScoreKind)):
        raise InputError(f"score is {score!r}; it must be one of {', '.join(get_args(ScoreKind))}")
    for argument, share in (("alpha", alpha), ("delta", delta)):
        if not 0 < share < 1:
            raise InputError(f"{argument} is {share}; it must be between 0 and 1")
    spec = _input_spec(input_size)
    held_out = _labelled("calibration", calibration, classes, spec)
    names = list(held_out.classes)
    seen = None if training is None else _labelled("training", training, names, spec)
    copied = copy.deepcopy(network).cpu().float().eval()
    _check_logits(copied, spec, len(names))
    check_writable(path.parent)
    description = Description(
        name=name,
        classes=names,
        input=spec,
        mean=_three("mean", mean),
        std=_three("std", std, positive=True),
        network=_network_name(network),
        data=DataSummary(
            name=(seen or held_out).name,
            digest="" if seen is None else seen.digest(),
            training_images=0 if seen is None else len(seen),
            calibration_images=len(held_out),
            note=note,
        ),
        licence=licence,
        alpha=alpha,
        delta=delta,
        score=score,
    )
    save(export_network(copied, ExportImages(held_out, seen), description), path)
    return read_model(path)[1]


def _input_spec(size: int | tuple[int, int]) -> InputSpec:
    height, width = (size, size) if isinstance(size, int) else size
    if not (0 < height <= 4096 and 0 < width <= 4096):
        raise InputError(f"input_size is {size}; a side must be from 1 to 4096 pixels")
    return InputSpec(height=height, width=width)


def _three(argument: str, values: Sequence[float], *, positive: bool = False) -> list[float]:
    numbers = [float(value) for value in values]
    if len(numbers) != 3 or not np.isfinite(numbers).all() or (positive and min(numbers) <= 0):
        what = "three positive numbers" if positive else "three numbers"
        raise InputError(f"{argument} is {numbers}; it must be {what}, one per channel")
    return numbers


def _labelled(
    argument: str, images: Images, classes: Sequence[str] | None, spec: InputSpec
) -> LabelledImages:
    if isinstance(images, (str, os.PathLike)):
        found = load_class_folders(Path(images), spec)
        return found if classes is None else _in_order(argument, found, list(classes))
    if not isinstance(images, tuple) or len(images) != 2:
        raise InputError(
            f"{argument} is a {type(images).__name__}; it must be a folder CLASS/* or a pair of "
            "images uint8 [N, H, W, 3] and their labels [N]"
        )
    if classes is None:
        raise InputError(f"{argument} is given as arrays; classes must name their labels, then")
    pixels, labels = np.asarray(images[0]), np.asarray(images[1])
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        raise InputError(
            f"{argument}'s images are {pixels.dtype} {list(pixels.shape)}; "
            "they must be uint8 [N, H, W, 3], RGB"
        )
    if labels.shape != (len(pixels),) or labels.dtype.kind not in "iu":
        raise InputError(
            f"{argument}'s labels are {labels.dtype} {list(labels.shape)}; "
            f"they must be whole numbers [{len(pixels)}], one per image"
        )
    if len(labels) and not (labels.min() >= 0 and labels.max() < len(classes)):
        raise InputError(
            f"{argument}'s labels run from {labels.min()} to {labels.max()}; with "
            f"{len(classes)} classes they must be from 0 to {len(classes) - 1}"
        )
    if pixels.shape[1:3] != (spec.height, spec.width):
        pixels = np.stack([to_pixels(Image.fromarray(image), spec) for image in pixels])
    return LabelledImages("arrays", pixels, labels.astype(np.int64), tuple(classes))


def _in_order(argument: str, found: LabelledImages, classes: list[str]) -> LabelledImages:
    """The folder's images with labels of the given order, not the alphabetical one."""
    if sorted(found.classes) != sorted(classes):
        raise InputError(
            f"{argument}'s folders are {', '.join(found.classes)}; they must be the classes: "
            f"{', '.join(classes)}"
        )
    places = np.array([classes.index(name) for name in found.classes])
    return replace(found, labels=places[found.labels], classes=tuple(classes))


@torch.no_grad()
def _check_logits(network: nn.Module, spec: InputSpec, classes: int) -> None:
    found = network(torch.zeros(2, 3, spec.height, spec.width))
    shapes = [
        tuple(logits.shape)
        for name in ("cold_logits", "score_logits")
        if isinstance(logits := getattr(found, name, None), torch.Tensor)
    ]
    if len(shapes) != 2:
        raise InputError(
            f"the network returns a {type(found).__name__}; it must return isoserve.Logits, as "
            "isoserve.Classifier(backbone, head) does"
        )
    if set(shapes) != {(2, classes)}:
        raise InputError(
            f"the network's logits of 2 images are {shapes[0]} and {shapes[1]}; with {classes} "
            f"classes they must be (2, {classes})"
        )


def _network_name(network: nn.Module) -> str:
    return type(network.backbone if isinstance(network, Classifier) else network).__name__
