"""The fast path and the ASGI path: which requests take which, and that both answer the same."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from raw_connection import RED, answers, chunked, connection, plain
from running_server import RunningServer, StartServer
from tiny_model import TinyModel, write_tiny_model

from isoserve.service.app import create_app
from isoserve.service.http.request_head import RequestHead
from isoserve.service.settings import Settings

LENGTH = (b"content-length", b"100")


class Nowhere:
    """A connection that is never answered."""

    def write_fast_path(self, *answer: object) -> None:  # noqa: ARG002
        raise AssertionError


@pytest.mark.parametrize(
    ("method", "target", "headers", "short"),
    [
        (b"POST", b"/v1/predict", [LENGTH], True),
        (b"POST", b"/v1/predict?top_k=2", [LENGTH, (b"content-type", b"image/png")], True),
        (b"PUT", b"/v1/predict", [LENGTH], False),
        (b"POST", b"/v1/predict/batch", [LENGTH], False),
        (b"POST", b"/v1/predict#x", [LENGTH], False),
        (b"POST", b"/v1/predict?a#x", [LENGTH], False),
        (b"POST", b"/v1/%70redict", [LENGTH], False),
        (b"POST", b"/v1/predict", [], False),
        (b"POST", b"/v1/predict", [(b"content-length", b"65537")], False),
        (b"POST", b"/v1/predict", [(b"transfer-encoding", b"chunked")], False),
        (b"POST", b"/v1/predict", [LENGTH, (b"expect", b"100-continue")], False),
        (b"POST", b"/v1/predict", [LENGTH, (b"upgrade", b"h2c")], False),
        (b"POST", b"/v1/predict", [LENGTH, (b"content-encoding", b"gzip")], False),
        (b"POST", b"/v1/predict", [LENGTH, (b"origin", b"http://x")], False),
        (b"POST", b"/v1/predict", [LENGTH, (b"content-type", b"multipart/form-data")], True),
        (b"POST", b"/v2/models/tiny/infer", [LENGTH], True),
        (b"POST", b"/v2/models/tiny-2.b/versions/12/infer", [LENGTH], True),
        (b"GET", b"/v2/models/tiny/infer", [LENGTH], False),
        (b"POST", b"/v2/models/tiny/infer/", [LENGTH], False),
        (b"POST", b"/v2/models/tiny/infer?x=1", [LENGTH], False),
        (b"POST", b"/v2/models/t%69ny/infer", [LENGTH], False),
        (b"POST", b"/v2/models//infer", [LENGTH], False),
        (b"POST", b"/v2/models/tiny/ready", [LENGTH], False),
        (b"POST", b"/v2/models/tiny/infer", [(b"content-length", b"65537")], False),
        (b"POST", b"/v2/models/tiny/infer", [LENGTH, (b"content-encoding", b"gzip")], False),
    ],
)
def test_only_a_plain_small_request_takes_the_fast_path(
    tmp_path: Path, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], short: bool
) -> None:
    app = create_app(Settings(repository=tmp_path))
    found = app.fast_path(RequestHead(method, target, headers), Nowhere())
    assert (found is not None) == short


TOKEN = "a-token-of-sixteen-letters"


@pytest.mark.parametrize(
    ("lines", "is_fast", "caller"),
    [
        ([(b"authorization", f"Bearer {TOKEN}".encode())], True, ""),
        ([(b"authorization", b"Bearer the-camera-at-the-door")], True, "camera"),
        ([(b"authorization", b"Bearer one-that-may-review")], False, ""),
        ([(b"authorization", b"Bearer no-token-of-this-server")], False, ""),
        ([], False, ""),
    ],
)
def test_with_tokens_those_that_may_predict_take_the_fast_path(
    tmp_path: Path, lines: list[tuple[bytes, bytes]], is_fast: bool, caller: str
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(
        f"{TOKEN}\ncamera predict the-camera-at-the-door\nlabels review one-that-may-review\n"
    )
    app = create_app(Settings(repository=tmp_path, token_file=tokens))
    found = app.fast_path(RequestHead(b"POST", b"/v1/predict", [LENGTH, *lines]), Nowhere())
    assert (found is not None) == is_fast
    assert found is None or found.record.caller == caller


@pytest.mark.parametrize(("host", "is_fast"), [(b"known.example", True), (b"other.example", False)])
def test_with_named_hosts_requests_to_these_take_the_fast_path(
    tmp_path: Path, host: bytes, is_fast: bool
) -> None:
    app = create_app(Settings(repository=tmp_path, allowed_hosts="known.example"))
    head = RequestHead(b"POST", b"/v1/predict", [LENGTH, (b"host", host)])
    assert (app.fast_path(head, Nowhere()) is not None) == is_fast


@pytest.mark.parametrize(
    ("body", "query", "status"),
    [
        (RED, "", 200),
        (RED, "?top_k=3&alpha=0.9", 200),
        (RED, "?explain=true", 200),
        (RED, "?model=tiny&version=1", 200),
        (RED, "?model=other", 404),
        (RED, "?version=9", 404),
        (RED, "?alpha=2", 422),
        (RED, "?wrong=1", 422),
        (RED[:-9], "", 400),
        (b"", "", 400),
        (b"no image", "", 415),
    ],
)
def test_both_ways_give_the_same_answer(
    server: RunningServer, body: bytes, query: str, status: int
) -> None:
    named = "X-Request-ID: one-of-two"
    with connection(server) as opened:
        opened.sendall(plain(body, query, named) + chunked(body, query, named))
        (short, long) = answers(opened, 2)
    assert short[0] == long[0] == status
    assert json.loads(short[2]) == json.loads(long[2])
    assert short[1].keys() == long[1].keys()
    assert short[1]["x-request-id"] == long[1]["x-request-id"] == "one-of-two"
    assert short[1]["content-type"] == long[1]["content-type"]


def form(*parts: tuple[str, bytes]) -> bytes:
    """A form of these parts, with the boundary of :data:`FORM`."""
    head = '--b\r\nContent-Disposition: form-data; name="%s"; filename="f"\r\n\r\n'
    return (
        b"".join((head % name).encode() + content + b"\r\n" for name, content in parts)
        + b"--b--\r\n"
    )


FORM = "Content-Type: Multipart/Form-Data; boundary=b"


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (form(("file", RED)), FORM, 200),
        (form(("x", b"1"), ("file", RED), ("y", b"2")), FORM, 200),
        (form(("file", RED), ("file", RED)), FORM, 413),
        (form(("image", RED)), FORM, 400),
        (form(("file", RED[:-9])), FORM, 400),
        (form(("file", b"")), FORM, 400),
        (form(("file", RED))[:-9], FORM, 400),
        (form(("file", RED)), "Content-Type: multipart/form-data", 400),
        (form(*[("x", b"1")] * 17), FORM, 400),
    ],
)
def test_both_ways_read_a_form_alike(
    server: RunningServer, body: bytes, content_type: str, status: int
) -> None:
    named = (content_type, "X-Request-ID: one-of-two")
    with connection(server) as opened:
        opened.sendall(plain(body, "?top_k=2", *named) + chunked(body, "?top_k=2", *named))
        (short, long) = answers(opened, 2)
    assert short[0] == long[0] == status
    assert json.loads(short[2]) == json.loads(long[2])
    assert short[1].keys() == long[1].keys()


def tensors(images: int, **others: object) -> bytes:
    """A JSON request of the inference protocol, with images of the tiny model's size."""
    pixels = [[[[7 * image, 0, 255]] * 8] * 8 for image in range(images)]
    tensor = {"name": "images", "datatype": "UINT8", "shape": [images, 8, 8, 3], "data": pixels}
    return json.dumps({"id": "both", "inputs": [tensor], **others}).encode()


