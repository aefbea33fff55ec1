"""An old file's network under the present graph: the new score without training.

What stands before the features is taken as it is; head, scores and p-values are exported anew and
put behind it. So a file of schema 1 becomes one of schema 2, and the deciding score is changed.
"""

from __future__ import annotations

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import compose, version_converter

from isoserve.models.card import ModelCard, ScoreKind
from isoserve.models.combination import VIEWS
from isoserve.models.errors import InputError
from isoserve.models.heads import (
    HEADS,
    Head,
    IsoMax2Head,
    IsoMaxHead,
    IsoMaxPlusHead,
    SoftMaxHead,
)
from isoserve.models.served_model import FEATURES, Verdict
from isoserve.models.views import DensityForm
from isoserve.training.data import LabelledImages
from isoserve.training.hold_out import evenly_spread
from isoserve.training.onnx_graph import constants_of, opset_of, run_graph, up_to
from isoserve.training.onnx_model.calibrate import set_initializer
from isoserve.training.onnx_model.export import OPSET, ExportImages, to_onnx
from isoserve.training.onnx_model.fit_score import (
    Guarantee,
    density_form_of,
    fit_score,
    set_view_scales,
)
from isoserve.training.onnx_model.half_weights import halve
from isoserve.training.onnx_model.parity import bar_of, check_features

HEAD_SCOPES = ("'classifier.head'", "'head'")
"""One of them stands in the name scopes the exporter gives each node that came out of the head."""

TAIL = "tail/"
"""Before the inner names of what is put behind the features."""

KEPT = ("whitening", "class_means", "density_offset")
"""The statistics of the features, as far as a file has them."""


def upgrade(
    model: onnx.ModelProto, card: ModelCard, images: ExportImages, guarantee: Guarantee
) -> tuple[onnx.ModelProto, ModelCard]:
    """The combined score for a model of any schema, fitted, checked, its card not yet inside.

    Raises:
        InputError: a graph that this program did not export, no training images, too few held-out
            ones, or outputs that differ from float64 NumPy's or from the old model's.
    """
    fresh = with_verdict(_up_to_features(model), head_of(model, card), "combined")
    fitted = fit_score(fresh, images.training, images.held_out, guarantee)
    few = images.held_out.take(evenly_spread(len(images.held_out), 64)).pixels
    check_features(head_of(model, card), fitted.model, few)
    old, new = (run_graph(each, few, names=("distances",)) for each in (model, fitted.model))
    apart = float(np.abs(old["distances"] - new["distances"]).max())
    if not apart <= bar_of("distances", old["distances"]):
        raise InputError(
            f"upgrade refused: the distances differ by {apart:.2g} from the old model's"
        )
    return fitted.model, fitted.added_to(card)


def with_other_score(
    model: onnx.ModelProto, card: ModelCard, images: LabelledImages, score: ScoreKind
) -> onnx.ModelProto:
    """A fitted model whose deciding score is another one, to be calibrated.

    The statistics of its training images are kept, and its weights stay as they are stored.

    Args:
        images: in-distribution, on which the new graph is compared with float64 NumPy.

    Raises:
        InputError: as :func:`with_score`, or there are no statistics.
    """
    if card.statistics is None:
        raise InputError(
            f"the score {score!r} needs the statistics of the training images, which a file of "
            "schema 1 has not: isoserve upgrade MODEL TRAINING-IMAGES gives it both"
        )
    found = _with_score(model, card, score)
    if card.recipe.get("stored_weights") == "float16":
        found = halve(found)
    few = images.take(evenly_spread(len(images), 64)).pixels
    check_features(head_of(model, card), found, few)
    return found


def _with_score(model: onnx.ModelProto, card: ModelCard, score: ScoreKind) -> onnx.ModelProto:
    """The model with another score, its statistics and scales as they were.

    Calibration scores are placeholders.
    """
    form = density_form_of(model)
    joined = with_verdict(_up_to_features(model), head_of(model, card), score, form)
    constants = constants_of(model)
    for name in KEPT:
        if name in constants:
            set_initializer(joined, name, constants[name].astype(np.float32))
    if score == "combined" and card.combination is not None:
        scales = [getattr(card.combination, view) for view in VIEWS]
        set_view_scales(
            joined,
            np.array([scale.centre for scale in scales]),
            np.array([scale.spread for scale in scales]),
        )
    return joined


def with_verdict(
    before: onnx.ModelProto, head: Head, score: ScoreKind, form: DensityForm | None = None
) -> onnx.ModelProto:
    """Put head, scores and p-values, still to be fitted, behind a graph that ends in features.

    Args:
        before: its one output is the float tensor ``features`` [N, D].
        form: as :class:`isoserve.models.served_model.Verdict` takes it.
    """
    verdict = Verdict(head, score, form).eval()
    tail = to_onnx(verdict, torch.zeros(2, head.num_features), verdict.output_names, FEATURES)
    prefixed = compose.add_prefix(tail, TAIL, rename_inputs=False, rename_outputs=False)
    for name, _ in verdict.named_buffers():
        _rename(prefixed, TAIL + name, name)
    opset = opset_of(before)
    if opset > OPSET:
        prefixed = version_converter.convert_version(prefixed, opset)
    before.ir_version = prefixed.ir_version = max(prefixed.ir_version, before.ir_version)
    joined = compose.merge_models(before, prefixed, io_map=[(FEATURES, FEATURES)])
    del joined.graph.value_info[:]
    return joined


