"""No client of a few megabytes of traffic makes the server's memory grow by a hundred."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import httpx
import pytest
from image_bytes import encode, png_header, png_of
from PIL import Image
from ports import free_port
from running_server import RunningServer, StartServer
from tiny_model import write_tiny_model

from isoserve.service.inference_protocol.messages import MESSAGES, SERVICE

MOST_GROWTH = 150_000_000
TRAFFIC = 2_000_000
TOKEN = "a-token-of-twenty-two!"
INFER = "/v2/models/tiny/infer"


@dataclass
class Watched:
    """A server with both ports, a token, and its own memory to be asked for."""

    server: RunningServer
    address: str
    root: Path

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {TOKEN}"}

    def growth(self, attack: Callable[[], object]) -> int:
        """The most bytes that the resident set grew by meanwhile."""
        process = Path("/proc") / str(self.server.process.pid)
        (process / "clear_refs").write_text("5")
        before = _kilobytes(process, "VmRSS")
        attack()
        return 1024 * (_kilobytes(process, "VmHWM") - before)


def _kilobytes(process: Path, name: str) -> int:
    text = (process / "status").read_text()
    return int(text.split(f"{name}:")[1].split()[0])


@pytest.fixture(scope="module", name="watched")
def _watched(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    root = tmp_path_factory.mktemp("memory")
    write_tiny_model(root / "repository" / "tiny" / "1" / "model.onnx")
    (root / "tokens").write_text(TOKEN)
    port = free_port()
    flags = ("--grpc-port", str(port), "--token-file", str(root / "tokens"))
    server = start_server(root / "repository", *flags)
    return Watched(server, f"127.0.0.1:{port}", root)


def infer(watched: Watched, message: bytes, calls: int = 1, **options: object) -> list[object]:
    """The codes that so many calls with one message get, eight at a time."""

    def ask(_: int) -> object:
        try:
            call(message, timeout=60, metadata=metadata, **options)
        except grpc.RpcError as error:
            return error.code()  # type: ignore[attr-defined]
        return grpc.StatusCode.OK

    token = options.pop("token", True)
    metadata = [*watched.headers.items()] if token else []
    with grpc.insecure_channel(watched.address) as channel, ThreadPoolExecutor(8) as pool:
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        return [*pool.map(ask, range(calls))]


def message_of(contents: bytes, raw: bytes = b"") -> bytes:
    """A request whose tensor has these ``contents`` on the wire."""
    request = MESSAGES["ModelInferRequest"](model_name="tiny")
    tensor = request.inputs.add(name="images", datatype="BYTES", shape=[1])
    tensor_bytes = tensor.SerializeToString() + b"\x2a" + _varint(len(contents)) + contents
    return b"\x0a\x04tiny" + b"\x2a" + _varint(len(tensor_bytes)) + tensor_bytes + raw


def _varint(size: int) -> bytes:
    octets = b""
    while size >= 0x80:
        octets += bytes([size & 0x7F | 0x80])
        size >>= 7
    return octets + bytes([size])


EMPTY_FILES = message_of(b"\x42\x00" * (TRAFFIC // 2))
EMPTY_RAWS = message_of(b"", b"\x3a\x00" * (TRAFFIC // 2))
EMPTY_INPUTS = b"\x0a\x04tiny" + b"\x2a\x00" * (TRAFFIC // 2)
EMPTY_OUTPUTS = b"\x0a\x04tiny" + b"\x32\x00" * (TRAFFIC // 2)
EMPTY_PARAMETERS = b"\x0a\x04tiny" + b"\x22\x00" * (TRAFFIC // 2)
LONELY_NUMBERS = message_of(b"\x20\x01" * (TRAFFIC // 2))


@pytest.mark.parametrize(
    "message",
    [EMPTY_FILES, EMPTY_RAWS, EMPTY_INPUTS, EMPTY_OUTPUTS, EMPTY_PARAMETERS, LONELY_NUMBERS],
    ids=["files", "raws", "inputs", "outputs", "parameters", "numbers"],
)
@pytest.mark.parametrize("token", [True, False], ids=["token", "no token"])
def test_empty_elements_are_counted_before_they_are_made(
    watched: Watched, message: bytes, token: bool
) -> None:
    codes: list[object] = []
    grown = watched.growth(lambda: codes.extend(infer(watched, message, token=token)))
    expected = grpc.StatusCode.INVALID_ARGUMENT if token else grpc.StatusCode.UNAUTHENTICATED
    assert codes == [expected]
    assert grown < 30_000_000


def test_a_message_without_a_token_is_not_even_read(watched: Watched) -> None:
    message = message_of(b"", b"\x3a" + _varint(50_000_000) + bytes(50_000_000))
    codes: list[object] = []
    grown = watched.growth(lambda: codes.extend(infer(watched, message, token=False)))
    assert codes == [grpc.StatusCode.UNAUTHENTICATED]
    assert grown < 20_000_000


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
@pytest.mark.parametrize("token", [True, False], ids=["token", "no token"])
def test_compressed_messages_are_held_for_what_they_become(
    watched: Watched, compress: Callable[[bytes], bytes], token: bool
) -> None:
    # A client that compresses by itself sends what gRPC's own compression does, but once only.
    message = compress(message_of(b"", b"\x3a" + _varint(100_000_000) + bytes(100_000_000)))
    codes: list[object] = []
    grown = watched.growth(lambda: codes.extend(infer(watched, message, 10, token=token)))
    assert grpc.StatusCode.OK not in codes
    assert grown < MOST_GROWTH


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate, None])
def test_an_honest_compressed_message_is_answered(
    watched: Watched, compression: grpc.Compression | None
) -> None:
    request = MESSAGES["ModelInferRequest"](model_name="tiny")
    request.inputs.add(name="images", datatype="UINT8", shape=[64, 8, 8, 3])
    request.raw_input_contents.append(bytes(64 * 192))
    codes = infer(watched, request.SerializeToString(), 8, compression=compression)
    assert codes == [grpc.StatusCode.OK] * 8


def tensor_of(size: int) -> bytes:
    parameters = {"binary_data_size": size}
    tensor = {"name": "images", "datatype": "BYTES", "shape": [1], "parameters": parameters}
    return json.dumps({"inputs": [tensor]}).encode()


def zeros() -> tuple[bytes, int]:
    head = tensor_of(90_000_000)
    return head + bytes(90_000_000), len(head)


def files() -> tuple[bytes, int]:
    data = (struct.pack("<I", 900_000) + bytes(900_000)) * 60
    head = tensor_of(len(data)).replace(b"[1]", b"[60]")
    return head + data, len(head)


def brackets() -> tuple[bytes, int]:
    text = b'{"inputs": [{"name": "images", "datatype": "UINT8", "shape": [1], "data": ['
    text += b"[]," * 100_000 + b"[]]}]}"
    return text, len(text)


def wide_text() -> tuple[bytes, int]:
    text = b'{"inputs": [{"name": "images", "datatype": "BYTES", "shape": [1], "data": ["'
    text += "\N{GRINNING FACE}".encode() + b"a" * 15_000_000 + b'"]}]}'
    return text, len(text)


@pytest.mark.parametrize("body", [zeros, files, brackets, wide_text])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_bodies_are_held_for_what_they_become(
    watched: Watched, body: Callable[[], tuple[bytes, int]], encoding: str
) -> None:
    plain, head = body()
    sent = gzip.compress(plain, 6) if encoding == "gzip" else zlib.compress(plain, 6)
    headers = {
        **watched.headers,
        "content-encoding": encoding,
        "inference-header-content-length": str(head),
    }
    requests = max(1, min(20, TRAFFIC // len(sent)))

    def attack() -> None:
        with (
            httpx.Client(base_url=watched.server.url, timeout=60) as client,
            ThreadPoolExecutor(requests) as pool,
        ):
            post = partial(client.post, INFER, content=sent, headers=headers)
            waiting = [pool.submit(post) for _ in range(requests)]
            answers.extend(each.result().status_code for each in waiting)

    answers: list[int] = []
    assert watched.growth(attack) < MOST_GROWTH
    assert 200 not in answers
    assert set(answers) <= {400, 413, 415, 429}


def solid(mode: str, side: int, kind: str, **options: object) -> bytes:
    return encode(kind, Image.new(mode, (side, side)), **options)


def deep_png(side: int, colour: int, samples: int) -> bytes:
    """Of sixteen bits, dark: its low bytes are read beside its high ones."""
    pack = zlib.compressobj(9)
    row = bytes(1 + 2 * samples * side)
    pixels = b"".join([pack.compress(row) for _ in range(side)]) + pack.flush()
    header = png_header(side, side, 16, colour)
    return png_of(header, (b"IDAT", pixels), (b"IEND", b""))


QUICK = {"enc_params": {"preset": "ultrafast"}}
ONE_STRIP = {"compression": "tiff_adobe_deflate", "tiffinfo": {278: 1 << 16}}

LARGEST: dict[str, tuple[Callable[[int], bytes], int]] = {
    "webp": (lambda side: solid("RGB", side, "WEBP", method=0), 3250),
    "webp lossless": (lambda side: solid("RGBA", side, "WEBP", lossless=True, method=0), 3250),
    "avif": (lambda side: solid("RGB", side, "AVIF", speed=10, subsampling="4:2:0"), 3980),
    "avif alpha": (lambda side: solid("RGBA", side, "AVIF", speed=10, subsampling="4:4:4"), 3180),
    "heif": (lambda side: solid("RGB", side, "HEIF", chroma=420, **QUICK), 5000),
    "heif alpha": (lambda side: solid("RGBA", side, "HEIF", chroma=444, **QUICK), 3200),
    "png": (lambda side: solid("RGBA", side, "PNG"), 4472),
    "png gray and alpha of 16 bits": (lambda side: deep_png(side, 4, 2), 3980),
    "png colour of 16 bits": (lambda side: deep_png(side, 2, 3), 3980),
    "gif": (lambda side: solid("P", side, "GIF", transparency=0), 4472),
    "tiff": (lambda side: solid("RGBA", side, "TIFF", **ONE_STRIP), 3980),
    "jpeg": (lambda side: solid("RGB", side, "JPEG", subsampling=0, progressive=True), 4472),
}
"""The largest image that is decoded, a solid one; one of twice its pixels is refused."""


@pytest.mark.parametrize("kind", LARGEST)
def test_the_largest_images_stay_within_the_bound(watched: Watched, kind: str) -> None:
    make, side = LARGEST[kind]
    body = make(side)
    photo = solid("RGB", 900, "JPEG")
    assert len(body) < TRAFFIC / 4
    post = partial(watched.server.post, "/v1/predict", headers=watched.headers)
    raw = message_of(b"\x42" + _varint(len(body)) + body)

    def attack() -> None:
        with ThreadPoolExecutor(5) as pool:
            waiting = [pool.submit(post, content=each) for each in (body, photo, body, photo)]
            codes.extend(infer(watched, raw))
            answers.extend(each.result().status_code for each in waiting)

    answers: list[int] = []
    codes: list[object] = []
    post(content=photo)
    assert watched.growth(attack) < MOST_GROWTH
    assert 200 in answers
    assert set(answers) <= {200, 429}
    refused = post(content=make(round(side * 2**0.5)))
    assert refused.status_code == 413
    assert "MB to decode" in refused.text or "are accepted" in refused.text
