"""The queue under a running server: off by default, behind its token, from rejection to export."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from image_bytes import colour
from running_server import RunningServer, StartServer
from tiny_model import TinyModel, write_tiny_model

from isoserve.commands.options import build
from isoserve.models.errors import InputError
from isoserve.service.settings import ENV_PREFIX, Settings

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install 'isoserve[review]'")

ROOT = Path(__file__).parents[3]
TOKEN = "review-token-0123456789"
GRAY = colour(128, 128, 128)
RED = colour(255, 0, 0)


@dataclass
class Reviewed:
    """A server with a review queue."""

    server: RunningServer
    database: Path

    def ask(self, method: str, path: str = "", **options: Any) -> httpx.Response:
        return self.server.request(
            method, f"/v1/review/images{path}", headers={"X-Review-Token": TOKEN}, **options
        )

    def images(self, **filters: Any) -> list[dict[str, Any]]:
        answer = self.ask("GET", params=filters)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["images"])

    def wait_for(self, images: int) -> list[dict[str, Any]]:
        self.server.wait_until(lambda: len(self.images()) == images)
        return self.images()


@pytest.fixture
def reviewed(start_server: StartServer, tmp_path: Path) -> Iterator[Reviewed]:
    write_tiny_model(tmp_path / "models" / "tiny" / "1" / "model.onnx", TinyModel())
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN + "\n")
    database = tmp_path / "review.db"
    flags = ["--review-database", f"sqlite:///{database}", "--review-token-file", str(tokens)]
    server = start_server(tmp_path / "models", *flags, "--review-sample", "0")
    yield Reviewed(server, database)
    server.stop()


def export(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "isoserve", "review", "export", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_by_default_there_is_no_queue_and_the_page_says_that_nothing_is_kept(
    server: RunningServer,
) -> None:
    assert server.get("/v1/review/images").status_code == 404
    assert server.get("/review").status_code == 404
    page = server.get("/").text
    assert "are not kept" in page
    assert 'id="review-link" hidden' in page


def test_a_queue_without_tokens_is_refused_at_the_door() -> None:
    with pytest.raises(InputError, match="review_database needs review_token_file"):
        build(Settings, {"review_database": "sqlite:///x.db"}, ENV_PREFIX)


def test_the_page_says_what_is_kept(reviewed: Reviewed) -> None:
    page = reviewed.server.get("/").text
    assert "keeps those that the model does not know, for at most 30 days" in page
    assert 'id="review-link" hidden' not in page
    assert reviewed.server.get("/review").status_code == 200


def test_nothing_is_told_without_the_token(reviewed: Reviewed) -> None:
    server = reviewed.server
    server.post("/v1/predict", content=GRAY)
    number = reviewed.wait_for(1)[0]["id"]
    for headers in ({}, {"X-Review-Token": "wrong-token-0123456789"}, {"X-Review-Token": "ü"}):
        encoded = {name: value.encode("latin-1") for name, value in headers.items()}
        for method, path, body in (
            ("GET", "", None),
            ("GET", f"/{number}/file", None),
            ("PUT", f"/{number}/mark", {"mark": "junk"}),
        ):
            answer = server.request(method, f"/v1/review/images{path}", headers=encoded, json=body)
            assert answer.status_code == 403
            assert answer.json()["reason"] == "review_token"
    assert reviewed.images()[0]["mark"] is None


def test_from_a_rejection_over_a_label_to_an_image_folder(
    reviewed: Reviewed, tmp_path: Path
) -> None:
    server = reviewed.server
    shades = [colour(128 + i, 128, 128) for i in range(4)]
    for image in (RED, *shades):
        server.post("/v1/predict", content=image)
    newest, *others = reviewed.wait_for(4)
    assert all(image["rejected"] for image in (newest, *others))
    assert newest["model"] == "tiny"
    file = reviewed.ask("GET", f"/{newest['id']}/file")
    assert file.content == shades[-1]
    assert file.headers["content-type"] == "image/png"
    assert file.headers["cache-control"] == "private, no-store"

    marks = [
        {"mark": "new_class", "class_name": "gray things"},
        {"mark": "new_class", "class_name": "gray things"},
        {"mark": "known_class", "class_name": "red"},
        {"mark": "junk"},
    ]
    for image, mark in zip((newest, *others), marks, strict=True):
        assert reviewed.ask("PUT", f"/{image['id']}/mark", json=mark).status_code == 204
    assert reviewed.images(mark="none") == []
    assert len(reviewed.images(mark="new_class")) == 2

    base = tmp_path / "base"
    (base / "train" / "red").mkdir(parents=True)
    (base / "train" / "red" / "old.png").write_bytes(RED)
    url = f"sqlite:///{reviewed.database}"
    done = export(str(tmp_path / "out"), "--database", url, "--base", str(base))
    assert done.returncode == 0, done.stderr
    found = {
        path.relative_to(tmp_path / "out").parent.name: sorted(
            file.read_bytes() for file in path.parent.iterdir()
        )
        for path in (tmp_path / "out").glob("*/*.png")
    }
    assert found == {"gray things": sorted(shades[2:]), "red": sorted([shades[1], RED])}
    again = export(str(tmp_path / "out"), "--database", url)
    assert (again.returncode, len(again.stderr.splitlines())) == (2, 1)
    assert "has something in it" in again.stderr


def test_the_image_folder_can_be_read_by_training(reviewed: Reviewed, tmp_path: Path) -> None:
    data = pytest.importorskip("isoserve.training.data", reason="the train extra is missing")
    from isoserve.models.card import InputSpec

    reviewed.server.post("/v1/predict", content=GRAY)
    reviewed.server.post("/v1/predict", content=colour(90, 90, 90))
    for image, name in zip(reviewed.wait_for(2), ("light", "dark"), strict=True):
        mark = {"mark": "new_class", "class_name": name}
        assert reviewed.ask("PUT", f"/{image['id']}/mark", json=mark).status_code == 204
    out = tmp_path / "out"
    assert export(str(out), "--database", f"sqlite:///{reviewed.database}").returncode == 0
    images = data.load_images(str(out), "train", InputSpec(height=8, width=8), tmp_path)
    assert images.classes == ("dark", "light")
    assert len(images) == 2


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"mark": "known_class", "class_name": "tractor"}, "not a class of a model that serves"),
        ({"mark": "new_class", "class_name": "red"}, "is a class already"),
        ({"mark": "new_class", "class_name": "../../etc"}, "can name a folder"),
        ({"mark": "new_class", "class_name": ".."}, "can name a folder"),
        ({"mark": "new_class", "class_name": "a\x00b"}, "can name a folder"),
        ({"mark": "new_class", "class_name": 64 * "\U0001f98a"}, "255 bytes at most"),
        ({"mark": "new_class"}, "can name a folder"),
        ({"mark": "junk", "class_name": "x"}, "goes with known_class and new_class alone"),
        ({"mark": "nonsense"}, "mark"),
        ({}, "mark"),
    ],
)
def test_a_bad_label_is_refused_in_words(
    shared: Reviewed, body: dict[str, Any], words: str
) -> None:
    answer = shared.ask("PUT", "/1/mark", json=body)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]


def test_an_image_that_is_not_there_is_a_404(shared: Reviewed) -> None:
    for number in (10**6, 0, -1, 2**70):
        assert shared.ask("GET", f"/{number}/file").status_code == 404
        assert shared.ask("PUT", f"/{number}/mark", json={"mark": "junk"}).status_code == 404


def test_the_routes_are_documented(shared: Reviewed) -> None:
    paths = shared.server.get("/openapi.json").json()["paths"]
    assert {path for path in paths if path.startswith("/v1/review")} == {
        "/v1/review/images",
        "/v1/review/images/{number}/file",
        "/v1/review/images/{number}/mark",
    }


def test_a_database_that_is_away_stops_no_prediction_and_is_answered_with_503(
    reviewed: Reviewed,
) -> None:
    server = reviewed.server
    server.post("/v1/predict", content=GRAY)
    reviewed.wait_for(1)
    lock = sqlite3.connect(reviewed.database, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    for step in range(20):
        assert server.post("/v1/predict", content=colour(100 + step, 100, 100)).status_code == 200
    refused = reviewed.ask("PUT", "/1/mark", json={"mark": "junk"})
    assert (refused.status_code, refused.json()["reason"]) == (503, "review_database")
    assert refused.headers["retry-after"]
    lock.rollback()
    lock.close()
    reviewed.wait_for(21)
    metrics = server.get("/metrics").text
    assert 'isoserve_review_images_total{outcome="kept"} 21.0' in metrics
    assert 'isoserve_review_images_total{outcome="lost"} 0.0' in metrics


def test_export_without_labels_or_database_is_one_line_and_exit_code_2(
    shared: Reviewed, tmp_path: Path
) -> None:
    (tmp_path / "text.db").write_text("no database")
    for url, words in (
        (f"sqlite:///{shared.database}", "nothing to export"),
        (f"sqlite:///{tmp_path / 'no.db'}", "no review database at"),
        (f"sqlite:///{tmp_path / 'text.db'}", "no SQLite database"),
        ("postgresql+psycopg://user:s3cret@127.0.0.1:9/name", "cannot be read"),
    ):
        done = export(str(tmp_path / "out"), "--database", url)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert words in done.stderr
        assert "s3cret" not in done.stderr
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / "no.db").exists()


@pytest.fixture(scope="module")
def shared(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Reviewed:
    """A server with an empty queue that no test fills."""
    root = tmp_path_factory.mktemp("shared")
    write_tiny_model(root / "models" / "tiny" / "1" / "model.onnx", TinyModel())
    (root / "tokens").write_text(TOKEN)
    database = root / "review.db"
    flags = ["--review-database", f"sqlite:///{database}"]
    return Reviewed(
        start_server(root / "models", *flags, "--review-token-file", str(root / "tokens")), database
    )


def test_a_body_is_bounded_before_its_token_is_looked_at(reviewed: Reviewed) -> None:
    path = "/v1/review/images/1/mark"
    for content, status in (
        (b'{"mark": "junk"}', 404),
        (b'{"mark": "junk"' + b" " * 4000 + b"}", 404),
        (b" " * 100_000, 413),
        (iter([b" " * 50_000] * 2), 413),
    ):
        headers = {"X-Review-Token": TOKEN, "Content-Type": "application/json"}
        answer = reviewed.server.request("PUT", path, content=content, headers=headers)
        assert answer.status_code == status, answer.text
