"""The bounded queue that somebody else empties."""

from __future__ import annotations

import threading

from isoserve.service.observability.background_queue import BackgroundQueue, QueueBounds


def test_what_is_offered_from_many_threads_arrives_whole_and_in_each_ones_order() -> None:
    taken: list[tuple[int, int]] = []
    queue: BackgroundQueue[tuple[int, int]] = BackgroundQueue(
        "test", taken.extend, QueueBounds(10**6)
    )

    def offer(who: int) -> None:
        for number in range(2_000):
            assert queue.offer((who, number))

    threads = [threading.Thread(target=offer, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.close(20)
    for who in range(4):
        assert [number for each, number in taken if each == who] == list(range(2_000))


def test_beyond_the_limit_nothing_is_taken_and_nobody_waits() -> None:
    entered, gate = threading.Event(), threading.Event()
    taken: list[int] = []

    def consume(things: list[int]) -> None:
        taken.extend(things)
        entered.set()
        assert gate.wait(20)

    queue = BackgroundQueue("test", consume, QueueBounds(3))
    assert queue.offer(0)
    assert entered.wait(20)
    assert [queue.offer(number) for number in range(1, 6)] == [True, True, True, False, False]
    assert queue.put_urgent(6, spare=1)
    assert queue.dropped == 2
    gate.set()
    queue.close(20)
    assert taken == [0, 1, 2, 3, 6]


def test_what_is_urgent_does_not_wait_for_company() -> None:
    taken = threading.Event()
    queue: BackgroundQueue[int] = BackgroundQueue(
        "test", lambda _: taken.set(), QueueBounds(3, gather_seconds=3600)
    )
    assert queue.offer(0)
    assert not taken.is_set()
    assert queue.put_urgent(1, spare=0)
    assert taken.wait(20)
    queue.close(20)


def test_closing_gives_up_on_a_consumer_that_hangs() -> None:
    gate = threading.Event()
    queue: BackgroundQueue[int] = BackgroundQueue(
        "test", lambda _: gate.wait(20) and None, QueueBounds(3)
    )
    queue.offer(0)
    queue.close(0.05)
    gate.set()


def test_sizes_are_bounded_until_they_are_consumed() -> None:
    entered, gate = threading.Event(), threading.Event()

    def consume(things: list[int]) -> None:  # noqa: ARG001
        entered.set()
        assert gate.wait(20)

    queue = BackgroundQueue(
        "test",
        consume,
        QueueBounds(100, size=10, until_consumed=True, portion=1),
        lambda size: size,
    )
    assert queue.offer(6)
    assert entered.wait(20)
    assert [queue.offer(5), queue.offer(4), queue.offer(1)] == [False, True, False]
    gate.set()
    queue.close(20)
    assert queue.dropped == 2
    assert queue.offer(10)


def test_portions_are_bounded_and_an_idle_queue_consumes_an_empty_one() -> None:
    portions: list[list[int]] = []
    gate, idle = threading.Event(), threading.Event()

    def consume(things: list[int]) -> None:
        assert gate.wait(20)
        portions.append(things)
        if not things:
            idle.set()

    bounds = QueueBounds(10, portion=2, idle_seconds=0.05)
    queue: BackgroundQueue[int] = BackgroundQueue("test", consume, bounds)
    for number in range(5):
        queue.offer(number)
    gate.set()
    assert idle.wait(20)
    queue.close(20)
    filled = [portion for portion in portions if portion]
    assert [number for portion in filled for number in portion] == list(range(5))
    assert max(map(len, filled)) == 2


def test_closing_without_draining_drops_what_waits() -> None:
    entered, gate = threading.Event(), threading.Event()
    taken: list[int] = []
    queue: BackgroundQueue[int]

    def consume(things: list[int]) -> None:
        taken.extend(things)
        entered.set()
        assert queue.closing.wait(20)
        assert gate.wait(20)

    queue = BackgroundQueue("test", consume, QueueBounds(10, portion=1))
    for number in range(3):
        queue.offer(number)
    assert entered.wait(20)
    gate.set()
    queue.close(20, drain=False)
    assert taken == [0]