def binary(image: bytes, **others: object) -> tuple[bytes, str]:
    """A request with an image file as binary data, and the header that says where that begins."""
    data = len(image).to_bytes(4, "little") + image
    parameters = {"binary_data_size": len(data)}
    tensor = {"name": "images", "datatype": "BYTES", "shape": [1], "parameters": parameters}
    text = json.dumps({"inputs": [tensor], **others}).encode()
    return text + data, f"Inference-Header-Content-Length: {len(text)}"


WANTED = [{"name": "p_value", "parameters": {"binary_data": True}}, {"name": "label"}]


@pytest.mark.parametrize(
    ("sent", "model", "status"),
    [
        ((tensors(1),), "tiny", 200),
        ((tensors(3, outputs=WANTED[1:]),), "tiny/versions/1", 200),
        ((tensors(1, outputs=WANTED),), "tiny", 200),
        ((tensors(1, parameters={"alpha": 0.9}),), "tiny", 200),
        (binary(RED), "tiny", 200),
        (binary(RED, outputs=WANTED), "tiny", 200),
        (binary(RED[:-9]), "tiny", 400),
        (binary(b"no image"), "tiny", 415),
        ((binary(RED)[0], "Inference-Header-Content-Length: x"), "tiny", 400),
        ((tensors(1, parameters={"alpha": 2}),), "tiny", 400),
        ((tensors(1, outputs=[{"name": "no_such"}]),), "tiny", 400),
        ((b"{",), "tiny", 400),
        ((b"",), "tiny", 400),
        ((tensors(1),), "other", 404),
        ((tensors(1),), "tiny/versions/9", 404),
        ((tensors(1),), "tiny/versions/x", 400),
    ],
)
def test_both_ways_answer_tensors_alike(
    server: RunningServer, sent: tuple[bytes, ...] | tuple[bytes, str], model: str, status: int
) -> None:
    body, *lines = sent
    path = f"/v2/models/{model}/infer"
    with connection(server) as opened:
        opened.sendall(plain(body, "", *lines, path=path) + chunked(body, "", *lines, path=path))
        (short, long) = answers(opened, 2)
    assert short[0] == long[0] == status, short
    assert short[2] == long[2]
    assert short[1].keys() == long[1].keys()
    assert short[1]["content-type"] == long[1]["content-type"]


