"""A row of the network's outputs -> the verdict a client reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from isoserve.service.inference.model import Model
from isoserve.service.inference.outputs import Outputs
from isoserve.service.inference.reasons import reason


@dataclass(frozen=True, slots=True)
class VerdictRequest:
    """What a request asks of its verdict.

    ``alpha``: the image is out-of-distribution where its p-value is at most this; ``top_k``: how
    many classes to name, most probable first; at most all are.
    """

    id: str
    alpha: float
    top_k: int


def verdict(model: Model, request: VerdictRequest, outputs: Outputs, row: int) -> dict[str, Any]:
    """The verdict on one image, in the form of :class:`isoserve.service.http.schemas.Verdict`.

    Numbers stay float32, which orjson writes in their shortest form.
    """
    probabilities = outputs.probabilities[row]
    classes = [
        {"label": model.labels[index], "index": index, "probability": probabilities[index]}
        for index in _most_probable(outputs, row, request.top_k)
    ]
    is_out = is_ood(outputs.deciding_p_value[row], request.alpha)
    ood = {
        "is_ood": is_out,
        "p_value": outputs.p_value[row],
        "class_p_value": outputs.class_p_value[row],
        "decided_by": outputs.decide_by,
        "score": model.card.score,
        "ood_score": outputs.ood_score[row],
        "entropic_score": outputs.entropic_score[row],
        "entropic_p_value": outputs.entropic_p_value[row],
        "boundary_score": None,
        "density_score": None,
        "reason": reason(model.card, outputs, row) if is_out else None,
        "alpha": request.alpha,
    }
    if outputs.boundary_score is not None and outputs.density_score is not None:
        ood["boundary_score"] = outputs.boundary_score[row]
        ood["density_score"] = outputs.density_score[row]
    return {
        "id": request.id,
        "model": model.name,
        "version": model.version,
        "prediction": classes[0],
        "top_k": classes,
        "ood": ood,
    }


def is_ood(p_value: np.float32, alpha: float) -> bool:
    """Whether p_value <= alpha, both float32; NaN counts as out-of-distribution."""
    return not p_value > np.float32(alpha)


def as_json(document: Any) -> bytes:
    """JSON, NumPy numbers included."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _most_probable(outputs: Outputs, row: int, k: int) -> list[int]:
    if k == 1:
        return [outputs.predicted[row]]
    # Stable, so that equal probabilities come in the order of the classes, as argmax has it.
    order: list[int] = np.argsort(-outputs.probabilities[row], kind="stable")[:k].tolist()
    return order
