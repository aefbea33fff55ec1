"""Files of both schemas, served side by side over real sockets: /v1, /v2, gRPC, metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton
from click.testing import CliRunner
from combined_model import (
    COLOURS,
    SIDE,
    Former,
    colour_images,
    exported,
    trained_classifier,
    write_colour_folder,
)
from image_bytes import encode
from onnx import numpy_helper
from ports import free_port
from prometheus_client.parser import text_string_to_metric_families
from running_server import RunningServer, StartServer

from isoserve.cli import cli
from isoserve.models.card import CARD_KEY, SCHEMA_1_OUTPUTS, SCHEMA_2_OUTPUTS
from isoserve.training.onnx_graph import read_model, run_graph
from isoserve.training.onnx_model.export import save, set_card

SERVED = ("former", "upgraded", "today")
WORDS = {
    "entropic": "between two classes",
    "boundary": "close to a class border",
    "density": "unlike any training image",
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three of :data:`SERVED`."""
    root = tmp_path_factory.mktemp("repository")
    folder = write_colour_folder(tmp_path_factory.mktemp("colours"))
    paths = {name: root / name / "1" / "model.onnx" for name in SERVED}
    for path in paths.values():
        path.parent.mkdir(parents=True)
    network = trained_classifier()
    save(exported(Former(network), folder, "former"), paths["former"])
    save(exported(network, folder, "today"), paths["today"])
    words = ["upgrade", paths["former"], folder, "--output", paths["upgraded"]]
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return root


@pytest.fixture(scope="module")
def both(start_server: StartServer, repository: Path) -> tuple[RunningServer, str]:
    """A server of HTTP and gRPC, and where it answers the latter."""
    port = free_port()
    return start_server(repository, "--grpc-port", str(port)), f"127.0.0.1:{port}"


def _pixels() -> np.ndarray:
    """Three known images, noise, and one colour halfway between two classes."""
    generator = np.random.default_rng(4)
    noise = generator.integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    between = np.full((1, SIDE, SIDE, 3), (120, 120, 40), dtype=np.uint8)
    return np.concatenate([colour_images(3, seed=9)[0], noise, between])


def _expected(repository: Path, name: str) -> dict[str, np.ndarray]:
    return run_graph(read_model(repository / name / "1" / "model.onnx")[0], _pixels(), 1)


