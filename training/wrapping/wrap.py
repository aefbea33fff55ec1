"""``isoserve.wrap``: a classifier trained elsewhere learns to say "I don't know", untrained."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper
from scipy.special import softmax
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
from isoserve.models.errors import InputError
from isoserve.models.heads import SoftMaxHead
from isoserve.models.served_model import FEATURES
from isoserve.models.text import printable
from isoserve.training.atomic import check_writable
from isoserve.training.data import LabelledImages, load_class_folders, split
from isoserve.training.hold_out import evenly_spread
from isoserve.training.onnx_graph import read_model, run_graph, up_to
from isoserve.training.onnx_model.export import Description, card_of, save, set_card
from isoserve.training.onnx_model.fit_score import Guarantee, fit_score
from isoserve.training.onnx_model.parity import BARS, check_features
from isoserve.training.onnx_model.upgrade import with_verdict
from isoserve.training.recipe import Recipe
from isoserve.training.wrapping.accuracy import check_accuracy
from isoserve.training.wrapping.linear_layer import LastLayer, find_last_layer, read_head
from isoserve.training.wrapping.module import network_of_module
from isoserve.training.wrapping.network import ForeignNetwork, read_network, run
from isoserve.training.wrapping.preprocessing import Preprocessing, checked_preprocessing

NETWORK = "network/"
"""Before the inner names of the classifier's own graph."""

HELD_OUT = 0.5

HALF_BAR = 0.02
"""For classifiers that compute in 16 bits, in place of the bar of the probabilities."""