def test_pipelined_requests_of_both_ways_are_answered_in_order(server: RunningServer) -> None:
    wanted = [(plain, "a"), (plain, "b"), (chunked, "c"), (plain, "d"), (chunked, "e")]
    sent = b"".join(make(RED, "", f"X-Request-ID: {name}") for make, name in wanted)
    with connection(server) as opened:
        opened.sendall(sent)
        came = answers(opened, len(wanted))
    assert [headers["x-request-id"] for _, headers, _ in came] == [name for _, name in wanted]
    assert [json.loads(body)["id"] for _, _, body in came] == [name for _, name in wanted]


@pytest.mark.parametrize("pause", [0.0, 1.5])
def test_a_body_may_come_in_pieces_and_late(server: RunningServer, pause: float) -> None:
    sent = plain(RED)
    with connection(server) as opened:
        for piece in (sent[:10], sent[10:-40], sent[-40:-20]):
            opened.sendall(piece)
            time.sleep(0.02)
        time.sleep(pause)
        opened.sendall(sent[-20:] + plain(RED))
        assert [status for status, _, _ in answers(opened, 2)] == [200, 200]


def test_a_small_body_that_stays_away_is_cut_off_all_the_same(
    start_server: StartServer, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "tiny" / "1" / "model.onnx")
    strict = start_server(tmp_path, "--body-seconds", "0.5")
    with connection(strict) as opened:
        opened.sendall(plain(RED)[:-1])
        ((status, headers, body),) = answers(opened, 1)
    assert (status, headers["connection"]) == (408, "close")
    assert json.loads(body)["reason"] == "slow_body"


@pytest.mark.parametrize("make", [plain, chunked])
def test_a_connection_is_closed_where_the_client_asks(server: RunningServer, make) -> None:  # type: ignore[no-untyped-def]
    with connection(server) as opened:
        opened.sendall(make(RED, "", "Connection: close"))
        ((status, headers, _),) = answers(opened, 1)
        assert (status, headers["connection"]) == (200, "close")
        assert opened.recv(1) == b""


def answered(server: RunningServer, status: int) -> float:
    name = f'isoserve_request_duration_seconds_count{{route="/v1/predict",status="{status}"}}'
    for line in server.get("/metrics").text.splitlines():
        if line.startswith(name):
            return float(line.split()[-1])
    return 0.0


def test_a_client_that_left_is_counted_as_gone_once(
    start_server: StartServer, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "slow" / "1" / "model.onnx", TinyModel(work=200, name="slow"))
    slow = start_server(tmp_path, "--slots", "1", "--max-batch", "1", "--queue-seconds", "30")
    with connection(slow) as served:
        served.sendall(plain(RED))
        for _ in range(3):
            with connection(slow) as leaving:
                leaving.sendall(plain(RED))
                time.sleep(0.01)
        with connection(slow) as leaving:
            leaving.sendall(plain(RED)[:-1])
        assert answers(served, 1)[0][0] == 200
    slow.wait_until(lambda: answered(slow, 499) == 4)
    slow.wait_until(lambda: "isoserve_queue_depth 0.0" in slow.get("/metrics").text)
    assert (answered(slow, 200), answered(slow, 499)) == (1, 4)


def test_a_client_that_takes_no_answers_is_not_read_from_for_ever(server: RunningServer) -> None:
    request = plain(b"no image")
    with connection(server) as deaf:
        deaf.settimeout(3)
        sent, most = 0, 60_000_000
        try:
            while sent < most:
                sent += deaf.send(request * 100)
        except TimeoutError:
            pass
    assert sent < most