def _verdict(server: RunningServer, name: str, image: np.ndarray, query: str = "") -> Any:
    answer = server.post(
        f"/v1/predict?model={name}{query}",
        content=encode("PNG", image),
        headers={"Content-Type": "image/png"},
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def _reason(repository: Path, name: str, views: dict[str, float]) -> str:
    """The view with the largest term, from the scales in the card."""
    combination = read_model(repository / name / "1" / "model.onnx")[1].combination
    assert combination is not None
    scales = [combination.entropic, combination.boundary, combination.density]
    centres = np.array([scale.centre for scale in scales])
    deviations = (np.array([*views.values()]) - centres) / [scale.spread for scale in scales]
    return [*views][int(np.argmax(np.array([1.0, 1.0, 1.5]) * np.exp(-1.5 * deviations)))]


@pytest.mark.parametrize("name", SERVED)
def test_the_answer_is_what_the_graph_says(
    both: tuple[RunningServer, str], repository: Path, name: str
) -> None:
    expected, is_combined = _expected(repository, name), name != "former"
    for row, image in enumerate(_pixels()):
        ood = _verdict(both[0], name, image)["ood"]
        assert ood["score"] == ("combined" if is_combined else "entropic")
        deciding = "ood_score" if is_combined else "entropic_score"
        assert ood["ood_score"] == pytest.approx(float(expected[deciding][row]), abs=1e-5)
        for score in ("p_value", "class_p_value", "entropic_score", "entropic_p_value"):
            source = "p_value" if (score, is_combined) == ("entropic_p_value", False) else score
            assert ood[score] == pytest.approx(float(expected[source][row]), abs=1e-5), score
        for view in ("boundary_score", "density_score"):
            value = float(expected[view][row]) if is_combined else None
            assert ood[view] == (pytest.approx(value, rel=1e-4) if is_combined else None)
        assert ood["is_ood"] == (ood["p_value"] <= 0.05)


@pytest.mark.parametrize("name", SERVED)
def test_a_rejection_says_why(both: tuple[RunningServer, str], repository: Path, name: str) -> None:
    reasons = set()
    for image in _pixels():
        answer = _verdict(both[0], name, image, "&explain=true")
        ood, explanation = answer["ood"], answer["explanation"]
        reason = "entropic"
        if name != "former":
            reason = _reason(repository, name, {view: ood[f"{view}_score"] for view in WORDS})
        assert ood["reason"] == (reason if ood["is_ood"] else None)
        assert (explanation["reason"], explanation["why"]) == (reason, WORDS[reason])
        order = np.argsort(explanation["distances"])[:2].tolist()
        assert [near["index"] for near in explanation["nearest"]] == order
        assert [near["label"] for near in explanation["nearest"]] == [
            list(COLOURS)[index] for index in order
        ]
        if ood["is_ood"]:
            reasons.add(reason)
    assert reasons, "an image of noise should be rejected"


def test_rejections_are_counted_by_reason(both: tuple[RunningServer, str]) -> None:
    server = both[0]

    def counted() -> dict[str, float]:
        return {
            sample.labels["reason"]: sample.value
            for family in text_string_to_metric_families(server.get("/metrics").text)
            for sample in family.samples
            if sample.name == "isoserve_rejections_total" and sample.labels["model"] == "today"
        }

    before, wanted = counted(), dict.fromkeys(WORDS, 0)
    for image in _pixels():
        reason = _verdict(server, "today", image)["ood"]["reason"]
        if reason is not None:
            wanted[reason] += 1
    assert sum(wanted.values()) >= 1
    expected = {reason: before.get(reason, 0.0) + wanted[reason] for reason in WORDS}
    server.wait_until(lambda: {reason: counted().get(reason, 0.0) for reason in WORDS} == expected)


@pytest.mark.parametrize("name", SERVED)
def test_the_open_inference_protocol_gives_every_output_of_the_file(
    both: tuple[RunningServer, str], repository: Path, name: str
) -> None:
    server, target = both
    outputs = SCHEMA_1_OUTPUTS if name == "former" else SCHEMA_2_OUTPUTS
    images, expected = _pixels(), _expected(repository, name)
    named = [each["name"] for each in server.get(f"/v2/models/{name}").json()["outputs"]]
    assert named == [*outputs, "is_ood", "label"]
    tensor = {"name": "images", "shape": [*images.shape], "datatype": "UINT8"}
    body = {"inputs": [{**tensor, "data": images.ravel().tolist()}]}
    answer = server.post(f"/v2/models/{name}/infer", content=json.dumps(body))
    assert answer.status_code == 200, answer.text
    by_http = {each["name"]: each["data"] for each in answer.json()["outputs"]}
    tensors = [triton.InferInput("images", [*images.shape], "UINT8").set_data_from_numpy(images)]
    with triton.InferenceServerClient(target) as client:
        by_grpc = client.infer(name, tensors)
    for output in outputs:
        np.testing.assert_allclose(
            by_grpc.as_numpy(output).ravel(), expected[output].ravel(), rtol=1e-3, atol=1e-4
        )
        np.testing.assert_allclose(
            by_http[output], by_grpc.as_numpy(output).ravel(), rtol=1e-6, atol=1e-30
        )
    assert by_http["is_ood"] == (np.array(by_http["p_value"]) <= 0.05).tolist()


def test_the_operator_may_decide_by_the_p_value_of_the_class(
    start_server: StartServer, repository: Path
) -> None:
    server = start_server(repository, environment={"ISOSERVE_DECIDE_BY": "class_p_value"})
    expected, told_apart = _expected(repository, "today"), 0
    for row, image in enumerate(_pixels()):
        p, of_class = float(expected["p_value"][row]), float(expected["class_p_value"][row])
        alpha = (p + of_class) / 2
        ood = _verdict(server, "today", image, f"&alpha={alpha:.6f}")["ood"]
        assert ood["decided_by"] == "class_p_value"
        assert ood["is_ood"] == (of_class <= alpha)
        told_apart += abs(p - of_class) > 1e-3
    assert told_apart


def test_other_tables_than_the_cards_are_refused_with_the_reason(
    start_server: StartServer, repository: Path, tmp_path: Path
) -> None:
    model, card = read_model(repository / "today" / "1" / "model.onnx")
    combination = card.combination
    assert combination is not None
    density = combination.density.model_copy(update={"centre": combination.density.centre + 2})
    entropic = {"score": "entropic", "combination": None}
    changes: dict[str, tuple[dict[str, object], str]] = {
        "wrong": (
            {"combination": combination.model_copy(update={"density": density})},
            "the graph holds other tables than its card, whose score is 'combined'",
        ),
        "entropic": (entropic, "whose score is 'entropic'"),
        "missing": ({"combination": None}, "combination is missing"),
        "no-statistics": ({"statistics": None}, "they are missing"),
        "schema-1": ({"schema_version": 1, "statistics": None, **entropic}, "schema_version 1"),
    }
    for name, (change, _) in changes.items():
        set_card(model, card.model_copy(update={**change, "name": name}))
        _write(model, tmp_path / name / "1" / "model.onnx")
    set_card(model, card)
    for constant in model.graph.initializer:
        if constant.name == "view_factors":
            infinite = np.full(3, np.inf, dtype=np.float32)
            constant.CopyFrom(numpy_helper.from_array(infinite, constant.name))
    _write(model, tmp_path / "zero" / "1" / "model.onnx")
    changes["zero"] = ({}, "'ood_score'")
    _write(
        read_model(repository / "former" / "1" / "model.onnx")[0], tmp_path / "sound/1/model.onnx"
    )
    server = start_server(tmp_path)
    models = server.get("/v1/models").json()["models"]
    versions = {model["name"]: model["versions"][0] for model in models}
    assert versions.pop("sound")["state"] == "serving"
    assert versions.keys() == changes.keys()
    for name, (_, said) in changes.items():
        assert versions[name]["state"] == "refused", name
        assert said in json.dumps(versions[name], ensure_ascii=False), versions[name]


def _write(model: onnx.ModelProto, path: Path) -> None:
    assert any(entry.key == CARD_KEY for entry in model.metadata_props)
    path.parent.mkdir(parents=True)
    path.write_bytes(model.SerializeToString())
