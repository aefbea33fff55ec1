"""The Python client, blocking and asynchronous.

    from isoserve import Client

    with Client("http://localhost:8000") as client:
        verdict = client.predict("photo.jpg")
        print(verdict.prediction.label, verdict.ood.is_ood, verdict.ood.p_value)

A full queue (429, or 503 with Retry-After) is tried again when the server says, a bounded number
of times. Every failure is an :class:`~isoserve.client.exceptions.IsoserveError` that names the
request.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from types import TracebackType
from typing import Self, Unpack

import httpx

from isoserve.client.exceptions import Unreachable
from isoserve.client.requests import (
    Answer,
    PredictOptions,
    Request,
    batch_requests,
    models_request,
    predict_request,
)
from isoserve.client.results import ModelInfo, Problem, Verdict
from isoserve.client.uploads import ImageSource


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client goes on.

    ``timeout``: seconds for each step of a request (connect, write, read). ``retries``: how often
    a request is sent again when the server is busy. ``longest_wait``: a Retry-After of more
    seconds than this is not waited for.
    """

    timeout: float = 30.0
    retries: int = 4
    longest_wait: float = 30.0

    def wait(self, response: httpx.Response, attempt: int) -> float | None:
        """Seconds until the request may be sent again; None where it should not be.

        Up to a quarter is added by chance, so that many clients do not come back at one moment.
        """
        asked = response.headers.get("retry-after")
        busy = response.status_code == 429 or (response.status_code == 503 and asked)
        if not busy or attempt >= self.retries:
            return None
        seconds = _seconds(asked) if asked else 1.0
        if seconds is None or seconds > self.longest_wait:
            return None
        return seconds * random.uniform(1.0, 1.25)


class Client:
    """Blocking; may be shared between threads, and is best kept for many requests.

    Args:
        url: of the server, such as ``http://localhost:8000``.
        token: bearer token, for a server that asks for one.
        patience: time-outs and retries.
        http: a client of your own, for proxies, certificates or headers; closed with this one.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        patience: Patience = Patience(),
        http: httpx.Client | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = _headers(token)
        self._patience = patience
        self._http = http or httpx.Client(timeout=patience.timeout)

    def predict(self, image: ImageSource, **options: Unpack[PredictOptions]) -> Verdict:
        """The verdict on one image.

        Args:
            image: a path, the bytes of an image file, a binary file, a PIL image or a uint8 array
                [H, W, 3].
            options: ``model``, ``version``, ``top_k``, ``alpha``, ``explain``, as in
                :class:`isoserve.client.requests.PredictOptions`.

        Raises:
            ImageRefused: the bytes are not an image that the server takes.
            ServerBusy: still, after the retries.
            RequestRefused: any other error status.
            Unreachable: no answer came.
            OSError, TypeError: the image cannot be read here.
        """
        return self._ask(predict_request(image, options))

    def predict_batch(
        self, images: Iterable[ImageSource], **options: Unpack[PredictOptions]
    ) -> list[Verdict | Problem]:
        """A verdict, or the problem with it, for each image in order.

        Options are those of :meth:`predict`. Any number of images: they are read and sent a few
        at a time.

        Raises:
            as :meth:`predict`, save that an image the server refuses is a Problem in the list.
        """
        results: list[Verdict | Problem] = []
        for request in batch_requests(images, options):
            verdicts = self._ask(request)
            results += verdicts
        return results

    def models(self) -> tuple[ModelInfo, ...]:
        """Every model of the server, its versions and their cards."""
        return self._ask(models_request())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, request: Request[Answer]) -> Answer:
        for attempt in count():
            try:
                response = self._http.request(
                    request.method,
                    self._url + request.path,
                    params=request.params,
                    headers=self._headers,
                    **request.body,
                )
            except (httpx.RequestError, httpx.InvalidURL) as error:
                raise _unreachable(self._url, error) from error
            wait = self._patience.wait(response, attempt)
            if wait is None:
                break
            time.sleep(wait)
        return request.answer(response)


class AsyncClient:
    """:class:`Client` for asyncio: the same methods, awaited."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        patience: Patience = Patience(),
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = _headers(token)
        self._patience = patience
        self._http = http or httpx.AsyncClient(timeout=patience.timeout)

    async def predict(self, image: ImageSource, **options: Unpack[PredictOptions]) -> Verdict:
        """As :meth:`Client.predict`; files are read in a thread."""
        return await self._ask(await asyncio.to_thread(predict_request, image, options))

    async def predict_batch(
        self, images: Iterable[ImageSource], **options: Unpack[PredictOptions]
    ) -> list[Verdict | Problem]:
        """As :meth:`Client.predict_batch`; files are read in a thread."""
        requests = batch_requests(images, options)
        results: list[Verdict | Problem] = []
        while request := await asyncio.to_thread(next, requests, None):
            verdicts = await self._ask(request)
            results += verdicts
        return results

    async def models(self) -> tuple[ModelInfo, ...]:
        """As :meth:`Client.models`."""
        return await self._ask(models_request())

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _ask(self, request: Request[Answer]) -> Answer:
        for attempt in count():
            try:
                response = await self._http.request(
                    request.method,
                    self._url + request.path,
                    params=request.params,
                    headers=self._headers,
                    **request.body,
                )
            except (httpx.RequestError, httpx.InvalidURL) as error:
                raise _unreachable(self._url, error) from error
            wait = self._patience.wait(response, attempt)
            if wait is None:
                break
            await asyncio.sleep(wait)
        return request.answer(response)


def _headers(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def _unreachable(url: str, error: Exception) -> Unreachable:
    return Unreachable(f"no answer from {url}: {error or type(error).__name__}")


def _seconds(retry_after: str) -> float | None:
    """Retry-After's seconds, or the time until its date (RFC 9110); None where it is neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:  # HTTP's dates are UTC whatever they say
        date = date.replace(tzinfo=UTC)
    return max((date - datetime.now(UTC)).total_seconds(), 0.0)
