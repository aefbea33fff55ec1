"""What gRPC's messages take while they arrive: no more than is set aside for bodies."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from ports import free_port
from raw_http2 import Http2Connection
from running_server import RunningServer, StartServer
from tiny_model import write_tiny_model

from isoserve.service.inference_protocol.messages import MESSAGES, SERVICE

PATH = f"/{SERVICE}/ModelInfer"
HELD = 48 * 2**20
MESSAGE = 16 * 2**20
READ = grpc.StatusCode.INVALID_ARGUMENT
OWN_BYTES = 60_000_000
"""Beside what is held: 64 KiB a connection, and the copies of a message as it is handed over."""


@pytest.fixture(scope="module", name="narrow")
def _narrow(
    start_server: StartServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunningServer, int]:
    """A server that sets 48 MiB aside, and its port for gRPC."""
    root = tmp_path_factory.mktemp("narrow")
    write_tiny_model(root / "tiny" / "1" / "model.onnx")
    port = free_port()
    limits = ("--held-body-bytes", str(HELD), "--max-batch-body-bytes", str(MESSAGE))
    limits += ("--max-body-bytes", str(MESSAGE))
    return start_server(root, "--grpc-port", str(port), "--body-seconds", "60", *limits), port


@pytest.fixture(name="channel")
def _channel(narrow: tuple[RunningServer, int]) -> Iterator[grpc.Channel]:
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{narrow[1]}", options) as channel:
        yield channel


def images(count: int) -> bytes:
    """A request with so many images of the tiny model's size."""
    request = MESSAGES["ModelInferRequest"](model_name="tiny")
    request.inputs.add(name="images", datatype="UINT8", shape=[count, 8, 8, 3])
    request.raw_input_contents.append(bytes(count * 192))
    message: bytes = request.SerializeToString()
    return message


def padded(size: int) -> bytes:
    """A request of so many bytes, which is refused once it has been read."""
    message = images(1)
    rest = size - len(message) - 6
    length = bytes([rest >> shift & 0x7F | 0x80 for shift in (0, 7, 14, 21)]) + bytes([rest >> 28])
    return message + b"\x9a\x06" + length + bytes(rest)


def _kilobytes(server: RunningServer, name: str) -> int:
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(text.split(f"{name}:")[1].split()[0])


@pytest.mark.parametrize(("connections", "calls"), [(24, 1), (1, 24)])
def test_messages_half_sent_hold_no_more_than_is_set_aside(
    narrow: tuple[RunningServer, int], channel: grpc.Channel, connections: int, calls: int
) -> None:
    server, port = narrow
    infer = channel.unary_unary(PATH)
    infer(images(8), timeout=60)
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")
    before = _kilobytes(server, "VmRSS")
    with ExitStack() as stack, ThreadPoolExecutor(24) as pool:
        opened = [Http2Connection(port) for _ in range(connections)]
        for connection in opened:
            stack.callback(connection.close)
        # A message's length, and all of it but its last bytes.
        begun = b"\0" + MESSAGE.to_bytes(4) + bytes(MESSAGE - 1000)
        streams = [(each, 1 + 2 * call) for each in opened for call in range(calls)]
        for connection, stream in streams:
            connection.open(stream, PATH)
        waiting = [pool.submit(each.send, stream, begun) for each, stream in streams]
        sent = [each.result() for each in waiting]
        assert sum(sent) > 1.5 * HELD
        assert any(size == len(begun) for size in sent)
        assert 1024 * (_kilobytes(server, "VmHWM") - before) < HELD + OWN_BYTES
        # Meanwhile the small are answered, over either protocol.
        assert infer(images(8), timeout=60)
        assert server.get("/healthz/ready").status_code == 200
    large = channel.unary_unary(PATH)
    server.wait_until(lambda: _code(large, padded(MESSAGE)) is READ)


def test_a_message_there_is_no_memory_for_is_refused_and_the_next_one_answered(
    narrow: tuple[RunningServer, int], channel: grpc.Channel
) -> None:
    server, port = narrow
    infer = channel.unary_unary(PATH)
    assert _code(infer, padded(MESSAGE)) is READ
    holder = Http2Connection(port)
    try:
        for stream in (1, 3, 5):
            holder.open(stream, PATH)
            size = MESSAGE if stream < 5 else MESSAGE - 10 * 2**20
            begun = b"\0" + MESSAGE.to_bytes(4) + bytes(size - 1000)
            assert holder.send(stream, begun) == len(begun)
        with pytest.raises(grpc.RpcError) as caught:
            infer(padded(MESSAGE), timeout=60)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "the bodies of others fill the memory" in caught.value.details()
        assert infer(images(8), timeout=60)
        # HTTP shares what is set aside.
        refused = server.post("/v1/predict", content=bytes(MESSAGE))
        assert refused.status_code == 429
    finally:
        holder.close()
    server.wait_until(lambda: _code(infer, padded(MESSAGE)) is READ)
    assert 'isoserve_shed_total{limit="bytes"}' in server.get("/metrics").text


def test_a_call_given_up_gives_back_what_it_held(
    narrow: tuple[RunningServer, int], channel: grpc.Channel
) -> None:
    server, _ = narrow
    infer = channel.unary_unary(PATH)
    for _ in range(8):
        call = infer.future(padded(MESSAGE), timeout=60)
        call.cancel()
    server.wait_until(lambda: _code(infer, padded(MESSAGE)) is READ)


def test_a_message_over_the_limit_is_refused(channel: grpc.Channel) -> None:
    infer = channel.unary_unary(PATH)
    assert _code(infer, bytes(MESSAGE + 2**20)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert infer(images(8), timeout=60)


def _code(infer: grpc.UnaryUnaryMultiCallable, message: bytes) -> object:
    try:
        infer(message, timeout=60)
    except grpc.RpcError as error:
        return error.code()  # type: ignore[attr-defined]
    return grpc.StatusCode.OK
