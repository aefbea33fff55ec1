"""The queue and its slots, without HTTP around them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from gated_model import (
    LARGE,
    first_batch_is_running,
    gated,
    job,
    run,
)
from image_bytes import colour

from isoserve.service.batching import batch_runner as batch
from isoserve.service.batching.errors import QueueFull, Unavailable
from isoserve.service.batching.micro_batcher import MicroBatcher
from isoserve.service.inference.images import InvalidImage
from isoserve.service.inference.outputs import Pixels
from isoserve.service.repository.versions import ServingModel


def test_a_lone_image_runs_at_once_and_waiters_share_one_run_up_to_the_limit(
    served: ServingModel,
) -> None:
    async def scenario(batcher: MicroBatcher) -> list[int]:
        jobs = [job(served) for _ in range(8)]
        batcher.submit(jobs[:1])
        await first_batch_is_running(served)
        batcher.submit(jobs[1:])
        gated(served).gate.set()
        return list(await asyncio.gather(*(j.future for j in jobs)))

    assert run(scenario) == [0] * 8
    assert gated(served).batches == [1, 4, 3]


def test_what_waits_is_split_over_idle_slots(served: ServingModel) -> None:
    async def scenario(batcher: MicroBatcher) -> None:
        while len(batcher._idle) < 2:
            await asyncio.sleep(0.001)
        jobs = [job(served) for _ in range(4)]
        batcher.submit(jobs)
        for _ in range(2):
            await first_batch_is_running(served)
        gated(served).gate.set()
        await asyncio.gather(*(j.future for j in jobs))

    run(scenario, slots=2)
    assert sorted(gated(served).batches)[-1] < 4
    assert sum(gated(served).batches) == 4


def set_cost(batcher: MicroBatcher, seconds: float) -> None:
    """Have an image be expected to take so long, whatever those before it took."""
    batcher._admission._images = 0.0
    batcher._admission.served(1, seconds)


def test_a_slot_leaves_the_busy_ones_their_share_of_long_work(served: ServingModel) -> None:
    async def scenario(batcher: MicroBatcher) -> None:
        jobs = [job(served) for _ in range(10)]
        for busy in jobs[:2]:
            batcher.submit([busy])
            await first_batch_is_running(served)
        set_cost(batcher, 1.0)
        batcher.submit(jobs[2:])
        gated(served).gate.set()
        await asyncio.gather(*(j.future for j in jobs))

    run(scenario, slots=2, max_batch=8)
    assert sorted(gated(served).batches) == [1, 1, 1, 1, 2, 4]


def threads_used(
    served: ServingModel, requests: int, images: int, cost: float, slots: int = 2
) -> list[set[str]]:
    """The threads that ran what came at once to an idle server, in each of three rounds."""
    rounds = []

    async def scenario(batcher: MicroBatcher) -> None:
        gated(served).gate.set()
        for _ in range(3):
            while len(batcher._idle) < slots:
                await asyncio.sleep(0.001)
            set_cost(batcher, cost)
            gated(served).threads.clear()
            jobs = [[job(served) for _ in range(images)] for _ in range(requests)]
            for each in jobs:
                batcher.submit(each)
            await asyncio.gather(*(j.future for each in jobs for j in each))
            rounds.append(set(gated(served).threads))

    run(scenario, slots=slots)
    assert sum(gated(served).batches) == 3 * requests * images
    return rounds


LOOP = {threading.main_thread().name}


@pytest.mark.parametrize(("requests", "cost"), [(1, 1e-4), (4, 1e-4), (1, 9e-4)])
def test_quick_work_of_an_idle_server_is_done_on_the_loop(
    served: ServingModel, requests: int, cost: float
) -> None:
    assert threads_used(served, requests, 1, cost) == [LOOP] * 3


@pytest.mark.parametrize(("images", "cost"), [(1, 2e-3), (4, 5e-4)])
def test_long_work_of_an_idle_server_is_done_by_its_slots(
    served: ServingModel, images: int, cost: float
) -> None:
    assert not any(used & LOOP for used in threads_used(served, 1, images, cost))


def test_slots_take_their_part_of_what_grows_too_long_for_the_loop(served: ServingModel) -> None:
    """The loop may do what they leave, if that is little."""
    assert all(used - LOOP for used in threads_used(served, 4, 1, 5e-4))


def test_closing_finishes_what_was_left_to_the_loop(served: ServingModel) -> None:
    async def scenario(batcher: MicroBatcher) -> None:
        gated(served).gate.set()
        while not batcher._idle:
            await asyncio.sleep(0.001)
        set_cost(batcher, 1e-4)
        left = job(served)
        batcher.submit([left])
        await asyncio.to_thread(batcher.close)
        assert await left.future == 0

    run(scenario)


def test_more_images_than_the_limit_are_turned_away_at_once_all_or_none(
    served: ServingModel,
) -> None:
    async def scenario(batcher: MicroBatcher) -> None:
        running = job(served)
        batcher.submit([running])
        await first_batch_is_running(served)
        waiting = [job(served) for _ in range(3)]
        batcher.submit(waiting)
        with pytest.raises(QueueFull) as caught:
            batcher.submit([job(served), job(served)])
        assert caught.value.retry_after is not None
        assert caught.value.retry_after >= 1
        last = job(served)
        batcher.submit([last])
        gated(served).gate.set()
        await asyncio.gather(*(j.future for j in (running, *waiting, last)))

    run(scenario, images=4)


def test_an_image_that_waited_too_long_is_turned_away_and_not_computed(
    served: ServingModel,
) -> None:
    async def scenario(batcher: MicroBatcher) -> None:
        running, late = job(served), job(served)
        batcher.submit([running])
        await first_batch_is_running(served)
        batcher.submit([late])
        late.timing.queued_at -= 61
        gated(served).gate.set()
        assert await running.future == 0
        refusal = await late.future
        assert isinstance(refusal, QueueFull)
        assert refusal.limit == "late"

    run(scenario)
    assert gated(served).batches == [1]


def test_a_large_image_is_decoded_beside_the_slots_and_holds_up_no_small_one(
    served: ServingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding, may_go_on = threading.Event(), threading.Event()
    decode = batch.decode

    def slow(body: bytes, *rest: Any) -> Pixels:
        if len(body) > 1_000:
            decoding.set()
            assert may_go_on.wait(20)
        return decode(body, *rest)

    async def scenario(batcher: MicroBatcher) -> list[int]:
        monkeypatch.setattr(batch, "decode", slow)
        gated(served).gate.set()
        photo = job(served, colour(0, 0, 255, size=99) + bytes(2_000))
        photo.cost = LARGE
        batcher.submit([photo, job(served)])
        assert await asyncio.to_thread(decoding.wait, 20)
        small = [job(served, colour(0, 255, 0)) for _ in range(9)]
        batcher.submit(small)
        answers = list(await asyncio.gather(*(j.future for j in small)))
        assert not photo.future.done()
        may_go_on.set()
        return [*answers, await photo.future]

    assert run(scenario) == [1] * 9 + [2]


def test_closing_finishes_large_images_too(served: ServingModel) -> None:
    async def scenario(batcher: MicroBatcher) -> list[Any]:
        gated(served).gate.set()
        jobs = [job(served, source) for source in (colour(0, 0, 255), b"garbage")]
        for each in jobs:
            each.cost = LARGE
        batcher.submit(jobs)
        await asyncio.to_thread(batcher.close)
        return await asyncio.gather(*(j.future for j in jobs))

    answer, error = run(scenario)
    assert answer == 2
    assert isinstance(error, InvalidImage)


def test_closing_finishes_what_waits_and_then_takes_no_more(served: ServingModel) -> None:
    async def scenario(batcher: MicroBatcher) -> None:
        jobs = [job(served) for _ in range(6)]
        batcher.submit(jobs)
        gated(served).gate.set()
        await asyncio.to_thread(batcher.close)
        await asyncio.gather(*(j.future for j in jobs))
        with pytest.raises(Unavailable, match="stopping"):
            batcher.submit([job(served)])

    run(scenario)
