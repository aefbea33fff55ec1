"""What fails in a batch: its image, its network, its answer; the others are computed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from gated_model import (
    LARGE,
    RED,
    first_batch_is_running,
    gated,
    job,
    run,
)
from image_bytes import colour

from isoserve.service.batching import batch_runner as batch
from isoserve.service.batching.errors import InferenceFailed
from isoserve.service.batching.job import AwaitedJob
from isoserve.service.batching.micro_batcher import MicroBatcher
from isoserve.service.inference.images import InvalidImage
from isoserve.service.inference.outputs import Outputs, Pixels
from isoserve.service.repository.versions import ServingModel


def test_a_bad_image_fails_alone(served: ServingModel) -> None:
    async def scenario(batcher: MicroBatcher) -> list[Any]:
        sources = [RED, b"garbage", colour(0, 255, 0), colour(0, 0, 255)[:-20]]
        jobs = [job(served, source) for source in sources]
        gated(served).gate.set()
        batcher.submit(jobs)
        return await asyncio.gather(*(j.future for j in jobs))

    first, bad, second, _ = run(scenario)
    assert (first, second) == (0, 1)
    assert isinstance(bad, InvalidImage)


def test_a_cancelled_image_is_not_computed(served: ServingModel) -> None:
    async def scenario(batcher: MicroBatcher) -> None:
        running, gone, kept = job(served), job(served), job(served)
        batcher.submit([running])
        await first_batch_is_running(served)
        batcher.submit([gone, kept])
        gone.future.cancel()
        gated(served).gate.set()
        await asyncio.gather(running.future, kept.future)

    run(scenario)
    assert gated(served).batches == [1, 1]


def test_a_failing_network_answers_500_and_the_slot_goes_on(
    served: ServingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(slot: int, images: Pixels) -> Outputs:  # noqa: ARG001
        raise RuntimeError("secret internals")

    async def scenario(batcher: MicroBatcher) -> None:
        gated(served).gate.set()
        broken = job(served)
        with monkeypatch.context() as patch:
            patch.setattr(gated(served), "run", fail)
            batcher.submit([broken])
            failure = await broken.future
        assert isinstance(failure, InferenceFailed)
        assert "secret" not in failure.detail
        well = job(served)
        batcher.submit([well])
        assert await well.future == 0

    run(scenario)


class UnanswerableJob(AwaitedJob):
    """Its answer cannot be given."""

    def set_result(self, answer: Any) -> None:
        raise RuntimeError(answer)


@pytest.mark.parametrize("cost", [1e-4, 2e-3])
def test_an_answer_that_cannot_be_given_harms_no_other(served: ServingModel, cost: float) -> None:
    async def scenario(batcher: MicroBatcher) -> list[int]:
        gated(served).gate.set()
        answers = []
        for _ in range(2):
            batcher._admission.seconds_an_image = cost
            other = job(served)
            batcher.submit([UnanswerableJob(served, RED, other.build_response), other])
            answers.append(await asyncio.wait_for(other.future, 20))
        return answers

    assert run(scenario) == [0, 0]


def test_an_unforeseen_error_ends_no_thread_of_the_large_images(
    served: ServingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = batch.decode

    def failing(body: bytes, *rest: Any) -> Pixels:
        return decode(body, *rest) if body.startswith(b"\x89PNG") else 1 / 0  # type: ignore[return-value]

    async def scenario(batcher: MicroBatcher) -> list[Any]:
        monkeypatch.setattr(batch, "decode", failing)
        gated(served).gate.set()
        answers = []
        for source in (b"a mine", colour(0, 0, 255)):
            photo = job(served, source)
            photo.cost = LARGE
            batcher.submit([photo])
            answers.append(await asyncio.wait_for(photo.future, 20))
        return answers

    failed, answer = run(scenario)
    assert isinstance(failed, InferenceFailed)
    assert answer == 2
