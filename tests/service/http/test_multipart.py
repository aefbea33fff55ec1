"""Forms, read from memory."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import write_tiny_model

from isoserve.service.app import create_app
from isoserve.service.errors import Problem
from isoserve.service.http.multipart import images_of_form, is_multipart
from isoserve.service.http.routes import predict
from isoserve.service.settings import Settings


def form(files: list[tuple[str, bytes]]) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Body and headers as a public client writes them."""
    request = httpx.Request(
        "POST", "http://test", files=[(name, ("f", content)) for name, content in files]
    )
    return request.read(), [(k.lower(), v) for k, v in request.headers.raw]


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_contents_come_back_to_the_byte_and_in_order(contents: list[bytes]) -> None:
    body, headers = form([("files", content) for content in contents])
    assert is_multipart(headers)
    assert images_of_form(body, headers, "files", 5) == contents


@given(st.binary(max_size=400), st.integers(0, 400))
def test_a_form_that_ends_early_or_is_garbage_is_a_400(junk: bytes, cut: int) -> None:
    body, headers = form([("file", b"some image bytes" * 10)])
    for broken in (body[: min(cut, len(body) - 6)], junk, body[:40] + junk):
        with pytest.raises(Problem) as caught:
            images_of_form(broken, headers, "file", 1)
        assert caught.value.status == 400


def test_other_fields_are_passed_over_up_to_a_limit() -> None:
    body, headers = form([("a", b"1"), ("file", b"2"), ("b", b"3")])
    assert images_of_form(body, headers, "file", 1) == [b"2"]
    body, headers = form([(f"x{i}", b"1") for i in range(100)] + [("file", b"2")])
    with pytest.raises(Problem):
        images_of_form(body, headers, "file", 1)


def test_more_files_than_allowed_are_a_413() -> None:
    body, headers = form([("file", b"1"), ("file", b"2")])
    with pytest.raises(Problem) as caught:
        images_of_form(body, headers, "file", 1)
    assert caught.value.status == 413


def test_a_form_without_a_boundary_is_a_400() -> None:
    with pytest.raises(Problem) as caught:
        images_of_form(b"", [(b"content-type", b"multipart/form-data")], "file", 1)
    assert caught.value.status == 400


@pytest.mark.parametrize(("size", "on_the_loop"), [(10, True), (100_000, False)])
def test_a_large_form_is_not_parsed_on_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, on_the_loop: bool
) -> None:
    write_tiny_model(tmp_path / "tiny" / "1" / "model.onnx")
    app = create_app(Settings(repository=tmp_path))
    app.repository.scan()
    threads: list[threading.Thread] = []

    def seen(*form: Any) -> list[bytes]:
        threads.append(threading.current_thread())
        return images_of_form(*form)

    monkeypatch.setattr(predict, "images_of_form", seen)

    async def ask() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            await client.post("http://test/v1/predict", files={"file": bytes(size)})

    asyncio.run(ask())
    assert [thread is threading.main_thread() for thread in threads] == [on_the_loop]
