"""The embedded model for photographs is what its page says, and as good as the project asks."""

import re
import runpy
from pathlib import Path

import pytest
from running_server import StartServer

from isoserve.service.inference.model import load_model, read_model_bytes

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "model_repository" / "clothes" / "1" / "model.onnx"


def test_the_page_is_the_card() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "clothes_model_page.py"))
    assert (ROOT / "docs" / "clothes-model.md").read_text() == page["clothes_model_page"]()


def test_the_model_is_small_and_good_enough() -> None:
    content = read_model_bytes(MODEL, 12_000_000)
    card = load_model("clothes", 1, content, 1, 1).card
    test = next(part for part in card.held_out if part.split == "test")
    assert test.n == 372
    assert test.accuracy >= 0.92
    assert test.rejected <= 0.1
    rows = {row.out_distribution: row for row in card.evaluation}
    assert rows["other-clothes"].auroc >= 0.76
    assert rows["photos"].rejected >= 0.95
    assert card.recipe["against_float32"]["same_verdict"] == pytest.approx(1.0)
    assert (card.score, card.licence) == ("combined", "CC0-1.0")


def test_of_the_two_embedded_models_the_one_for_photographs_answers(
    start_server: StartServer,
) -> None:
    server = start_server(ROOT / "model_repository")
    server.wait_until(lambda: len(server.get("/v1/models").json()["models"]) == 2)
    image = ROOT / "docs" / "pictures" / "page_unknown.png"
    verdict = server.post("/v1/predict", content=image.read_bytes()).json()
    assert verdict["model"] == "clothes"
    assert verdict["ood"]["is_ood"] is True  # a picture of a page is no piece of clothing
    other = server.post("/v1/predict?model=cifar10", content=image.read_bytes()).json()
    assert other["model"] == "cifar10"
    # Of 1 GiB in docker-compose.yml; the process that tries a file needs some of it for a while.
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    most = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])  # type: ignore[index]
    assert most < 700_000
