"""Workers on Ray: an actor each, on this machine or on a cluster.

No image crosses Ray's object store: a unit and its counts do.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

from isoserve.models.errors import InputError
from isoserve.score.counts import Counts
from isoserve.score.pool import Outcome, UnitFailed
from isoserve.score.units import Unit
from isoserve.score.worker import Job, Worker

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "ORT_DISABLE_TELEMETRY": "1",
    "OMP_NUM_THREADS": "1",
}

START_SECONDS = {"RAY_raylet_start_wait_time_s": "120"}
"""A busy machine starts a Ray of its own in more than the 30 s that are its default."""


PATIENCE_SECONDS = 30.0
"""Until it is said that no worker has started; a cluster may still be growing."""

log = logging.getLogger("isoserve.score")


class RayPool:
    """One actor a worker; one that dies is started again by Ray, and its unit is not.

    Args:
        address: ``local`` for a Ray of its own, ``auto`` or ``ray://HOST:PORT`` for a cluster.
        gpus: of each worker; a share such as 0.5 lets two workers have one.

    Raises:
        InputError: Ray is not installed, or no cluster answers at the address.
    """

    def __init__(self, job: Job, workers: int, address: str, gpus: float = 0) -> None:
        os.environ.update(ENVIRONMENT)
        for name, value in START_SECONDS.items():
            os.environ.setdefault(name, value)
        try:
            import ray
        except ImportError as error:
            raise InputError("--address needs Ray: pip install 'isoserve[score]'") from error
        self._ray = ray
        try:
            ray.init(
                address=None if address == "local" else address,
                num_cpus=workers if address == "local" else None,
                include_dashboard=False,
                log_to_driver=False,
                runtime_env={"env_vars": ENVIRONMENT},
            )
        except Exception as error:  # Ray raises bare ones, as where a node does not start in time
            said = " ".join(str(error).split())
            raise InputError(f"no Ray at --address {address}: {said}") from error
        # Without these a unit that kills its process would be tried for ever.
        actor = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=-1, max_task_retries=0)(_Scorer)
        self._waiting: list[Any] = []
        self._running: dict[Any, tuple[Any, Unit]] = {}
        self._starting = dict(map(self._begun, (actor.remote(job) for _ in range(workers))))
        while not ray.wait([*self._starting], num_returns=1, timeout=PATIENCE_SECONDS)[0]:
            log.warning("no worker has started: the cluster at %s has no core free", address)
        self._take_started()

    @property
    def idle(self) -> int:
        return len(self._waiting)

    def submit(self, unit: Unit) -> None:
        actor = self._waiting.pop()
        self._running[actor.score.remote(unit)] = (actor, unit)

    def outcomes(self) -> Iterator[Outcome]:
        self._ray.wait([*self._running, *self._starting], num_returns=1)
        self._take_started()
        ended, _ = self._ray.wait([*self._running], num_returns=len(self._running), timeout=0)
        for reference in ended:
            actor, unit = self._running.pop(reference)
            answer = self._answer(reference)
            if isinstance(answer, Died):
                # Where it starts again, and whether there is room for it, is not known.
                self._starting |= (self._begun(actor),)
            else:
                self._waiting.append(actor)
            yield unit, answer

    def _begun(self, actor: Any) -> tuple[Any, Any]:
        """What is there once the actor has a process, and the actor.

        A cluster may have fewer cores than there are workers: those that have none get no unit,
        which would wait with them.
        """
        return actor.ready.options(max_task_retries=-1).remote(), actor

    def _take_started(self) -> None:
        if self._starting:
            references = [*self._starting]
            ready, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
            self._waiting += [self._starting.pop(reference) for reference in ready]

    def _answer(self, reference: Any) -> Counts | UnitFailed:
        try:
            answer: Counts | UnitFailed | InputError = self._ray.get(reference)
        except self._ray.exceptions.RayActorError:
            return Died("the worker's process died")
        if isinstance(answer, InputError):
            raise answer
        return answer

    def close(self) -> None:
        self._ray.shutdown()


class Died(UnitFailed):
    """With its worker."""


class _Scorer:
    """The actor. What is raised comes back as a value, since Ray wraps exceptions."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._worker: Worker | None = None

    def ready(self) -> None:
        """Answered by an actor that has a process."""

    def score(self, unit: Unit) -> Counts | UnitFailed | InputError:
        """As :meth:`isoserve.score.worker.Worker.score`."""
        try:
            self._worker = self._worker or Worker(self._job)
            return self._worker.score(unit)
        except InputError as error:
            return error
        except Exception as error:  # as in a process of this machine
            return UnitFailed(f"{type(error).__name__}: {error}")
