"""Ends runs of a network that do not end by themselves, and knows when that is in vain."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from time import monotonic

from isoserve.service.repository.versions import ServingModel

log = logging.getLogger("isoserve.batching")

LOOK_SECONDS = 0.25

LEAST_SECONDS, USUAL_TIMES = 5.0, 20.0
"""A run may take at least so long, and so many times its largest batch at warm-up; no run of a
sound model takes longer, and the other models wait for the slot."""

VAIN_SECONDS = 5.0
"""A run that goes on for so long after it was told to end is stuck."""


@dataclass(eq=False)
class _Batch:
    """A slot's batch: of which version, and when its run was told to end."""

    served: ServingModel
    told: float | None = None


class RunWatch:
    """What each slot runs, and a thread that looks at it.

    A version whose run was ended runs no more, and the repository takes it out of service.

    Args:
        seconds: the longest that a run may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running: dict[int, _Batch] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="run-watch", daemon=True)
        self._thread.start()

    def begin(self, slot: int, served: ServingModel) -> None:
        """The slot begins a batch of this version."""
        self._running[slot] = _Batch(served)

    def end(self, slot: int) -> None:
        """The slot's batch is done."""
        del self._running[slot]

    @property
    def stuck(self) -> bool:
        """Whether a run goes on that was told to end some time ago."""
        now = monotonic()
        told = [batch.told for batch in [*self._running.values()]]
        return any(when is not None and now - when > VAIN_SECONDS for when in told)

    def end_all(self) -> None:
        """Tell whatever runs to end."""
        for slot, batch in [*self._running.items()]:
            batch.served.model.end_run(slot, 0.0)

    def close(self) -> None:
        """End the watch."""
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        """At every slot; its own frame, so that the thread holds no model in between."""
        for slot, batch in [*self._running.items()]:
            self._look_at(slot, batch)

    def _look_at(self, slot: int, batch: _Batch) -> None:
        model = batch.served.model
        usual = max(LEAST_SECONDS, USUAL_TIMES * model.warm_up_seconds)
        if batch.told is None and model.end_run(slot, min(self._seconds, usual)):
            batch.told = monotonic()
            log.error("%s version %d: %s", model.name, model.version, model.ended)