def wrap(
    classifier: nn.Module | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    input_size: int | tuple[int, int] | None = None,
    mean: Sequence[float] | float = 0.0,
    std: Sequence[float] | float = 1.0,
    bgr: bool = False,
    value_range: str = "0..1",
    layout: str | None = None,
    features: str | None = None,
    crop: float = 1.0,
    training: str | os.PathLike[str] | None = None,
    expect_accuracy: float | None = None,
    name: str | None = None,
    score: ScoreKind = "combined",
    alpha: float = DEFAULT_ALPHA,
    delta: float = DEFAULT_DELTA,
    held_out: float = HELD_OUT,
    seed: int = 0,
    licence: str = "",
    note: str = "",
) -> ModelCard:
    """Write a classifier with a plain softmax layer as one file that gives verdicts. No training.

    The file has the classes of the classifier, the entropic score of its probabilities, the
    boundary and density scores of its features, their combination and conformal p-values.

    Args:
        classifier: an ONNX file, float images -> logits or probabilities; or an ``nn.Module``.
        path: the model file to write, such as ``model_repository/pets/1/model.onnx``; written
            whole or not at all, missing folders are made.
        images: folder CLASS/* of in-distribution images that the classifier was *not* trained
            on: one part sets the statistics of the features, the other calibrates.
        classes: class names by output index; the folder's names in order if not given. The folder
            need not have images of all.
        input_size: side of the input in pixels, or (height, width); the graph's own if not given.
        mean: of each channel, in units of ``value_range`` and the order of the network's channels;
            it is subtracted, and the result divided by ``std``. One number stands for three.
        std: see ``mean``.
        bgr: the network takes blue first.
        value_range: what the pixels are brought to before: ``0..1`` or ``0..255``.
        layout: ``nchw`` or ``nhwc``; the graph's own if not given.
        features: of an ONNX file, the tensor that the last linear layer takes; of a module, the
            name of that layer or of the submodule whose output it takes. Found if not given.
        crop: share of both sides that the input shows, from the middle of an image: 0.875 where
            images were resized to 256 and 224 cut out.
        training: folder CLASS/* of images that the classifier was trained on, for the statistics;
            all of ``images`` calibrate then.
        expect_accuracy: share of ``images`` that should be classified right; more than 0.1 less
            is refused. If not given, under one half is refused, and more than 0.1 less than
            another usual preprocessing gives.
        name: the model's name, for the card; of the file or the class if not given.
        score: what decides: ``combined`` or ``entropic``.
        alpha: share of in-distribution images that may be rejected.
        delta: chance that the realised share exceeds alpha at the card's ``guaranteed_alpha``.
        held_out: share of ``images`` that calibrates.
        seed: fixes which.
        licence: of the weights, for the card.
        note: on the images, for the card.

    Returns:
        The card that the file carries.

    Raises:
        InputError: what does not fit, in one line; nothing is written then.
    """
    target = Path(path)
    for argument, share in (("alpha", alpha), ("delta", delta), ("held_out", held_out)):
        _check_share(argument, share)
    if expect_accuracy is not None and not 0 < expect_accuracy <= 1:
        raise InputError(f"expect_accuracy is {expect_accuracy}; it must be above 0 and at most 1")
    if not 0 < crop <= 1:
        raise InputError(f"crop is {crop}; it must be above 0 and at most 1")
    if score not in get_args(ScoreKind):
        raise InputError(f"score is {score!r}; it must be one of {', '.join(get_args(ScoreKind))}")
    if name is not None:
        check_model_name(name, "name")
    size = None if input_size is None else _height_width(input_size)
    stated = checked_preprocessing(
        mean, std, bgr=bgr, value_range=value_range, layout=layout or "nchw"
    )
    if isinstance(classifier, nn.Module):
        if size is None:
            raise InputError("a module does not say the size of its images: give it by input_size")
        network = network_of_module(classifier, stated.layout, size, features)
    else:
        if target.exists() and Path(classifier).exists() and target.samefile(classifier):
            raise InputError(f"{target} is the classifier's own file; it is kept")
        network = read_network(Path(classifier), features)
        stated = replace(stated, layout=network.layout(layout))
        size = network.size(stated.layout, size)
    spec = InputSpec(height=size[0], width=size[1], crop=crop)
    found = _labelled(Path(images), spec, classes)
    seen = None if training is None else _labelled(Path(training), spec, found.classes)
    recipe = Recipe(held_out=held_out, alpha=alpha, delta=delta, seed=seed)
    statistics, calibration = split(found, recipe) if seen is None else (seen, found)
    foreign = Foreign.of(network, stated, found, expect_accuracy)
    check_writable(target.parent)
    fresh = with_verdict(foreign.up_to_features(spec), foreign.head, score)
    fitted = fit_score(fresh, statistics, calibration, Guarantee(alpha, delta))
    foreign.check(fitted.model, found)
    description = Description(
        name=name or _name_of(network),
        classes=list(found.classes),
        input=spec,
        mean=list(stated.mean),
        std=list(stated.std),
        network=network.name,
        data=DataSummary(
            name=found.name,
            digest=found.digest(),
            training_images=0 if seen is None else len(seen),
            calibration_images=fitted.calibration.n,
            note=note,
        ),
        seed=seed,
        recipe={
            "recipe": "wrap",
            "held_out": held_out,
            "alpha": alpha,
            "delta": delta,
            "mean": list(stated.mean),
            "std": list(stated.std),
            "bgr": stated.bgr,
            "range": stated.value_range,
            "layout": stated.layout,
            "features": foreign.layer.features,
        },
        licence=licence,
    )
    card = card_of(description, fitted, _parameters(network), "softmax")
    set_card(fitted.model, card)
    save(fitted.model, target)
    return read_model(target)[1]


