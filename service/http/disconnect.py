"""Clients that leave before they are answered: the images of theirs that still wait go too."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from starlette.types import Receive

from isoserve.service.batching.job import AwaitedJob

WATCH_AFTER_SECONDS = 0.05
"""A request that is answered sooner does not pay for noticing that its client has gone."""


class ClientGone(Exception):
    """The client closed the connection before its request was complete or answered."""


async def gather_until_disconnect(jobs: Sequence[AwaitedJob], receive: Receive) -> list[Any]:
    """Each job's answer or error; a client that leaves takes its waiting jobs along.

    Raises:
        ClientGone: the connection closed first.
    """
    futures = [job.future for job in jobs]
    watch: asyncio.Task[None] | None = None

    async def wait_for_disconnect() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        for future in futures:
            future.cancel()

    def start_watching() -> None:
        nonlocal watch
        watch = loop.create_task(wait_for_disconnect())

    loop = asyncio.get_running_loop()
    timer = loop.call_later(WATCH_AFTER_SECONDS, start_watching)
    try:
        return [await future for future in futures]
    except asyncio.CancelledError as error:
        if watch is not None and watch.done():
            raise ClientGone from error
        raise
    finally:
        timer.cancel()
        if watch is not None:
            watch.cancel()
