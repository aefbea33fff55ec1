"""Servers that are busy, away or something else, and how long the client goes on asking."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from image_bytes import colour

from isoserve import AsyncClient, Client, RequestRefused
from isoserve.client.client import Patience
from isoserve.client.exceptions import ServerBusy, Unreachable

RED = colour(255, 0, 0)
VERDICT = {
    "id": "a",
    "model": "m",
    "version": 1,
    "prediction": {"label": "x", "index": 0, "probability": 0.5},
    "top_k": [{"label": "x", "index": 0, "probability": 0.5}],
    "ood": {
        "is_ood": False,
        "p_value": 0.5,
        "class_p_value": 0.5,
        "entropic_score": -1.0,
        "alpha": 0.05,
    },
}
BUSY = {"type": "about:blank", "title": "", "status": 429, "reason": "r", "detail": "d", "id": "b"}


def answering(*answers: httpx.Response) -> tuple[httpx.Client, list[httpx.Request]]:
    """An HTTP client whose server gives these answers one after the other, the last for ever."""
    asked: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return answers[min(len(asked), len(answers)) - 1]

    return httpx.Client(transport=httpx.MockTransport(handle)), asked


def busy(retry_after: str = "0") -> httpx.Response:
    return httpx.Response(429, json=BUSY, headers={"Retry-After": retry_after})


def test_a_busy_server_is_asked_again_and_answers() -> None:
    http, asked = answering(busy(), busy(), httpx.Response(200, json=VERDICT))
    with Client("http://server", http=http) as client:
        assert client.predict(RED).id == "a"
    assert len(asked) == 3
    assert asked[0].content == asked[2].content == RED


@pytest.mark.parametrize("failure", [httpx.DecodingError, httpx.TooManyRedirects])
def test_an_answer_that_cannot_be_read_is_no_answer(failure: type[httpx.RequestError]) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise failure("broken on the way", request=request)

    http = httpx.Client(transport=httpx.MockTransport(fail))
    with (
        Client("http://server", http=http) as client,
        pytest.raises(Unreachable, match="no answer from http://server: broken on the way"),
    ):
        client.predict(RED)


def test_the_retries_are_bounded() -> None:
    http, asked = answering(busy())
    with (
        Client("http://server", http=http, patience=Patience(retries=2)) as client,
        pytest.raises(ServerBusy) as caught,
    ):
        client.predict(RED)
    assert len(asked) == 3
    assert caught.value.problem.id == "b"


def test_the_client_waits_as_long_as_it_is_asked_but_not_longer_than_it_has() -> None:
    http, asked = answering(busy("1"), httpx.Response(200, json=VERDICT))
    with Client("http://server", http=http) as client:
        began = time.monotonic()
        client.predict(RED)
        assert time.monotonic() - began >= 1.0
    http, asked = answering(busy("3600"))
    with Client("http://server", http=http) as client, pytest.raises(ServerBusy):
        client.predict(RED)
    assert len(asked) == 1


def test_retry_after_may_be_a_date_and_a_503_without_it_is_final() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=1000), usegmt=True)
    patience = Patience(longest_wait=2000)
    assert 900 < (patience.wait(busy(date), 0) or 0) < 1300
    assert 900 < (patience.wait(busy(date.removesuffix(" GMT")), 0) or 0) < 1300
    assert patience.wait(busy("soon"), 0) is None
    assert patience.wait(httpx.Response(503), 0) is None
    assert patience.wait(httpx.Response(503, headers={"Retry-After": "0"}), 0) == 0
    assert patience.wait(httpx.Response(500, headers={"Retry-After": "0"}), 0) is None


def test_an_answer_that_is_not_of_this_server_is_said_so() -> None:
    for answer in (
        httpx.Response(502, text="<html>Bad Gateway</html>"),
        httpx.Response(200, json={"hello": 1}),
        httpx.Response(200, json=[1]),
        httpx.Response(404, json={"detail": "x"}),
    ):
        http, _ = answering(answer)
        with Client("http://server", http=http) as client, pytest.raises(RequestRefused) as caught:
            client.predict(RED)
        assert caught.value.problem.reason == "no_isoserve_answer"


def test_a_server_that_is_not_there_is_unreachable() -> None:
    with (
        Client("http://127.0.0.1:9") as client,
        pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"),
    ):
        client.predict(RED)

    async def ask() -> None:
        async with AsyncClient("http://127.0.0.1:9") as client:
            await client.models()

    with pytest.raises(Unreachable):
        asyncio.run(ask())
