"""The queue and its slots, without HTTP around them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_bytes import colour
from tiny_model import TinyModel, write_tiny_model

from isoserve.service.batching import batch_runner as batch
from isoserve.service.batching.admission import QueueLimits
from isoserve.service.batching.errors import InferenceFailed, QueueFull, Unavailable
from isoserve.service.batching.image_cost import LARGE_SECONDS, ImageCost
from isoserve.service.batching.job import AwaitedJob
from isoserve.service.batching.micro_batcher import MicroBatcher
from isoserve.service.inference.image_limits import ImageLimits
from isoserve.service.inference.images import InvalidImage
from isoserve.service.inference.model import Model
from isoserve.service.inference.outputs import Outputs, Pixels
from isoserve.service.observability.metrics import Metrics
from isoserve.service.repository.repository import Repository
from isoserve.service.repository.versions import ServingModel
from isoserve.service.settings import Settings

LARGE = ImageCost(LARGE_SECONDS, 1000)
IMAGES = ImageLimits(10_000, 1_000)
RED = np.full((8, 8, 3), (255, 0, 0), dtype=np.uint8)


class GatedModel:
    """Stands in for a model in memory: each run waits until the test opens the gate."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.card = model.card
        self.gate = threading.Event()
        self.batches: list[int] = []
        self.entered = threading.Semaphore(0)
        self.threads: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def run(self, slot: int, images: Pixels) -> Outputs:
        self.threads.append(threading.current_thread().name)
        self.batches.append(len(images))
        self.entered.release()
        assert self.gate.wait(20)
        return self._model.run(slot, images)


@pytest.fixture(name="served")
def _served(tmp_path: Path) -> ServingModel:
    """A loaded tiny model behind a gate."""
    write_tiny_model(tmp_path / "m" / "1" / "model.onnx", TinyModel())
    repository = Repository(Settings(repository=tmp_path, max_batch=2), 2, Metrics())
    repository.scan()
    served = repository.resolve("m", None)
    return ServingModel(GatedModel(served.model), served.series)  # type: ignore[arg-type]


def gated(served: ServingModel) -> GatedModel:
    assert isinstance(served.model, GatedModel)
    return served.model


def job(served: ServingModel, source: bytes | Pixels = RED) -> AwaitedJob:
    def build_response(outputs: Outputs, row: int, pixels: Pixels) -> int:  # noqa: ARG001
        return int(outputs.probabilities[row].argmax())

    return AwaitedJob(served, source, build_response)


def run(scenario: Callable[[MicroBatcher], Awaitable[Any]], slots: int = 1, **limits: Any) -> Any:
    """Run the scenario with a batcher on a fresh event loop."""

    async def main() -> Any:
        chosen = {"images": 100, "seconds": 30.0, "max_batch": 4, **limits}
        batcher = MicroBatcher(slots, QueueLimits(**chosen), IMAGES, Metrics())
        try:
            return await scenario(batcher)
        finally:
            await asyncio.to_thread(batcher.close)

    return asyncio.run(main())


async def first_batch_is_running(served: ServingModel) -> None:
    assert await asyncio.to_thread(gated(served).entered.acquire, timeout=20)


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


def test_a_slot_leaves_the_busy_ones_their_share_of_long_work(served: ServingModel) -> None:
    async def scenario(batcher: MicroBatcher) -> None:
        jobs = [job(served) for _ in range(10)]
        for busy in jobs[:2]:
            batcher.submit([busy])
            await first_batch_is_running(served)
        batcher._admission.seconds_an_image = 1.0
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
            batcher._admission.seconds_an_image = cost
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
        batcher._admission.seconds_an_image = 1e-4
        left = job(served)
        batcher.submit([left])
        await asyncio.to_thread(batcher.close)
        assert await left.future == 0

    run(scenario)


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
