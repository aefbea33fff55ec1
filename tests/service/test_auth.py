"""Who may ask: tokens from a file, several at once, changed under a running server."""

from __future__ import annotations

from pathlib import Path

import pytest
from image_bytes import colour
from running_server import StartServer
from tiny_model import write_tiny_model

from isoserve.models.errors import InputError
from isoserve.service import auth as tokens
from isoserve.service.auth import Guard, Tokens

FIRST = "first-token-0123456789"
SECOND = "second-token-0123456789"


def bearer(token: str) -> bytes:
    return f"Bearer {token}".encode()


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"# of the shop\n{FIRST}\n\n{SECOND}\n")
    return path


def test_any_token_of_the_file_opens_and_nothing_else(path: Path) -> None:
    held = Tokens(path)
    assert held.allow(bearer(FIRST))
    assert held.allow(b"bearer " + SECOND.encode())
    for wrong in (b"", bearer(""), bearer(FIRST[:-1]), bearer(FIRST + "x"), FIRST.encode()):
        assert not held.allow(wrong)
    assert not held.allow(b"Basic " + FIRST.encode())
    assert not held.allow(bearer("# of the shop"))


def test_tokens_change_with_the_file_and_a_bad_file_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "LOOK_AGAIN_SECONDS", 0.0)
    held = Tokens(path)
    path.write_text(SECOND + "\n")
    assert not held.allow(bearer(FIRST))
    assert held.allow(bearer(SECOND))
    path.write_text("short")
    assert held.allow(bearer(SECOND))
    path.unlink()
    assert held.allow(bearer(SECOND))
    path.write_text(FIRST)
    assert held.allow(bearer(FIRST))
    assert not held.allow(bearer(SECOND))


@pytest.mark.parametrize("text", ["", "# only words\n", "short\n", "with a space in the middle\n"])
def test_a_file_without_good_tokens_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(InputError, match="token"):
        Tokens(path)


def test_open_paths_need_no_token(path: Path) -> None:
    guard = Guard(Tokens(path), ("/healthz/", "/metrics"))

    def is_authorized(at: str, *headers: tuple[bytes, bytes]) -> bool:
        return guard.is_authorized({"path": at, "headers": list(headers)})

    assert is_authorized("/healthz/live")
    assert is_authorized("/metrics")
    assert not is_authorized("/v1/predict")
    assert not is_authorized("/x/healthz/live")
    assert is_authorized("/v1/predict", (b"authorization", bearer(FIRST)))
    # Of two headers the first counts, as proxies do.
    twice = [(b"authorization", b"Bearer no"), (b"authorization", bearer(FIRST))]
    assert not is_authorized("/v1/predict", *twice)


def test_a_server_with_a_token_file_answers_401_without_one(
    start_server: StartServer, tmp_path: Path, path: Path
) -> None:
    write_tiny_model(tmp_path / "models" / "m" / "1" / "model.onnx")
    server = start_server(
        *(tmp_path / "models", "--token-file", str(path), "--open-paths", "/healthz/")
    )
    red = colour(255, 0, 0)
    refused = server.post("/v1/predict", content=red)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["id"] == refused.headers["x-request-id"]
    for hidden in ("/metrics", "/docs", "/v1/models", "/nowhere"):
        assert server.get(hidden).status_code == 401
    known = {"Authorization": f"Bearer {SECOND}"}
    assert server.post("/v1/predict", content=red, headers=known).status_code == 200
