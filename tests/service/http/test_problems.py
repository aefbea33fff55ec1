"""What the queue says, in the words of each transport."""

from __future__ import annotations

import gc
import weakref

import pytest

from isoserve.service.batching.errors import (
    InferenceFailed,
    PredictionError,
    QueueFull,
    Unavailable,
)
from isoserve.service.http.problems import problem_of

ERRORS = [
    QueueFull("images", "8 images waiting already", 2.4),
    Unavailable("starting", "the server is starting", 1),
    InferenceFailed("the network failed on this image"),
]


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (ERRORS[0], 429, "queue_full"),
        (ERRORS[1], 503, "starting"),
        (ERRORS[2], 500, "inference_failed"),
    ],
)
def test_an_error_of_the_queue_becomes_a_problem(
    error: PredictionError, status: int, reason: str
) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.reason, problem.detail) == (status, reason, str(error))
    assert problem.headers.get("retry-after") == {429: "3", 503: "1"}.get(status)
    assert not problem.closes
    assert problem_of(error, closes=True).headers["connection"] == "close"


def test_both_transports_know_every_error() -> None:
    grpc_server = pytest.importorskip("isoserve.service.grpc_server", exc_type=ImportError)
    known = {*PredictionError.__subclasses__()}
    assert {type(error) for error in ERRORS} == known == {*grpc_server.REFUSALS}
    for error in ERRORS:
        assert grpc_server.REFUSALS[type(error)][1] == problem_of(error).status


def test_a_copy_says_the_same_and_is_raised_without_holding_what_keeps_the_error() -> None:
    class Image: ...

    def raise_kept() -> weakref.ref[Image]:
        image = Image()
        kept = [(image, QueueFull("late", "it waited 3 s", 3.0))]
        with pytest.raises(QueueFull, match="it waited 3 s") as caught:
            raise kept[0][1].copy()
        assert (caught.value.limit, caught.value.retry_after) == ("late", 3)
        del caught
        return weakref.ref(image)

    gc.disable()
    try:
        assert raise_kept()() is None
    finally:
        gc.enable()
