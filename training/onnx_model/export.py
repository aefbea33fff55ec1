"""A trained classifier -> one self-describing ``model.onnx``.

The graph holds everything between pixels and verdict: normalisation, network, head, entropic
score, class temperature and the conformal p-values with the calibration scores they count, so
that any ONNX runtime gives the verdict from this one file.
"""

from __future__ import annotations

import importlib.metadata
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from isoserve.models.card import (
    CARD_KEY,
    DEFAULT_ALPHA,
    DEFAULT_DELTA,
    INPUT_NAME,
    DataSummary,
    InputSpec,
    Loss,
    ModelCard,
    ScoreKind,
)
from isoserve.models.classifier import Classifier
from isoserve.models.errors import InputError
from isoserve.models.heads import HEADS, IsoMax2Head
from isoserve.models.resampling import IS_VECTORISED
from isoserve.models.served_model import FEATURES, PlainModel, ServedModel
from isoserve.training.atomic import atomic_path
from isoserve.training.checkpoint import Checkpoint
from isoserve.training.data import LabelledImages
from isoserve.training.hold_out import evenly_spread
from isoserve.training.onnx_graph import without_output
from isoserve.training.onnx_model.fit_score import FittedScore, Guarantee, fit_score
from isoserve.training.onnx_model.node_fusion import fuse
from isoserve.training.onnx_model.parity import check_parity

OPSET = 20

IR_VERSION = 9
"""Of the file: what opset 20 needs, and what runtimes two years old still load (10 they refuse)."""

_TRACES = ("pkg.torch.onnx.stack_trace", "pkg.torch.onnx.fx_node")


@dataclass(frozen=True)
class ExportImages:
    """The images that the exported file is fitted on, at the input's size."""

    held_out: LabelledImages
    """In-distribution images the weights have never seen; they scale the views and calibrate."""
    training: LabelledImages | None = None
    """What the weights were trained on, for the statistics of the features."""


@dataclass(frozen=True)
class Description:
    """What an exported model's card says besides what the export itself measures."""

    name: str
    classes: list[str]
    """By output index."""
    input: InputSpec
    mean: list[float]
    """Of each channel of the pixels in 0..1, as the network was trained; ``std`` likewise."""
    std: list[float]
    network: str
    """The backbone's name."""
    data: DataSummary
    seed: int = 0
    recipe: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    licence: str = ""
    alpha: float = DEFAULT_ALPHA
    delta: float = DEFAULT_DELTA
    score: ScoreKind | None = None
    """Which score decides; if not given, the combined one where training images are at hand."""


def export_checkpoint(
    checkpoint: Checkpoint,
    images: ExportImages,
    *,
    name: str,
    score: ScoreKind | None = None,
    licence: str = "",
    note: str = "",
) -> onnx.ModelProto:
    """Export a training run's network, as :func:`export_network` does."""
    recipe = checkpoint.parsed_recipe()
    return export_network(
        checkpoint.classifier(),
        images,
        Description(
            name=name,
            classes=checkpoint.classes,
            input=checkpoint.input_spec(),
            mean=checkpoint.mean,
            std=checkpoint.std,
            network=recipe.network,
            data=DataSummary(
                name=checkpoint.data_name,
                digest=checkpoint.data_digest,
                training_images=checkpoint.training_images,
                calibration_images=len(images.held_out),
                note=note,
            ),
            seed=recipe.seed,
            recipe=recipe.model_dump(exclude={"network", "loss", "seed"}),
            command=checkpoint.command,
            licence=licence,
            alpha=recipe.alpha,
            delta=recipe.delta,
            score=score,
        ),
    )


def export_network(
    network: nn.Module, images: ExportImages, description: Description
) -> onnx.ModelProto:
    """Export, fit scores and calibration through the graph, check parity, attach the card.

    Args:
        network: normalised images float [N, 3, H, W] -> :class:`isoserve.models.heads.Logits`, on
            the CPU and in evaluation mode. A :class:`isoserve.models.classifier.Classifier` with
            one of our heads gives every view; of any other network the features are not known,
            and it gets a file of schema 1, whose entropic score decides.

    Raises:
        InputError: a scale <= 0, too few held-out images, a combined score of a network whose
            features are not known or without training images, or an output that differs between
            torch, float64 NumPy and ONNX Runtime by more than the bars of
            :mod:`isoserve.training.onnx_model.parity`.
    """
    _check_scales(network)
    score = _score_of(network, images, description)
    classes, mean, std = len(description.classes), description.mean, description.std
    served: ServedModel | PlainModel
    if score is None:
        served = PlainModel(network, classes, mean, std).eval()
    else:
        assert isinstance(network, Classifier)
        served = ServedModel(network, mean, std, score).eval()
    spec = description.input
    example = torch.zeros(2, spec.height, spec.width, 3, dtype=torch.uint8)
    graph = to_onnx(served, example, served.output_names)
    guarantee = Guarantee(description.alpha, description.delta)
    fitted = fit_score(graph, images.training, images.held_out, guarantee)
    model = without_output(fitted.model, FEATURES)
    few = images.held_out.take(evenly_spread(len(images.held_out), 64))
    check_parity(served, model, few.pixels)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    card = card_of(description, fitted, parameters, loss_of(network))
    set_card(model, card)
    return model