def head_of(model: onnx.ModelProto, card: ModelCard) -> Head:
    """The head, rebuilt from the graph's constants.

    Raises:
        InputError: as :func:`with_score`.
    """
    if card.loss not in HEADS:
        raise InputError(
            f"the model's loss is {card.loss!r}: of a head that is not one of "
            f"{', '.join(HEADS)} the class boundaries are not known"
        )
    head_class = HEADS[card.loss]
    try:
        values, entropic_scale = _parameters(model, head_class, len(card.classes))
    except LookupError as error:
        raise InputError(
            f"the graph's {card.loss} head is not as this program exports it ({error}): it was "
            "made elsewhere, or rewritten since"
        ) from error
    found = values.get("linear.weight", values.get("prototypes"))
    assert found is not None
    head = head_class(found.shape[1], len(card.classes))
    if isinstance(head, (IsoMaxHead, IsoMaxPlusHead)):
        head.entropic_scale = entropic_scale
    head.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in values.items()})
    return head.eval()


Values = dict[str, NDArray[np.float32]]


def _parameters(
    model: onnx.ModelProto, head_class: type[Head], classes: int
) -> tuple[Values, float]:
    """The head's state and its entropic scale, where it has one.

    Raises:
        LookupError: says what was sought and not found once.
    """
    constants = {
        name: value.astype(np.float32)
        for name, value in constants_of(model).items()
        if value.dtype == np.float32
    }
    names = {
        name
        for node in model.graph.node
        if _is_of_head(node)
        for name in node.input
        if name in constants
    }
    by_class = [name for name in names if constants[name].shape == (classes,)]
    tables = [name for name in names if constants[name].ndim == 2]
    points = constants[_only(tables, "table of one row a class")]
    if head_class is SoftMaxHead:
        weight = points if points.shape[0] == classes else points.T
        bias = constants[_only(by_class, "bias")]
        return {"linear.weight": weight, "linear.bias": bias}, 1.0
    values = {"prototypes": points}
    if head_class is IsoMax2Head:
        tilts = _only([name for name in by_class if name.endswith("tilts")], "tilt a class")
        scales = _only([name for name in by_class if name != tilts], "scale a class")
        # The exporter has folded the scales' sign into them.
        return values | {"tilts": constants[tilts], "scales": np.abs(constants[scales])}, 1.0
    if head_class is IsoMaxPlusHead:
        scale = _only([name for name in names if constants[name].shape == (1,)], "distance scale")
        values["distance_scale"] = constants[scale]
    # The other scalar of this head is the least length a vector is divided by; the exporter has
    # folded the minus of the cold logits into the scale.
    scalars = [name for name in names if constants[name].ndim == 0 and abs(constants[name]) > 1e-6]
    return values, abs(float(constants[_only(scalars, "entropic scale")]))


def _only(names: list[str], what: str) -> str:
    if len(names) != 1:
        raise LookupError(f"it has {len(names)} candidates for the {what}")
    return names[0]


def _up_to_features(model: onnx.ModelProto) -> onnx.ModelProto:
    """The nodes that the features need, and these as the only output, named ``features``."""
    name = _features_of(list(model.graph.node))
    found = up_to(model, name)
    _rename(found, name, FEATURES)
    shape = ["N", None]
    output = onnx.helper.make_tensor_value_info(FEATURES, onnx.TensorProto.FLOAT, shape)
    found.graph.output[0].CopyFrom(output)
    return found


def _features_of(nodes: list[onnx.NodeProto]) -> str:
    """The one tensor that the head takes from before it."""
    if any(FEATURES in node.output for node in nodes):
        return FEATURES
    in_head = [node for node in nodes if _is_of_head(node)]
    inner = {output for node in in_head for output in node.output}
    made = {output for node in nodes for output in node.output}
    taken = {each for node in in_head for each in node.input if each in made - inner}
    # The shape of the batch, which a head may look at, is no feature.
    floats = {each for each in taken if not _is_shape(each, nodes)}
    if len(floats) != 1:
        raise InputError(
            "the graph does not name the features that its head takes: it was not exported by "
            "this program, or was rewritten since"
        )
    return floats.pop()


def _is_shape(name: str, nodes: list[onnx.NodeProto]) -> bool:
    return any(name in node.output and node.op_type == "Shape" for node in nodes)


def _is_of_head(node: onnx.NodeProto) -> bool:
    entries = {entry.key: entry.value for entry in node.metadata_props}
    scopes = entries.get("pkg.torch.onnx.name_scopes", "")
    return any(scope in scopes for scope in HEAD_SCOPES)


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    """Rename a tensor wherever it stands."""
    for node in model.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == old:
                    names[place] = new
    for initializer in model.graph.initializer:
        if initializer.name == old:
            initializer.name = new
