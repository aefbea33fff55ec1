"""Several models in one queue: none has less of it than its share because others are flooded.

Names stand for models here, so that nothing of this keeps a version in memory.
"""

from __future__ import annotations

from time import perf_counter

ACTIVE_SECONDS = 1.0
"""A model that was asked for so lately is expected to be asked again, and has its share."""

TURN_SECONDS = 0.02
"""While several models are asked, no batch takes longer than about this: the others wait for it."""


class FairShare:
    """Who waits, who has been served for how long, and whose turn it is.

    Its caller holds the queue's lock, but for :meth:`counted`.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, int] = {}
        self._asked: dict[str, float] = {}
        self._served: dict[str, float] = {}
        self._now = 0.0

    @property
    def several(self) -> bool:
        """Whether more than one model is asked."""
        return len(self._asked) > 1

    def counted(self, model: str, reserved: int = 0) -> int:
        """The images ahead of one of this model, where all models had as many waiting.

        Args:
            reserved: images of this model that will be queued soon.
        """
        own = self._waiting.get(model, 0) + reserved
        if len(self._asked) < 2 and model in self._asked:
            return own
        others = sum(1 for name in [*self._asked] if name != model)
        return own * (1 + others)

    def queued(self, model: str, images: int) -> None:
        """Images of this model wait from now on."""
        now = perf_counter()
        if self._asked.get(model, 0.0) < now - ACTIVE_SECONDS or self.several:
            self._forget(now)
        self._asked[model] = now
        if not self._waiting.get(model):
            # What it did not ask for in the past gives it no claim to all of the future.
            self._served[model] = max(self._served.get(model, 0.0), self._now)
        self._waiting[model] = self._waiting.get(model, 0) + images

    def taken(self, model: str, images: int, seconds: float) -> None:
        """A slot takes images of this model, which will keep it for so long."""
        left = self._waiting.get(model, 0) - images
        if left > 0:
            self._waiting[model] = left
        else:
            self._waiting.pop(model, None)
        self._now = self._served.get(model, 0.0)
        self._served[model] = self._now + seconds

    def turn(self, model: str) -> float:
        """The model with the least of these is next: what it has been served, in seconds."""
        return self._served.get(model, 0.0)

    def _forget(self, now: float) -> None:
        for name in [name for name, at in self._asked.items() if at < now - ACTIVE_SECONDS]:
            if name not in self._waiting:
                del self._asked[name]
                self._served.pop(name, None)
