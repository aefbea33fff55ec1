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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from isoserve.models.card import CARD_KEY, INPUT_NAME, OUTPUT_NAMES, DataSummary, ModelCard
from isoserve.models.classifier import Classifier
from isoserve.models.errors import InputError
from isoserve.models.heads import IsoMax2Head
from isoserve.models.scores import entropic_score
from isoserve.training.atomic import atomic_path
from isoserve.training.checkpoint import Checkpoint
from isoserve.training.data import LabelledImages, evenly_spread
from isoserve.training.onnx_model.calibrate import calibrate
from isoserve.training.onnx_model.parity import check_parity

OPSET = 20

_TRACES = ("pkg.torch.onnx.stack_trace", "pkg.torch.onnx.fx_node")


class ServedModel(nn.Module):
    """uint8 images [N, H, W, 3] -> the outputs of :data:`isoserve.models.card.OUTPUT_NAMES`.

    The calibration buffers are placeholders until
    :mod:`isoserve.training.onnx_model.calibrate` sets them in the exported graph; their names are
    the initialisers' names there. Denominators are n + 1 as they stand: the exporter would fold
    an addition away, and the name with it.
    """

    mean: Tensor
    std: Tensor
    temperature: Tensor
    calibration_scores: Tensor
    calibration_denominator: Tensor
    class_calibration_scores: Tensor
    class_calibration_denominators: Tensor

    def __init__(self, classifier: Classifier, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.classifier = classifier
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1))
        classes = classifier.head.num_classes
        self.register_buffer("temperature", torch.ones(1))
        self.register_buffer("calibration_scores", torch.zeros(1, 2))
        self.register_buffer("calibration_denominator", torch.full((1,), 3.0))
        self.register_buffer("class_calibration_scores", torch.zeros(classes, 2))
        self.register_buffer("class_calibration_denominators", torch.full((classes,), 3.0))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        pixels = images.permute(0, 3, 1, 2).float()
        logits = self.classifier((pixels - self.mean) / self.std)
        probabilities = torch.softmax(logits.cold_logits / self.temperature, dim=1)
        score = entropic_score(logits.score_logits)  # [N]
        p_value = _p_value(score, self.calibration_scores, self.calibration_denominator)
        predicted = logits.cold_logits.argmax(dim=1)
        class_p_value = _p_value(
            score,
            self.class_calibration_scores.index_select(0, predicted),
            self.class_calibration_denominators.index_select(0, predicted),
        )
        return probabilities, score, p_value, class_p_value, -logits.score_logits


def _p_value(score: Tensor, calibration_scores: Tensor, denominator: Tensor) -> Tensor:
    """(1 + #{calibration scores <= score}) / (n + 1), [N]; calibration scores [N or 1, n].

    Conformal (Bates et al., Annals of Statistics 2023): uniform on in-distribution images.
    """
    at_most = (calibration_scores <= score.unsqueeze(1)).float().sum(dim=1)
    return (1 + at_most) / denominator


def export(
    checkpoint: Checkpoint,
    held_out: LabelledImages,
    *,
    name: str,
    licence: str = "",
    note: str = "",
) -> onnx.ModelProto:
    """Export, calibrate on the held-out images through the graph, check parity, attach the card.

    Raises:
        InputError: a scale <= 0, too few held-out images, or an output that differs between
            torch, float64 NumPy and ONNX Runtime by more than the bars of
            :mod:`isoserve.training.onnx_model.parity`.
    """
    classifier = checkpoint.classifier()
    _check_scales(classifier)
    recipe = checkpoint.parsed_recipe()
    spec = checkpoint.input_spec()
    served = ServedModel(classifier, checkpoint.mean, checkpoint.std).eval()
    graph = to_onnx(served, torch.zeros(2, spec.height, spec.width, 3, dtype=torch.uint8))
    calibrated = calibrate(graph, held_out, alpha=recipe.alpha, delta=recipe.delta)
    check_parity(served, calibrated.model, held_out.take(evenly_spread(len(held_out), 64)).pixels)
    card = ModelCard(
        name=name,
        classes=checkpoint.classes,
        input=spec,
        network=recipe.network,
        parameters=sum(parameter.numel() for parameter in classifier.parameters()),
        loss=recipe.loss,
        data=DataSummary(
            name=checkpoint.data_name,
            digest=checkpoint.data_digest,
            training_images=checkpoint.training_images,
            calibration_images=len(held_out),
            note=note,
        ),
        seed=recipe.seed,
        recipe=recipe.model_dump(exclude={"network", "loss", "seed"}),
        versions=_versions(),
        command=checkpoint.command,
        calibration=calibrated.calibration,
        held_out=[calibrated.held_out],
        licence=licence,
        created=datetime.now(UTC).replace(microsecond=0),
    )
    set_card(calibrated.model, card)
    return calibrated.model


def to_onnx(
    network: nn.Module, example: Tensor, output_names: Sequence[str] = OUTPUT_NAMES
) -> onnx.ModelProto:
    """Trace ``network(images)`` with a dynamic batch into one ONNX model without external data."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own dependencies
        program: Any = torch.onnx.export(
            network,
            (example,),
            input_names=[INPUT_NAME],
            output_names=list(output_names),
            dynamic_shapes={"images": {0: torch.export.Dim.DYNAMIC}},
            opset_version=OPSET,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    model: onnx.ModelProto = program.model_proto
    del model.graph.value_info[:]  # shapes of the placeholders
    forget_sources(model)
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


def _check_scales(classifier: Classifier) -> None:
    head = classifier.head
    if isinstance(head, IsoMax2Head) and not bool((head.scales > 0).all()):
        smallest = float(np.min(head.scales.detach().numpy()))
        raise InputError(
            f"the smallest learned scale is {smallest:.3g}: with a scale <= 0 a farther prototype "
            "would be the likelier class; train again with a smaller learning rate"
        )


def _versions() -> dict[str, str]:
    packages = ("isoserve", "torch", "onnx", "onnxscript", "onnxruntime", "numpy", "pillow")
    return {package: importlib.metadata.version(package) for package in packages}
