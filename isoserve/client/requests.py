"""What a client asks of a server, apart from how it is sent: one place for both clients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypedDict, TypeVar

import httpx

from isoserve.client.exceptions import refusal
from isoserve.client.results import ModelInfo, Problem, Verdict
from isoserve.client.uploads import ImageSource, chunks, image_bytes

Answer = TypeVar("Answer")

REQUEST_IMAGES = 32
REQUEST_BYTES = 32 * 2**20
"""A batch is sent as requests of at most these; both are within the server's default limits."""


class PredictOptions(TypedDict, total=False):
    """What may be asked of a verdict; what is not given or None, the server's settings decide."""

    model: str | None
    """Which model answers."""
    version: int | None
    """Answer only if this version serves."""
    top_k: int | None
    """How many classes to name, most probable first."""
    alpha: float | None
    """Out-of-distribution where the p-value is at most this; between 0 and 1."""
    explain: bool | None
    """Add the picture as the model saw it, and all distances."""


@dataclass(frozen=True)
class Request(Generic[Answer]):
    """A request, and what its answer is."""

    method: str
    path: str
    parse: Callable[[Any], Answer]
    params: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    """``content`` or ``files``, as httpx takes them."""

    def answer(self, response: httpx.Response) -> Answer:
        """What the server said.

        Raises:
            RequestRefused: it said no, or it is no Isoserve server.
        """
        try:
            document = response.json()
            if response.is_success:
                return self.parse(document)
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


def predict_request(image: ImageSource, options: PredictOptions) -> Request[Verdict]:
    """A verdict on one image, which is read here.

    Raises:
        OSError, TypeError: the image cannot be read, or there is no such option.
    """
    params = _params(options)
    body = {"content": image_bytes(image)}
    return Request("POST", "/v1/predict", Verdict.parse, params, body)


def batch_requests(
    images: Iterable[ImageSource], options: PredictOptions
) -> Iterator[Request[list[Verdict | Problem]]]:
    """Verdicts on any number of images; they are read as the requests are taken."""
    params = _params(options)
    for group in chunks(map(image_bytes, images), REQUEST_IMAGES, REQUEST_BYTES):
        files = [
            ("files", (str(place), body, "application/octet-stream"))
            for place, body in enumerate(group)
        ]
        yield Request("POST", "/v1/predict/batch", _parse_batch, params, {"files": files})


def models_request() -> Request[tuple[ModelInfo, ...]]:
    """Every model of the server."""
    return Request("GET", "/v1/models", _parse_models)


def _params(options: PredictOptions) -> dict[str, str]:
    unknown = options.keys() - PredictOptions.__annotations__.keys()
    if unknown:
        known = ", ".join(PredictOptions.__annotations__)
        raise TypeError(f"no option {min(unknown)!r}; there are {known}")
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in options.items()
        if value is not None
    }


def _parse_batch(document: Mapping[str, Any]) -> list[Verdict | Problem]:
    return [
        Verdict.parse(entry) if "prediction" in entry else Problem.parse(entry)
        for entry in document["results"]
    ]


def _parse_models(document: Mapping[str, Any]) -> tuple[ModelInfo, ...]:
    return tuple(ModelInfo.parse(entry) for entry in document["models"])
