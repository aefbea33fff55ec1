"""Models that never end or take all memory, beside one that serves, in a real server."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import onnx
from image_bytes import colour
from onnx import TensorProto, helper
from running_server import RunningServer, StartServer
from tiny_model import TinyModel, tiny_model, write_tiny_model

RED = colour(255, 0, 0)
BLACK = colour(0, 0, 0)


def write(model: onnx.ModelProto, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".part")
    half.write_bytes(model.SerializeToString())
    half.replace(path)


def endless(name: str, *, only_on_black: bool = False) -> onnx.ModelProto:
    """A tiny model with a loop of 2^62 turns, for every image or for those without light."""
    model = tiny_model(TinyModel(name=name))
    graph = model.graph
    node = helper.make_node
    (source,) = [each for each in graph.node if each.output[0] == "features"]
    features = source.input[0]
    body = helper.make_graph(
        [
            node("Identity", ["go_on"], ["go_on_out"]),
            node("Identity", ["state"], ["state_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state_out", TensorProto.FLOAT, None),
        ],
    )
    graph.initializer.append(helper.make_tensor("turns", TensorProto.INT64, [], [2**62]))
    graph.initializer.append(helper.make_tensor("dark", TensorProto.FLOAT, [], [0.01]))
    graph.node.remove(source)
    first = [
        node("ReduceMax", [features], ["brightest"], keepdims=0),
        node("Less", ["brightest", "dark"], ["is_dark"]),
        node("Not", ["is_dark"], ["is_light"]),
    ]
    condition = "is_dark" if only_on_black else "is_light"
    loop = node("Loop", ["turns", condition, features], ["features"], body=body)
    at = next(index for index, each in enumerate(graph.node) if features in each.output) + 1
    for place, each in enumerate([*first, loop]):
        graph.node.insert(at + place, each)
    return model


def huge(name: str) -> onnx.ModelProto:
    """A small file that asks for 3 GB."""
    model = tiny_model(TinyModel(name=name))
    graph = model.graph
    (source,) = [each for each in graph.node if each.output[0] == "features"]
    features = source.input[0]
    graph.node.remove(source)
    graph.initializer.append(helper.make_tensor("shape", TensorProto.INT64, [1], [750_000_000]))
    node = helper.make_node
    zero = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.0])
    at = next(index for index, each in enumerate(graph.node) if features in each.output) + 1
    for place, each in enumerate(
        [
            node("ConstantOfShape", ["shape"], ["zeros"], value=zero),
            node("ReduceMax", ["zeros"], ["nothing"], keepdims=0),
            node("Add", [features, "nothing"], ["features"]),
        ]
    ):
        graph.node.insert(at + place, each)
    return model


def version(server: RunningServer, name: str) -> dict[str, object]:
    answer = server.get(f"/v1/models/{name}")
    (found,) = answer.json()["versions"] if answer.status_code == 200 else [{}]
    return found  # type: ignore[no-any-return]


def predicted(server: RunningServer, image: bytes = RED, model: str = "good") -> int:
    return server.post(f"/v1/predict?model={model}", content=image).status_code


def test_an_endless_warm_up_is_refused_after_its_time_and_harms_nothing_meanwhile(
    start_server: StartServer, tmp_path: Path
) -> None:
    write(endless("bad"), tmp_path / "bad" / "1" / "model.onnx")
    write_tiny_model(tmp_path / "good" / "1" / "model.onnx")
    server = start_server(tmp_path, "--load-seconds", "6", "--management", ready=False)
    # The good model is after the bad one in the folder's order.
    server.wait_until(lambda: predicted(server) == 200)

    def load_bad() -> None:
        with suppress(httpx.TransportError):
            server.post("/v2/repository/models/bad/load")

    loads = [threading.Thread(target=load_bad) for _ in range(8)]
    for load in loads:
        load.start()
    batch = [("files", RED), ("files", RED)]
    started = time.monotonic()
    assert server.post("/v1/predict/batch?model=good", files=batch).status_code == 200
    assert time.monotonic() - started < 10
    server.wait_until(lambda: server.get("/healthz/ready").status_code == 200, 60)
    refused = "bad version 1 refused: loading and warming it up took more than load_seconds (6)"
    server.wait_until(lambda: any(refused in line for line in server.log), 60)
    assert server.stop() == 0
    for load in loads:
        load.join()


def test_sigterm_ends_a_server_that_tries_an_endless_model(
    start_server: StartServer, tmp_path: Path
) -> None:
    write(endless("bad"), tmp_path / "bad" / "1" / "model.onnx")
    server = start_server(tmp_path, "--load-seconds", "600", ready=False)
    server.wait_until(lambda: version(server, "bad").get("state") == "available")
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 15


def test_an_endless_run_is_ended_and_the_other_models_go_on(
    start_server: StartServer, tmp_path: Path
) -> None:
    write(endless("bad", only_on_black=True), tmp_path / "bad" / "1" / "model.onnx")
    write_tiny_model(tmp_path / "good" / "1" / "model.onnx")
    server = start_server(tmp_path, "--slots", "2", "--run-seconds", "2")
    server.wait_until(lambda: version(server, "bad").get("state") == "serving")
    assert predicted(server, RED, "bad") == 200
    stuck = [threading.Thread(target=predicted, args=(server, BLACK, "bad")) for _ in range(4)]
    for each in stuck:  # the second run is not late yet when the first is ended
        each.start()
        time.sleep(0.7)
    server.wait_until(lambda: version(server, "bad").get("reason") == "run_seconds")
    for each in stuck:
        each.join()
    assert predicted(server) == 200
    server.wait_until(lambda: server.get("/healthz/live").status_code == 200)
    assert predicted(server, RED, "bad") == 503
    assert server.stop() == 0


def test_a_model_that_asks_for_more_memory_than_a_load_may_take_is_refused(
    start_server: StartServer, tmp_path: Path
) -> None:
    write(huge("bad"), tmp_path / "bad" / "1" / "model.onnx")
    write_tiny_model(tmp_path / "good" / "1" / "model.onnx")
    server = start_server(tmp_path, ready=False)
    server.wait_until(lambda: version(server, "bad").get("state") == "refused", 60)
    assert version(server, "bad")["reason"] == "memory"
    assert "max_load_bytes (2147483648)" in str(version(server, "bad")["detail"])
    server.wait_until(lambda: predicted(server) == 200)
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    assert int(status.split("VmHWM:")[1].split()[0]) < 1_000_000
