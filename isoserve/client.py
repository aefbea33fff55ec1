"""The Python client, blocking and asynchronous.

    from isoserve import Client

    with Client("http://localhost:8000") as client:
        verdict = client.predict("photo.jpg")
        print(verdict.prediction.label, verdict.ood.is_ood, verdict.ood.p_value)

A full queue (429, or 503 with Retry-After) is tried again when the server says, a bounded number
of times. Every failure is an :class:`isoserve.failures.IsoserveError` that names the request.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from isoserve.answers import ModelInfo, Problem, Verdict
from isoserve.failures import Unreachable, refusal
from isoserve.uploads import ImageSource, chunks, image_bytes

Answer = TypeVar("Answer")

REQUEST_IMAGES = 32
REQUEST_BYTES = 32 * 2**20
"""A batch is sent as requests of at most these; both are within the server's default limits."""


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
        token: bearer token, for a server that wants one.
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

    def predict(
        self,
        image: ImageSource,
        *,
        model: str | None = None,
        version: int | None = None,
        top_k: int | None = None,
        alpha: float | None = None,
    ) -> Verdict:
        """The verdict on one image; what is not given, the server's settings decide.

        Raises:
            ImageRefused: the bytes are no image that the server takes.
            ServerBusy: still, after the retries.
            RequestRefused: any other error status.
            Unreachable: no answer came.
            OSError, TypeError: the image cannot be read here.
        """
        params = _params(model, version, top_k, alpha)
        response = self._send("POST", "/v1/predict", params, content=image_bytes(image))
        return _answer(response, Verdict.parse)

    def predict_batch(
        self,
        images: Iterable[ImageSource],
        *,
        model: str | None = None,
        version: int | None = None,
        top_k: int | None = None,
        alpha: float | None = None,
    ) -> list[Verdict | Problem]:
        """A verdict, or the problem with it, for each image in order.

        Any number of images: they are read and sent a few at a time.

        Raises:
            as :meth:`predict`, save that an image the server refuses is a Problem in the list.
        """
        params = _params(model, version, top_k, alpha)
        results: list[Verdict | Problem] = []
        for group in chunks(map(image_bytes, images), REQUEST_IMAGES, REQUEST_BYTES):
            response = self._send("POST", "/v1/predict/batch", params, files=_form(group))
            results += _answer(response, _parse_batch)
        return results

    def models(self) -> tuple[ModelInfo, ...]:
        """Every model of the server, its versions and their cards."""
        return _answer(self._send("GET", "/v1/models", {}), _parse_models)

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

    def _send(
        self, method: str, path: str, params: Mapping[str, str], **body: Any
    ) -> httpx.Response:
        url, headers = self._url + path, self._headers
        for attempt in count():
            try:
                response = self._http.request(method, url, params=params, headers=headers, **body)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                raise _unreachable(self._url, error) from error
            wait = self._patience.wait(response, attempt)
            if wait is None:
                break
            time.sleep(wait)
        return response


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

    async def predict(
        self,
        image: ImageSource,
        *,
        model: str | None = None,
        version: int | None = None,
        top_k: int | None = None,
        alpha: float | None = None,
    ) -> Verdict:
        """As :meth:`Client.predict`; files are read in a thread."""
        params = _params(model, version, top_k, alpha)
        body = await asyncio.to_thread(image_bytes, image)
        response = await self._send("POST", "/v1/predict", params, content=body)
        return _answer(response, Verdict.parse)

    async def predict_batch(
        self,
        images: Iterable[ImageSource],
        *,
        model: str | None = None,
        version: int | None = None,
        top_k: int | None = None,
        alpha: float | None = None,
    ) -> list[Verdict | Problem]:
        """As :meth:`Client.predict_batch`."""
        params = _params(model, version, top_k, alpha)
        groups = chunks(map(image_bytes, images), REQUEST_IMAGES, REQUEST_BYTES)
        results: list[Verdict | Problem] = []
        while group := await asyncio.to_thread(_next, groups):
            response = await self._send("POST", "/v1/predict/batch", params, files=_form(group))
            results += _answer(response, _parse_batch)
        return results

    async def models(self) -> tuple[ModelInfo, ...]:
        """As :meth:`Client.models`."""
        return _answer(await self._send("GET", "/v1/models", {}), _parse_models)

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

    async def _send(
        self, method: str, path: str, params: Mapping[str, str], **body: Any
    ) -> httpx.Response:
        url, headers = self._url + path, self._headers
        for attempt in count():
            try:
                response = await self._http.request(
                    method, url, params=params, headers=headers, **body
                )
            except (httpx.TransportError, httpx.InvalidURL) as error:
                raise _unreachable(self._url, error) from error
            wait = self._patience.wait(response, attempt)
            if wait is None:
                break
            await asyncio.sleep(wait)
        return response


def _headers(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def _params(
    model: str | None, version: int | None, top_k: int | None, alpha: float | None
) -> dict[str, str]:
    given = {"model": model, "version": version, "top_k": top_k, "alpha": alpha}
    return {name: str(value) for name, value in given.items() if value is not None}


def _form(group: list[bytes]) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [
        ("files", (str(place), body, "application/octet-stream"))
        for place, body in enumerate(group)
    ]


def _answer(response: httpx.Response, parse: Callable[[Any], Answer]) -> Answer:
    try:
        document = response.json()
        if response.is_success:
            return parse(document)
        problem = Problem.parse(document)
    except (ValueError, LookupError, TypeError):
        # A proxy on the way, or another program on that port.
        problem = Problem(
            response.status_code,
            "no_isoserve_answer",
            f"the answer of {response.url} is none of an Isoserve server",
            response.headers.get("x-request-id", ""),
        )
    raise refusal(problem)


def _parse_batch(document: Mapping[str, Any]) -> list[Verdict | Problem]:
    return [
        Verdict.parse(entry) if "prediction" in entry else Problem.parse(entry)
        for entry in document["results"]
    ]


def _parse_models(document: Mapping[str, Any]) -> tuple[ModelInfo, ...]:
    return tuple(ModelInfo.parse(entry) for entry in document["models"])


def _unreachable(url: str, error: Exception) -> Unreachable:
    return Unreachable(f"no answer from {url}: {error or type(error).__name__}")


def _seconds(retry_after: str) -> float | None:
    """Retry-After's seconds, or the time until its date (RFC 9110); None where it is neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max((date - datetime.now(UTC)).total_seconds(), 0.0)


def _next(groups: Iterator[list[bytes]]) -> list[bytes]:
    return next(groups, [])
