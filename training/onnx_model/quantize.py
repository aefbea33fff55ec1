"""An exported model -> its int8 version: faster on CPUs, calibrated anew, its cost measured.

ONNX Runtime's static quantisation writes 8-bit weights, one scale a channel, and 8-bit activations
into the backbone; the head and everything after it stay float32, because the entropic score lives
in a band a few tenths of a nat wide. Statistics, scales and p-values are fitted again, through the
new graph.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata
from pydantic import BaseModel, ConfigDict, Field

from isoserve.models.card import (
    DEFAULT_ALPHA,
    DEFAULT_DELTA,
    INPUT_NAME,
    ModelCard,
    OpenShare,
    Share,
)
from isoserve.models.errors import InputError
from isoserve.training.data import LabelledImages
from isoserve.training.evaluation.evaluate import check_classes
from isoserve.training.hold_out import hold_out, smallest_calibration
from isoserve.training.onnx_model.export import set_card
from isoserve.training.onnx_model.fit_score import Guarantee, fit_score
from isoserve.training.onnx_model.half_weights import widen
from isoserve.training.onnx_model.quantization_report import QuantisationCost, measure_cost
from isoserve.training.out_distributions import OutDistribution

BACKBONE_SCOPE = "'classifier.backbone'"
"""Stands in the name scopes the exporter gives each node that came out of the backbone."""

OPERATORS = ("Add", "Clip", "Conv", "Gemm", "MatMul", "Relu")
"""What is quantised. Max-pooling is not: between 8-bit convolutions it cost a third of the gain.

Clip is the bounded ReLU of networks with depthwise convolutions: left out, ranges would have to
hold what it cuts off, and the network would leave 8 bits and return at each. Depthwise convolutions
are: with a scale a channel the 8 bits of the embedded EfficientNet-Lite0 chose the float32 class on
99.8 % of 600 images and ran at 1.8 times the speed, with those in float32 98.2 % and 1.3. Ranges by
percentile or entropy in place of the least and largest value changed neither.
"""

CALIBRATION_BATCH = 32


class QuantizeOptions(BaseModel):
    """How to quantise, and how much it may cost."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    range_images: int = Field(
        256, ge=1, description="Images that set the activations' ranges; not calibrated on."
    )
    seven_bit_weights: bool = Field(
        False, description="For processors without VNNI, whose 8-bit sums may overflow."
    )
    max_accuracy_loss: Share = Field(0.005, description="Refuse to write when more is lost.")
    max_auroc_loss: Share = Field(
        0.005, description="The same for the AUROC against any out-distribution."
    )
    alpha: OpenShare = Field(DEFAULT_ALPHA, description="Share that may be rejected.")
    delta: OpenShare = Field(DEFAULT_DELTA, description="Chance to exceed alpha.")
    seed: int = Field(0, ge=0, description="Chooses the range images.")


@dataclass(frozen=True)
class Quantized:
    """The int8 model with its card inside, and what it cost and brought."""

    model: onnx.ModelProto
    card: ModelCard
    cost: QuantisationCost


def quantize(
    model: onnx.ModelProto,
    card: ModelCard,
    images: LabelledImages,
    out_distributions: list[OutDistribution],
    options: QuantizeOptions,
    training: LabelledImages | None = None,
) -> Quantized:
    """Quantise, calibrate, measure.

    Args:
        model: as :func:`isoserve.training.onnx_model.export.export_network` makes it; not changed.
        images: of the model's classes, none of which the weights have seen. Some set the ranges of
            the activations, the others calibrate and are what the cost is measured on.

        training: what the weights were trained on, for the statistics of the int8 features; the
            float32 ones stay if not given.

    Raises:
        InputError: other classes, too few images, a graph this program did not export or has
            quantised before, or a loss over the options' bounds.
    """
    check_classes(images, card)
    if card.precision != "float32":
        raise InputError(f"the model is {card.precision} already; give the float32 one")
    needed = options.range_images + smallest_calibration(options.alpha, options.delta)
    if len(images) < needed:
        raise InputError(
            f"{len(images)} images are too few: {options.range_images} set the ranges "
            f"(--range-images), and with those to calibrate on at least {needed} are needed"
        )
    rest, chosen = hold_out(images.labels, options.range_images, options.seed)
    ranges, held_out = images.take(chosen), images.take(rest)
    graph = to_int8(model, ranges.pixels, seven_bit_weights=options.seven_bit_weights)
    guarantee = Guarantee(options.alpha, options.delta)
    fitted = fit_score(graph, training, held_out, guarantee, card)
    cost = measure_cost(model, fitted.model, held_out, out_distributions)
    _check_bounds(cost, options)
    new_card = fitted.added_to(card).model_copy(
        update={
            "precision": "int8",
            "recipe": card.recipe | {"quantisation": _recipe(options, cost)},
            "versions": card.versions | {"onnxruntime": onnxruntime.__version__},
            "created": datetime.now(UTC).replace(microsecond=0),
        }
    )
    set_card(fitted.model, new_card)
    return Quantized(fitted.model, new_card, cost)