@dataclass(frozen=True)
class Foreign:
    """A classifier that was understood: its preprocessing, its features, its linear layer."""

    network: ForeignNetwork
    preprocessing: Preprocessing
    layer: LastLayer
    head: SoftMaxHead

    @classmethod
    def of(
        cls,
        network: ForeignNetwork,
        stated: Preprocessing,
        images: LabelledImages,
        expected: float | None,
    ) -> Foreign:
        """Take a network apart and check it on the images.

        Raises:
            InputError: it cannot be, or its accuracy is far below what is expected.
        """
        few = stated.apply(images.take(evenly_spread(len(images), 7)).pixels)
        layer = find_last_layer(network, few, len(images.classes))

        def predict(other: Preprocessing, pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
            parts = [
                run(network.model, other.apply(pixels[start : start + 64]), [layer.logits])[0]
                for start in range(0, len(pixels), 64)
            ]
            rows = np.concatenate(parts).reshape(len(pixels), -1)
            found: NDArray[np.int64] = rows.argmax(axis=1).astype(np.int64)
            return found

        check_accuracy(predict, stated, images, expected)
        return cls(network, stated, layer, read_head(network, layer, few))

    def up_to_features(self, spec: InputSpec) -> onnx.ModelProto:
        """uint8 images [N, H, W, 3] -> ``features`` [N, D]."""
        model = compose.add_prefix(up_to(self.network.model, self.layer.features), NETWORK)
        graph = model.graph
        last = graph.output[0].name
        flat = NETWORK + "flat"
        graph.node.append(helper.make_node("Flatten", [last], [flat], axis=1))
        graph.node.append(helper.make_node("Cast", [flat], [FEATURES], to=TensorProto.FLOAT))
        del graph.output[:]
        graph.output.append(helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["N", None]))
        taken = graph.input[0].name
        before = self.preprocessing.graph(spec, NETWORK + "input", model)
        return compose.merge_models(before, model, io_map=[(NETWORK + "input", taken)])

    def check(self, model: onnx.ModelProto, images: LabelledImages) -> None:
        """Compare the finished model with the classifier, at batch 1 and 7, and with float64.

        Raises:
            InputError: the difference, and the largest allowed.
        """
        pixels = images.take(evenly_spread(len(images), 14)).pixels
        check_features(self.head, model, pixels)
        prepared = self.preprocessing.apply(pixels)
        (own,) = run(self.network.model, prepared[:7], [self.layer.logits])
        expected = softmax(self.layer.logits_of(own), axis=1)
        bar = HALF_BAR if self.network.half else BARS["probabilities"]
        for batch in (1, 7):
            found = run_graph(model, pixels[:7], batch, ("distances",))["distances"]
            apart = float(np.abs(softmax(-found.astype(np.float64), axis=1) - expected).max())
            if not apart <= bar:
                raise InputError(
                    f"wrap refused: the probabilities differ by {apart:.2g} from the classifier's "
                    f"at batch {batch}; at most {bar:.0e} is allowed: was it exported for one "
                    "batch size?"
                )


def _labelled(folder: Path, spec: InputSpec, classes: Sequence[str] | None) -> LabelledImages:
    """The folder's images, labelled by the place of their class among ``classes``."""
    found = load_class_folders(folder, spec)
    if classes is None:
        return found
    names = list(classes)
    if len(set(names)) != len(names):
        twice = next(each for each in names if names.count(each) > 1)
        raise InputError(f"class {printable(twice)!r} is named twice; names must differ")
    unknown = [each for each in found.classes if each not in names]
    if unknown:
        raise InputError(
            f"{printable(str(folder))} holds {', '.join(unknown[:5])}, which the classes are not: "
            f"{', '.join(printable(each) for each in names[:10])}"
        )
    places = np.array([names.index(each) for each in found.classes])
    return replace(found, labels=places[found.labels], classes=tuple(names))


def _height_width(size: int | tuple[int, int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    if not (0 < height <= 4096 and 0 < width <= 4096):
        raise InputError(f"input_size is {size}; a side must be from 1 to 4096 pixels")
    return height, width


def _check_share(argument: str, share: float) -> None:
    if not 0 < share < 1:
        raise InputError(f"{argument} is {share}; it must be between 0 and 1")


def _name_of(network: ForeignNetwork) -> str:
    stem = network.name.removesuffix(".onnx")
    clean = re.sub(r"[^A-Za-z0-9._-]", "-", stem)
    return clean.lstrip("._-")[:64] or "model"


def _parameters(network: ForeignNetwork) -> int:
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
    found = [each for each in network.model.graph.initializer if each.data_type in floats]
    return max(sum(int(numpy_helper.to_array(each).size) for each in found), 1)
