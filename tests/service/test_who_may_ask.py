"""Hosts, origins, and tokens with names and roles, over a real socket."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import pytest
from image_bytes import colour
from running_server import RunningServer, StartServer
from tiny_model import write_tiny_model

from isoserve.models.errors import InputError
from isoserve.service.auth import Tokens
from isoserve.service.http.hosts import Hosts

RED, GRAY = colour(255, 0, 0), colour(128, 128, 128)
PLAIN, ASKS, LABELS, RUNS = (
    f"{name}-token-0123456789" for name in ("plain", "asks", "labels", "runs")
)
REVIEW = "review-token-0123456789"
UNLOAD = "/v2/repository/models/tiny/unload"
LOAD = "/v2/repository/models/tiny/load"
EVIL = {"host": "evil.example:8000", "origin": "http://evil.example:8000"}
FRIEND = "https://shop.example"


@pytest.fixture(scope="module", name="guarded")
def _guarded(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    folder = tmp_path_factory.mktemp("guarded")
    write_tiny_model(folder / "models" / "tiny" / "1" / "model.onnx")
    lines = [PLAIN, f"shop predict {ASKS}", f"ops predict,manage {RUNS}", f"eve review {LABELS}"]
    (folder / "tokens").write_text("\n".join(["# who may ask", *lines]) + "\n")
    (folder / "review").write_text(REVIEW + "\n")
    return start_server(
        folder / "models",
        *("--token-file", str(folder / "tokens"), "--management", "--access-log"),
        *("--review-database", f"sqlite:///{folder / 'review.db'}"),
        *("--review-token-file", str(folder / "review"), "--log-format", "json"),
    )


@pytest.fixture(scope="module", name="managed")
def _managed(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    folder = tmp_path_factory.mktemp("managed")
    write_tiny_model(folder / "tiny" / "1" / "model.onnx")
    return start_server(folder, "--management")


def status(server: RunningServer, token: str, path: str, method: str = "POST") -> int:
    headers = {"authorization": f"Bearer {token}"}
    return server.request(method, path, content=RED, headers=headers).status_code


@pytest.mark.parametrize(
    ("token", "predicts", "manages", "reviews"),
    [(PLAIN, 200, 200, 403), (ASKS, 200, 403, 403), (RUNS, 200, 200, 403), (LABELS, 403, 403, 200)],
)
def test_a_role_opens_its_paths_and_no_other(
    guarded: RunningServer, token: str, predicts: int, manages: int, reviews: int
) -> None:
    assert status(guarded, token, "/v1/predict") == predicts
    headers = {"authorization": f"Bearer {token}"}
    assert guarded.post(LOAD, headers=headers).status_code == manages
    assert status(guarded, token, "/v1/review/images", "GET") == reviews
    assert status(guarded, token, "/v1/models", "GET") == 200


def test_a_missing_role_is_named(guarded: RunningServer) -> None:
    refused = guarded.post(
        "/v1/predict", content=RED, headers={"authorization": f"Bearer {LABELS}"}
    )
    assert (refused.status_code, refused.json()["reason"]) == (403, "role")
    assert "'eve' has not the role 'predict'" in refused.json()["detail"]
    assert guarded.post("/v1/predict", content=RED).status_code == 401
    token = {"X-Review-Token": REVIEW, "authorization": f"Bearer {ASKS}"}
    assert guarded.get("/v1/review/images", headers=token).status_code == 200


def test_the_callers_name_is_in_log_and_metrics(guarded: RunningServer) -> None:
    assert status(guarded, ASKS, "/v1/predict") == 200
    metrics = guarded.get("/metrics").text
    assert re.search(r'isoserve_caller_requests_total\{caller="shop",status="200"\} [1-9]', metrics)

    def lines() -> list[dict[str, object]]:
        return [json.loads(line) for line in guarded.log if line.startswith("{")]

    guarded.wait_until(lambda: any(line.get("caller") == "shop" for line in lines()))
    assert not [line for line in guarded.log if ASKS in line]


@pytest.mark.parametrize(
    "line",
    [
        f"name {ASKS}",
        f"name king {ASKS}",
        f"name predict,king {ASKS}",
        f"na/me predict {ASKS}",
        "name predict short",
        f"name predict {ASKS} more",
        f"name predict, {ASKS}",
    ],
)
def test_a_line_of_another_form_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(line + "\n")
    with pytest.raises(InputError, match="token 1 of"):
        Tokens(path)


def test_a_name_that_anybody_can_point_here_is_not_believed(managed: RunningServer) -> None:
    # DNS rebinding: to the browser both are one origin.
    assert managed.post(UNLOAD, headers=EVIL).status_code == 403
    assert managed.post(UNLOAD, headers={"host": "evil.example"}).status_code == 403
    assert managed.post("/v1/predict", content=RED, headers=EVIL).status_code == 403
    assert managed.get("/v1/models").json()["models"][0]["serving"] == 1
    refused = managed.post(UNLOAD, headers=EVIL).json()
    assert "error" in refused
    # Programs may call it as they like, and monitors too.
    assert managed.post("/v1/predict", content=RED, headers={"host": "x"}).status_code == 200
    assert managed.get("/healthz/live", headers=EVIL).status_code == 200
    for host in ("localhost:1", "127.0.0.1", "[::1]:80", "10.0.0.7:8000", "app.localhost"):
        own = {"host": host, "origin": f"http://{host}"}
        assert managed.post(LOAD, headers=own).status_code == 200, host
        assert managed.post("/v1/predict", content=RED, headers=own).status_code == 200


def test_named_hosts_are_the_only_ones(start_server: StartServer, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny" / "1" / "model.onnx")
    server = start_server(tmp_path, "--allowed-hosts", "iso.example, *.corp.example")
    for host, found in (
        ("iso.example", 200),
        ("ISO.example:443", 200),
        ("a.b.corp.example", 200),
        ("localhost", 200),
        ("corp.example.evil", 403),
        ("evil.example", 403),
    ):
        answer = server.post("/v1/predict", content=RED, headers={"host": host})
        assert answer.status_code == found, host
    assert server.get("/healthz/ready", headers={"host": "10.1.2.3:8000"}).status_code == 200


@pytest.mark.parametrize(
    ("bound", "path", "origin", "refused"),
    [
        ("0.0.0.0", "/v1/predict", True, False),
        ("0.0.0.0", "/v2/repository/models/m/unload", True, True),
        ("0.0.0.0", "/v2/repository/models/m/unload", False, False),
        ("0.0.0.0", "/v1/review/images", True, False),
        ("127.0.0.1", "/v1/predict", True, True),
        ("127.0.0.1", "/v1/predict", False, False),
        ("::1", "/v1/review/images", False, True),
        ("localhost", "/v1/models", True, True),
    ],
)
def test_without_names_it_depends_on_where_it_listens(
    bound: str, path: str, origin: bool, refused: bool
) -> None:
    headers = [(b"host", b"evil.example")] + [(b"origin", b"http://evil.example")] * origin
    assert (Hosts("", bound).refusal(path, headers) is not None) == refused
    assert Hosts("*", bound).refusal(path, headers) is None


def test_pages_of_named_sites_may_ask_and_those_alone(
    start_server: StartServer, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "tiny" / "1" / "model.onnx")
    (tmp_path / "tokens").write_text(f"shop predict {ASKS}\n")
    server = start_server(
        tmp_path,
        *("--cors-origins", f"{FRIEND}, https://other.example"),
        *("--token-file", str(tmp_path / "tokens"), "--management"),
    )
    wish = {"origin": FRIEND, "access-control-request-method": "POST"}
    preflight = server.request("OPTIONS", "/v1/predict", headers=wish)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == FRIEND
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    token = {"authorization": f"Bearer {ASKS}"}
    for sent, found in ((RED, 200), (b"no image", 415)):
        answer = server.post("/v1/predict", content=sent, headers={"origin": FRIEND, **token})
        assert answer.status_code in (found, 400)
        assert answer.headers["access-control-allow-origin"] == FRIEND
        assert answer.headers["vary"] == "origin"
    assert server.get("/v1/models", headers={"origin": FRIEND}).status_code == 401
    stranger = {"origin": "https://evil.example", **token}
    refused = server.post("/v1/predict", content=RED, headers=stranger)
    assert "access-control-allow-origin" not in refused.headers
    asks = {**wish, "origin": "https://evil.example"}
    assert server.request("OPTIONS", "/v1/predict", headers=asks).status_code != 204
    assert server.post(UNLOAD, headers={"origin": FRIEND, **token}).status_code == 403


def test_without_the_setting_no_answer_speaks_of_origins(server: RunningServer) -> None:
    answer = server.post("/v1/predict", content=RED, headers={"origin": server.url})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_what_other_sites_pages_send_is_not_kept_for_review(
    start_server: StartServer, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "models" / "tiny" / "1" / "model.onnx")
    (tmp_path / "review").write_text(REVIEW + "\n")
    database = tmp_path / "review.db"
    server = start_server(
        tmp_path / "models",
        *("--review-database", f"sqlite:///{database}", "--alpha", "0.999"),
        *("--review-token-file", str(tmp_path / "review"), "--review-sample", "1"),
    )
    images = [colour(10 * number, 0, 90) for number in range(4)]
    foreign = {"origin": "https://evil.example"}
    assert server.post("/v1/predict", content=images[0], headers=foreign).status_code == 200
    files = [("files", images[1])]
    batch = server.post("/v1/predict/batch", files=files, headers=foreign)
    assert batch.status_code == 200
    own = {"origin": server.url}
    assert server.post("/v1/predict", content=images[2], headers=own).status_code == 200
    assert server.post("/v1/predict", content=images[3]).status_code == 200

    def stored() -> set[bytes]:
        with sqlite3.connect(database) as connection:
            return {row[0] for row in connection.execute("SELECT image FROM isoserve_review")}

    server.wait_until(lambda: len(stored()) >= 2)
    assert stored() == set(images[2:])
