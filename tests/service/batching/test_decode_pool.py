"""In which order large images are decoded, how many at a time, and which are refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from isoserve.service.batching import decode_pool
from isoserve.service.batching.admission import QueueLimits
from isoserve.service.batching.decode_pool import DecodePool
from isoserve.service.batching.errors import QueueFull
from isoserve.service.batching.image_cost import ImageCost
from isoserve.service.batching.job import Job

LIMITS = QueueLimits(images=100, seconds=0.3, max_batch=32)
PHOTO = ImageCost(0.01, 2**20)
BOMB = ImageCost(0.9, 160 * 2**20)


class Picture:
    """What the pool asks of a job."""

    def __init__(self, name: str, cost: ImageCost, model: str = "m") -> None:
        self.name, self.cost, self.cancelled = name, cost, False
        self.source = bytes(100 if cost is BOMB else 200_000)
        self.served = SimpleNamespace(model=SimpleNamespace(name=model))


class Decoder:
    """Decodes when it may, and remembers what it began."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.done: list[str] = []
        self.forwarded: list[Job] = []
        self.may_go_on = threading.Event()

    def decode(self, job: Job) -> bool:
        name = cast("Any", job).name
        self.begun.append(name)
        assert self.may_go_on.wait(20)
        self.done.append(name)
        return False


@pytest.fixture(name="decoder")
def _decoder() -> Decoder:
    return Decoder()


@pytest.fixture(name="pool")
def _pool(decoder: Decoder) -> Iterator[DecodePool]:
    pool = DecodePool(2, LIMITS, decoder.decode, decoder.forwarded.append)
    yield pool
    decoder.may_go_on.set()
    pool.close()


def submit(pool: DecodePool, *pictures: Picture) -> None:
    pool.submit(cast("list[Job]", pictures))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def refused(pool: DecodePool, cost: ImageCost) -> bool:
    try:
        submit(pool, Picture("one more", cost))
    except QueueFull:
        return True
    return False


def test_bombs_take_no_thread_of_photographs(pool: DecodePool, decoder: Decoder) -> None:
    submit(pool, Picture("photo 0", PHOTO))
    submit(pool, Picture("bomb 0", BOMB))
    wait_until(lambda: "bomb 0" in decoder.begun)
    submit(pool, Picture("bomb 1", BOMB))
    submit(pool, Picture("photo 1", PHOTO))
    wait_until(lambda: {"photo 0", "photo 1"} <= {*decoder.begun})
    assert refused(pool, BOMB)  # 0.9 s of them wait already: there is memory for one at a time
    assert not refused(pool, PHOTO)


def test_bombs_are_decoded_one_at_a_time_for_want_of_memory(
    pool: DecodePool, decoder: Decoder
) -> None:
    submit(pool, Picture("first", BOMB))
    wait_until(lambda: len(decoder.begun) == 1)
    submit(pool, Picture("second", BOMB))
    time.sleep(0.1)
    assert decoder.begun == ["first"]
    decoder.may_go_on.set()
    wait_until(lambda: decoder.done == ["first", "second"])


def test_photographs_of_one_size_use_every_thread(pool: DecodePool, decoder: Decoder) -> None:
    cost = ImageCost(0.07, 20 * 2**20)
    for number in range(2):
        submit(pool, Picture(f"{number}", cost))
    wait_until(lambda: len(decoder.begun) == 2)


def test_the_cheaper_is_decoded_first_and_a_batch_leaves_room_for_others(
    pool: DecodePool, decoder: Decoder
) -> None:
    submit(pool, *(Picture(f"running {number}", PHOTO) for number in range(2)))
    wait_until(lambda: len(decoder.begun) == 2)
    expensive = ImageCost(3 * PHOTO.seconds, PHOTO.memory)
    submit(pool, *(Picture(f"batch {number}", PHOTO) for number in range(20)))
    submit(pool, Picture("expensive", expensive))
    submit(pool, Picture("cheap", PHOTO))
    decoder.may_go_on.set()
    wait_until(lambda: len(decoder.done) == 24)
    order = decoder.begun.index
    assert order("batch 0") < order("cheap") < order("batch 8")
    assert order("expensive") < order("batch 15")


@pytest.mark.parametrize(
    ("cost", "waiting"),
    [
        (0.02, 30),  # the 0.3 s of the settings, of two threads
        (0.07, 16),  # eight a thread may wait however long each takes
        (0.5, 16),  # a HEIC or PNG of 12 megapixels too
        (1.0, 10),  # but no longer than five seconds
    ],
)
def test_what_waits_is_bounded_in_seconds(
    pool: DecodePool, decoder: Decoder, cost: float, waiting: int
) -> None:
    costs = ImageCost(cost, 2**20)
    submit(pool, *(Picture(f"running {number}", costs) for number in range(2)))
    wait_until(lambda: len(decoder.begun) == 2)
    admitted = sum(not refused(pool, costs) for _ in range(2 * waiting))
    assert waiting <= admitted <= waiting + 1


def test_clients_that_went_keep_no_place(pool: DecodePool) -> None:
    costs = ImageCost(0.5, 2**20)
    gone = []
    while True:
        gone.append(Picture(f"gone {len(gone)}", costs))
        try:
            submit(pool, gone[-1])
        except QueueFull:
            break
    for picture in gone:
        picture.cancelled = True
    for number in range(8):
        submit(pool, Picture(f"client {number}", costs))
    assert pool.waiting == 8


@pytest.mark.parametrize("cost", [0.03, 0.07, 0.15, 0.45, 0.65])
def test_a_refusal_leaves_room_for_eight_clients_that_wait_for_their_answers(
    pool: DecodePool, decoder: Decoder, cost: float
) -> None:
    costs = ImageCost(cost, 2**20)
    while not refused(pool, costs):
        pass
    decoder.may_go_on.set()
    wait_until(lambda: not pool.waiting)
    decoder.may_go_on.clear()
    for number in range(8):
        submit(pool, Picture(f"client {number}", costs))


def test_after_a_second_without_cheap_images_nothing_counts_as_expensive(
    pool: DecodePool, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(decode_pool, "perf_counter", lambda: now)
    submit(pool, Picture("photo", PHOTO))
    now += 2.5
    large = ImageCost(0.08, 2**20)
    submit(pool, Picture("large 0", large))
    wait_until(lambda: len(decoder.begun) == 2)
    submit(pool, Picture("large 1", large))  # waits behind both: it gets no queue of its own
    time.sleep(0.05)
    assert decoder.begun == ["photo", "large 0"]


def test_the_images_of_one_model_leave_room_for_anothers(
    pool: DecodePool, decoder: Decoder
) -> None:
    submit(pool, *(Picture(f"running {number}", PHOTO) for number in range(2)))
    wait_until(lambda: len(decoder.begun) == 2)
    while not refused(pool, PHOTO):
        pass
    submit(pool, *(Picture(f"other {number}", PHOTO, "other") for number in range(3)))
    decoder.may_go_on.set()
    wait_until(lambda: "other 2" in decoder.done)
    assert decoder.begun.index("other 0") < 8
