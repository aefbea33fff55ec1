"""Which engine computes a network, in which precision: as asked for, or the fastest that agrees.

ONNX Runtime in the file's own precision is the reference: the card's p-values were calibrated
through it. Another engine, or another precision, serves only where its verdicts agree with the
reference's (:mod:`isoserve.service.inference.agreement`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isoserve.models import openvino_engine
from isoserve.models.card import INPUT_NAME, ModelCard
from isoserve.models.errors import InputError
from isoserve.models.openvino_engine import ComputePrecision, Session
from isoserve.service.inference.agreement import Disagreement, disagreement, probe_images
from isoserve.service.inference.execution import ComputeForm, Execution, Precision

TIMED_TURNS = 5
TIMED_BATCH = 8
MOST_EXACT = 2
"""Bottlenecks up to which a network in bfloat16 may be computed in float32; behind the second the
most part of the time is spent."""
PROBES_AT_ONCE = 8
"""So that the comparison takes no more memory than serving does."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The network as ONNX Runtime computes it in the file's own precision."""

    session: Session
    card: ModelCard
    data: bytes
    outputs: Sequence[str]


def check_available(wanted: Execution) -> None:
    """Compare what is asked for with this machine, before any model is there.

    Raises:
        InputError: it cannot be had here, and what would be right.
    """
    if wanted.engine != "onnxruntime" and wanted.device != "cpu":
        raise InputError(
            f"--engine {wanted.engine} runs on the CPU, and --device is {wanted.device}: "
            "leave one of them out"
        )
    if wanted.precision == "bfloat16":
        if wanted.engine == "onnxruntime":
            raise InputError("--precision bfloat16 needs --engine openvino or auto")
        openvino_engine.check_computes("bfloat16")
    if wanted.engine == "openvino" or wanted.precision == "bfloat16":
        openvino_engine.check_installed()


def check_precision(wanted: Execution, card: ModelCard) -> None:
    """Compare the precision that is asked for with the file's.

    Raises:
        InputError: the file has another one, and what would be right.
    """
    if wanted.precision == "int8" and card.precision != "int8":
        raise InputError(
            f"--precision int8 needs a file in 8 bits, and this one is {card.precision}: "
            "make one with 'isoserve quantize'"
        )
    if wanted.precision == "float32" and card.precision == "int8":
        raise InputError("--precision float32 needs a float32 file, and this one is int8")


def choose(
    wanted: Execution, reference: Reference, slots: int, max_batch: int
) -> tuple[ComputeForm, list[Session]]:
    """The form that serves and its sessions, one a slot; none where it is ONNX Runtime's.

    Args:
        wanted: as :func:`check_available` and :func:`check_precision` let it pass.

    Raises:
        InputError: the engine that was named cannot run the network, or disagrees.
    """
    own = ComputeForm("onnxruntime", reference.card.precision)
    if wanted.engine == "onnxruntime":
        return own, []
    if wanted.engine == "auto" and not openvino_engine.is_installed():
        return own, []
    # What an 8-bit file's other operators were computed in is not said, so compare those again.
    form = wanted.trial.form if wanted.trial else None
    if form is not None and form.precision != "int8":
        tried = openvino_engine.open_sessions(reference.data, slots, form.precision, form.exact)
        return form, [*tried]
    found = _openvino_form(wanted, reference, slots)
    if isinstance(found, InputError):
        if wanted.engine == "auto":
            return own, []
        raise found
    # A batch's time is what is compared, so ONNX Runtime's one session stands for all.
    if wanted.engine == "auto" and not _is_faster(found[1][0], reference, max_batch):
        return own, []
    return found


def _openvino_form(
    wanted: Execution, reference: Reference, slots: int
) -> tuple[ComputeForm, list[Session]] | InputError:
    """The fastest form of OpenVINO's that may serve, or why none may."""
    refusal = InputError("OpenVINO was not tried")
    for precision in _precisions(wanted):
        served: Precision = "int8" if reference.card.precision == "int8" else precision
        try:
            found, exact, sessions = _nearest(precision, reference, slots)
        except InputError as error:
            refusal = error
            continue
        is_named = wanted.precision == "bfloat16"
        as_calibrated = _calibrated_through(precision, reference.card)
        if as_calibrated or not (found.too_large or (found.changes_verdicts and not is_named)):
            return ComputeForm("openvino", served, found.p_value, exact), [*sessions]
        refusal = InputError(
            f"OpenVINO in {precision} disagrees with ONNX Runtime: {found}. Calibrate "
            f"through it: isoserve calibrate --engine openvino --precision {precision}"
        )
    return refusal


def _nearest(
    precision: ComputePrecision, reference: Reference, slots: int
) -> tuple[Disagreement, int, list[openvino_engine.OpenVinoSession]]:
    """With so many of its first layers in float32 that verdicts stay, or the most that are tried.

    Raises:
        InputError: OpenVINO refuses the network.
    """
    sessions = openvino_engine.open_sessions(reference.data, slots, precision)
    found, exact = _compare(sessions[0], reference), 0
    if precision == "float32" or _calibrated_through(precision, reference.card):
        return found, exact, sessions
    while found.changes_verdicts and exact < MOST_EXACT:
        try:
            nearer = openvino_engine.open_sessions(reference.data, slots, precision, exact + 1)
        except InputError:  # it has no more bottlenecks
            break
        exact, sessions = exact + 1, nearer
        found = _compare(sessions[0], reference)
    return found, exact, sessions


def _calibrated_through(precision: ComputePrecision, card: ModelCard) -> bool:
    """Whether the p-values are of this very form, so that ONNX Runtime's are not comparable."""
    return (card.calibration.engine, card.calibration.precision) == ("openvino", precision)


def _precisions(wanted: Execution) -> list[ComputePrecision]:
    if wanted.precision == "bfloat16":
        return ["bfloat16"]
    if wanted.precision == "float32" or not openvino_engine.computes_bfloat16():
        return ["float32"]
    return ["bfloat16", "float32"]


def _compare(session: Session, reference: Reference) -> Disagreement:
    images = probe_images(reference.card.input)
    expected, found = (_outputs(one, images, reference) for one in (reference.session, session))
    return disagreement(expected, found, reference.card)


def _outputs(
    session: Session, images: NDArray[np.uint8], reference: Reference
) -> dict[str, NDArray[np.float32]]:
    parts = [
        session.run(reference.outputs, {INPUT_NAME: images[start : start + PROBES_AT_ONCE]})
        for start in range(0, len(images), PROBES_AT_ONCE)
    ]
    return {
        name: np.concatenate(values)
        for name, values in zip(reference.outputs, zip(*parts, strict=True), strict=True)
    }


def _is_faster(session: Session, reference: Reference, max_batch: int) -> bool:
    """Whether it takes less than the reference, in the geometric mean of one image and a batch.

    They take turns and the best times count, so that what else the machine does meets both.
    """
    spec = reference.card.input
    ratio = 1.0
    for size in (1, min(max_batch, TIMED_BATCH)):
        feed = {INPUT_NAME: np.zeros((size, spec.height, spec.width, 3), dtype=np.uint8)}
        best = [math.inf, math.inf]
        for turn in range(1 + TIMED_TURNS):
            for place, each in enumerate((session, reference.session)):
                begin = time.perf_counter()
                each.run(reference.outputs, feed)
                if turn:  # the first one warms up
                    best[place] = min(best[place], time.perf_counter() - begin)
        ratio *= best[0] / best[1]
    return ratio < 1