def to_int8(
    model: onnx.ModelProto, pixels: NDArray[np.uint8], *, seven_bit_weights: bool = False
) -> onnx.ModelProto:
    """The graph with its backbone in 8 bits, without a card.

    Args:
        pixels: uint8 [N, H, W, 3], images whose activations set the ranges.

    Raises:
        InputError: no node of the graph is known to be the backbone's.
    """
    nodes = [
        node for node in model.graph.node if node.op_type in OPERATORS and _is_of_backbone(node)
    ]
    if not nodes:
        raise InputError(
            "the graph names no convolution or product of its backbone: it was not exported by "
            "this program, or was rewritten since"
        )
    source = onnx.ModelProto()
    source.CopyFrom(model)  # the quantiser empties the model it is given
    widen(source, {name for node in nodes for name in node.input})  # it reads no cast weight
    _import_operators_once(source)
    add_pre_process_metadata(source)  # the exporter has fused what there is to fuse
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "int8.onnx"
        quantize_static(
            source,
            target,
            _Batches(pixels),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS),
            nodes_to_quantize=[node.name for node in nodes],
            per_channel=True,
            reduce_range=seven_bit_weights,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        quantised = onnx.load_model(target)
    del quantised.metadata_props[:]
    del quantised.graph.value_info[:]  # shapes of the old calibration scores
    return quantised


def _import_operators_once(model: onnx.ModelProto) -> None:
    """A merged graph may import ONNX's own operators twice, by both of the domain's names."""
    of_onnx = [each for each in model.opset_import if each.domain in ("", "ai.onnx")]
    for repeated in of_onnx[1:]:
        model.opset_import.remove(repeated)


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """Feeds the images to ONNX Runtime's quantiser."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        starts = range(0, len(pixels), CALIBRATION_BATCH)
        self._batches: Iterator[dict[str, NDArray[np.uint8]]] = iter(
            [{INPUT_NAME: pixels[start : start + CALIBRATION_BATCH]} for start in starts]
        )

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return next(self._batches, None)


def _is_of_backbone(node: onnx.NodeProto) -> bool:
    scopes = {entry.key: entry.value for entry in node.metadata_props}
    return BACKBONE_SCOPE in scopes.get("pkg.torch.onnx.name_scopes", "")


def _check_bounds(cost: QuantisationCost, options: QuantizeOptions) -> None:
    losses = [("accuracy", cost.accuracy, "--max-accuracy-loss", options.max_accuracy_loss)]
    losses += [
        (f"AUROC against {name}", change, "--max-auroc-loss", options.max_auroc_loss)
        for name, change in cost.auroc.items()
    ]
    for what, change, flag, bound in losses:
        if not change.loss <= bound:
            raise InputError(
                f"int8 loses {change.loss:.4f} of {what} ({change.float32:.4f} to "
                f"{change.int8:.4f}, n {cost.n}), more than {flag} {bound}; nothing was written"
            )


def _recipe(options: QuantizeOptions, cost: QuantisationCost) -> dict[str, Any]:
    return {
        "weights": f"int8 per channel{', 7 bits' if options.seven_bit_weights else ''}",
        "activations": "uint8 per tensor",
        "head": "float32",
        "range_images": options.range_images,
        "seed": options.seed,
        "cost": {
            "n": cost.n,
            "accuracy": cost.accuracy.as_dict(),
            "auroc": {name: change.as_dict() for name, change in cost.auroc.items()},
        },
    }