def card_of(
    description: Description, fitted: FittedScore, parameters: int, loss: Loss
) -> ModelCard:
    """What a model says of itself that was fitted just now."""
    return ModelCard(
        schema_version=1 if fitted.statistics is None else 2,
        score=fitted.score,
        combination=fitted.combination,
        statistics=fitted.statistics,
        name=description.name,
        classes=description.classes,
        input=description.input,
        network=description.network,
        parameters=parameters,
        loss=loss,
        data=description.data.model_copy(update={"calibration_images": fitted.calibration.n}),
        seed=description.seed,
        recipe=description.recipe,
        versions=_versions(),
        command=description.command,
        calibration=fitted.calibration,
        held_out=[fitted.held_out],
        licence=description.licence,
        created=datetime.now(UTC).replace(microsecond=0),
    )


def has_views(network: nn.Module) -> bool:
    """Whether the network's features and its head's class boundaries are known."""
    return isinstance(network, Classifier) and type(network.head) in HEADS.values()


def _score_of(
    network: nn.Module, images: ExportImages, description: Description
) -> ScoreKind | None:
    """The score that decides; none for a network without views."""
    if has_views(network):
        return description.score or ("combined" if images.training else "entropic")
    if description.score == "combined":
        raise InputError(
            f"a combined score needs the features: wrap the backbone and one of our heads in "
            f"isoserve.Classifier; this is a {type(network).__name__}"
        )
    return None


def loss_of(network: nn.Module) -> Loss:
    """The card's name of the head anywhere in the network; ``custom`` where it has none of ours."""
    for module in network.modules():
        for name, head in HEADS.items():
            if type(module) is head:
                return cast("Loss", name)
    return "custom"


def to_onnx(
    network: nn.Module,
    example: Tensor,
    output_names: Sequence[str],
    input_name: str = INPUT_NAME,
) -> onnx.ModelProto:
    """Trace ``network(example)`` with a dynamic batch into one ONNX model without external data."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own dependencies
        program: Any = torch.onnx.export(
            network,
            (example,),
            input_names=[input_name],
            output_names=list(output_names),
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            opset_version=OPSET,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    model: onnx.ModelProto = program.model_proto
    model.ir_version = IR_VERSION
    del model.graph.value_info[:]  # shapes of the placeholders
    forget_sources(model)
    fuse(model)
    return model


def forget_sources(model: onnx.ModelProto) -> None:
    """Drop the exporter's stack traces: they name folders of the machine that trained."""
    for node in model.graph.node:
        kept = [entry for entry in node.metadata_props if entry.key not in _TRACES]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)


def set_card(model: onnx.ModelProto, card: ModelCard) -> None:
    """Attach the card, in place of any former one."""
    entries = {entry.key: entry.value for entry in model.metadata_props}
    entries[CARD_KEY] = card.model_dump_json()
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, entries)


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write the model whole or not at all."""
    onnx.checker.check_model(model)
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def _check_scales(network: nn.Module) -> None:
    for head in network.modules():
        if isinstance(head, IsoMax2Head) and not bool((head.scales > 0).all()):
            smallest = float(np.min(head.scales.detach().numpy()))
            raise InputError(
                f"the smallest learned scale is {smallest:.3g}: with a scale <= 0 a farther "
                "prototype would be the likelier class; train again with a smaller learning rate"
            )


def _versions() -> dict[str, str]:
    packages = ("isoserve", "torch", "onnx", "onnxscript", "onnxruntime", "numpy", "pillow")
    found = {package: importlib.metadata.version(package) for package in packages}
    if IS_VECTORISED:
        found["cykooz-resizer"] = importlib.metadata.version("cykooz-resizer")
    return found
