"""Ends runs of a network that do not end by themselves, and knows when that is in vain."""

from __future__ import annotations

import logging
import threading
from time import monotonic

from isoserve.service.inference.model import Model
from isoserve.service.repository.versions import ServingModel

log = logging.getLogger("isoserve.batching")

LOOK_SECONDS = 0.25

LEAST_SECONDS, USUAL_TIMES = 5.0, 20.0
"""A run may take at least so long, and so many times its largest batch at warm-up; no run of a
sound model takes longer, and the other models wait for the slot."""

VAIN_SECONDS = 5.0
"""A run that goes on for so long after it was told to end is stuck."""


class RunWatch:
    """What each slot runs, and a thread that looks at it.

    A version whose run was ended runs no more, and the repository takes it out of service.

    Args:
        seconds: the longest that a run may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running: dict[int, ServingModel] = {}
        self._told: dict[int, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="run-watch", daemon=True)
        self._thread.start()

    def begin(self, slot: int, served: ServingModel) -> None:
        """The slot begins a batch of this version."""
        self._running[slot] = served

    def end(self, slot: int) -> None:
        """The slot's batch is done."""
        del self._running[slot]

    @property
    def stuck(self) -> bool:
        """Whether a run goes on that was told to end some time ago."""
        now = monotonic()
        return any(now - told > VAIN_SECONDS for told in [*self._told.values()])

    def end_all(self) -> None:
        """Tell whatever runs to end."""
        for served in [*self._running.values()]:
            served.model.end_runs(0.0)

    def close(self) -> None:
        """End the watch."""
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        """At every slot; its own frame, so that the thread holds no model in between."""
        running = [*self._running.items()]
        for slot, served in running:
            self._look_at(slot, served.model)
        for slot in {*self._told} - {slot for slot, _ in running}:
            del self._told[slot]

    def _look_at(self, slot: int, model: Model) -> None:
        usual = max(LEAST_SECONDS, USUAL_TIMES * model.warm_up_seconds)
        if slot not in self._told and model.end_runs(min(self._seconds, usual)):
            self._told[slot] = monotonic()
            log.error("%s version %d: %s", model.name, model.version, model.ended)
