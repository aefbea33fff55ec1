"""Who may join a queue."""

from __future__ import annotations

import itertools

import pytest

from isoserve.service.batching import admission
from isoserve.service.batching.admission import (
    CALM_SECONDS,
    SHORT_QUEUE,
    Admission,
    QueueLimits,
)
from isoserve.service.batching.errors import QueueFull

LIMITS = QueueLimits(images=1_000, seconds=0.5, max_batch=32)
SERVERS = 2


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(admission, "perf_counter", clock)
    return clock


def admission_of(seconds_an_image: float = 0.01) -> Admission:
    queue = Admission(LIMITS, SERVERS)
    queue.served(10, 10 * seconds_an_image)
    return queue


def limit_met(queue: Admission, waiting: int, images: int = 1) -> str:
    try:
        queue.admit(waiting, images)
    except QueueFull as refusal:
        return refusal.limit
    return ""


def test_a_refusal_says_when_to_come_back() -> None:
    assert QueueFull("seconds", "the wait would be about 2.4 s", 2.4).retry_after == 3
    assert QueueFull("overload", "too much", 0.1).retry_after == 1


def test_the_expected_wait_is_images_times_cost_over_servers(clock: Clock) -> None:  # noqa: ARG001
    queue = admission_of(0.01)
    assert limit_met(queue, 100) == ""  # 100 x 0.01 / 2 = 0.5 s
    assert limit_met(queue, 101) == "seconds"


def test_images_are_limited_whatever_they_cost(clock: Clock) -> None:  # noqa: ARG001
    assert limit_met(admission_of(1e-6), 999, 1) == ""
    assert limit_met(admission_of(1e-6), 999, 2) == "images"


def test_after_a_refusal_the_queue_is_short_until_nothing_was_refused_for_a_while(
    clock: Clock,
) -> None:
    queue = admission_of()
    assert limit_met(queue, 101) == "seconds"
    assert limit_met(queue, SHORT_QUEUE * SERVERS) == "overload"
    assert limit_met(queue, SHORT_QUEUE * SERVERS - 1) == ""
    clock.now += 0.9 * CALM_SECONDS
    assert limit_met(queue, 50) == "overload"
    clock.now += 0.9 * CALM_SECONDS
    assert limit_met(queue, 50) == "overload"
    clock.now += 1.1 * CALM_SECONDS
    assert limit_met(queue, 50) == ""


def test_of_a_slow_network_one_image_a_server_waits(clock: Clock) -> None:  # noqa: ARG001
    assert limit_met(admission_of(60.0), SERVERS - 1) == ""
    assert limit_met(admission_of(60.0), SERVERS) == "seconds"


def test_a_batch_request_finds_room_in_an_empty_queue_under_overload(clock: Clock) -> None:
    queue = admission_of()
    assert limit_met(queue, 101) == "seconds"
    clock.now += 0.1
    assert limit_met(queue, 0, 64) == ""


@pytest.mark.parametrize("offered", [4.0, 20.0])
def test_under_lasting_overload_what_is_accepted_waits_for_a_few_images_only(
    clock: Clock, offered: float
) -> None:
    """Images arrive ``offered`` times as fast as two servers of 40 ms an image take them."""
    queue, cost = admission_of(0.04), 0.04 / SERVERS
    waiting, waits, refused = 0, [], 0
    due = clock.now
    for step in itertools.count():
        clock.now = 100.0 + step * cost / offered
        while waiting and due <= clock.now:
            waiting, due = waiting - 1, due + cost
        if not waiting:
            due = max(due, clock.now + cost)
        if limit_met(queue, waiting):
            refused += 1
        else:
            waits.append((clock.now, waiting * cost))
            waiting += 1
        if clock.now > 160.0:
            break
    assert max(wait for _, wait in waits) <= LIMITS.seconds + cost
    # The long queue of the beginning is gone after a second; from then on it stays short.
    assert max(wait for at, wait in waits if at > 102.0) <= SHORT_QUEUE * SERVERS * cost
    waits.sort(key=lambda entry: entry[1])
    assert waits[int(0.99 * len(waits))][1] <= SHORT_QUEUE * SERVERS * cost + 0.2 * LIMITS.seconds
    assert len(waits) >= 0.98 * 60 / cost  # and the servers never starve


def test_a_single_image_that_was_held_up_says_little_of_the_batches_beside_it() -> None:
    queue = Admission(LIMITS, SERVERS)
    for _ in range(20):
        queue.served(32, 0.064)
    queue.served(1, 0.1)
    assert queue.seconds_an_image == pytest.approx(0.002, rel=0.5)
    assert limit_met(queue, 64) == ""


def test_what_images_cost_is_learnt_whatever_the_batches() -> None:
    queue = Admission(LIMITS, SERVERS)
    for images in (1, 4, 2, 32, 1, 7):
        queue.served(images, 0.003 * images)
    assert queue.seconds_an_image == pytest.approx(0.003)
    for _ in range(20):
        queue.served(1, 0.3)
    assert queue.seconds_an_image == pytest.approx(0.3, rel=0.1)
