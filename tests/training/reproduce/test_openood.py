"""``--study openood``: which sets it finds, what it says of those it does not, and its numbers."""

from __future__ import annotations

import csv
import json
import re
import statistics
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from isoserve.commands import reproduce as cli
from isoserve.models.boundaries import boundary_score, boundary_table
from isoserve.models.card import InputSpec
from isoserve.models.classifier import build_classifier
from isoserve.models.errors import InputError
from isoserve.models.scores import entropic_score
from isoserve.training.baselines.frozen_network import TrainedNetwork
from isoserve.training.checkpoint import Checkpoint
from isoserve.training.reproduce.openood_sets import PROTOCOL, find_on_disk
from isoserve.training.reproduce.openood_table import COLUMNS, table_lines
from isoserve.training.reproduce.published import read_leaderboard
from isoserve.training.reproduce.results import FPR, Record, Results
from isoserve.training.reproduce.scale import SCALES
from isoserve.training.reproduce.systems import SYSTEMS, TuningData

SMOKE = SCALES["smoke"]
TINY = replace(
    SMOKE,
    recipe=SMOKE.recipe.model_copy(update={"epochs": 1, "image_size": 8}),
    in_data=("cifar10",),
    study=("resnet9_narrow_32", "cifar10"),
    seeds=2,
    noise_images=10,
    tuning_images=40,
)
OPTIONS = ("--study", "openood", "--no-tuned", "--no-fooling", "--accelerator", "cpu")
PLACE = ("resnet9_narrow_32", "cifar10")


def write_images(folder: Path, count: int, seed: int) -> None:
    folder.mkdir(parents=True)
    values = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    for index, image in enumerate(values):
        Image.fromarray(image // 2 + seed).save(folder / f"{index:03}.png")


def run(output: Path, *options: str) -> Result:
    arguments = ["--output", str(output), "--devices", "1", *OPTIONS, *options]
    return CliRunner().invoke(cli.reproduce, arguments, catch_exceptions=False)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("openood")
    for label, name in enumerate(("cat", "dog")):
        write_images(root / "known" / "train" / name, 100, 100 * label)
        write_images(root / "known" / "test" / name, 10, 100 * label + 1)
    write_images(root / "data" / "tinyimagenet" / "n02123045", 3, 60)  # a cat
    write_images(root / "data" / "tinyimagenet" / "n01443537", 7, 50)
    write_images(root / "data" / "images_classic" / "texture" / "dotted", 9, 30)
    lists = root / "data" / "benchmark_imglist" / "cifar10"
    lists.mkdir(parents=True)
    listed = "\n".join(f"texture/dotted/{index:03}.png -1" for index in range(5))
    (lists / "test_texture.txt").write_text(f"{listed}\n")
    write_images(root / "numbers", 8, 20)
    write_images(root / "scenes", 6, 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SCALES, "smoke", TINY)
        patch.setattr(cli, "draw_all", lambda *_: [])
        given = ("--in-data", f"cifar10={root / 'known'}", "--data-root", str(root / "data"))
        others = (f"SVHN={root / 'numbers'}", str(root / "scenes"))
        result = run(root / "out", *given, *(word for o in others for word in ("--out-data", o)))
    assert result.exit_code == 0, result.output
    return root / "out"


def rows_of(output: Path) -> list[dict[str, str]]:
    with (output / "tables" / "openood.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_set_is_measured_stood_in_for_or_told_as_missing(output: Path) -> None:
    found = {row["out_data"]: row for row in rows_of(output) if row["flag"] != "published"}
    images = {name: row["n_out"] for name, row in found.items()}
    assert images == {
        "near cifar100": "",
        "near tin": "7",
        "near mean": "7",
        "far mnist": "",
        "far svhn": "8",
        "far textures": "5",
        "far places365": "6",
        "far mean": "19",
    }
    assert found["near cifar100"]["flag"] == "missing"
    assert "no --out-data cifar100=FOLDER" in found["near cifar100"]["note"]
    assert "without 3 images of the model's own classes" in found["near tin"]["note"]
    assert found["far textures"]["note"] == "OpenOOD's own list test_texture.txt"
    assert found["far places365"]["note"].startswith("stand-in scenes")
    assert found["near mean"]["note"] == "1 of 2 sets"
    assert found["far mean"]["note"] == "3 of 4 sets, 1 of them stand-in"


def test_means_are_those_of_the_records(output: Path) -> None:
    records = json.loads((output / "results.json").read_text())["records"]
    table = {
        (row["metric"], row["method"]): row
        for row in rows_of(output)
        if row["out_data"] == "far mean"
    }
    for metric in ("AUROC", FPR):
        for system in COLUMNS:
            per_seed = [
                statistics.fmean(
                    record["value"]
                    for record in records
                    if (record["metric"], record["method"], record["seed"])
                    == (metric, system, seed)
                    and record["out_data"] in ("svhn", "textures", "scenes")
                )
                for seed in (0, 1)
            ]
            row = table[metric, system]
            assert float(row["ours"]) == pytest.approx(statistics.fmean(per_seed))
            assert float(row["std"]) == pytest.approx(statistics.stdev(per_seed))
            assert row["seeds"] == "2"


def test_published_rows_stand_beside_ours_and_are_flagged(output: Path) -> None:
    report = (output / "report.md").read_text()
    section = report.partition("## OpenOOD v1.5: near and far")[2].partition("\n## ")[0]
    lines = [[cell.strip() for cell in line.split("|")] for line in section.splitlines()]
    by_system = {cells[1]: cells[2:] for cells in lines if len(cells) == 9}
    assert by_system["CrossEntropy/KNN"][:5] == [
        "90.64 ± 0.20",
        "92.96 ± 0.14",
        "-",
        "-",
        "95.06 ± 0.30",
    ]
    assert by_system["CrossEntropy/KNN"][5] == "published: ResNet18, 100 epochs"
    assert by_system["OE/MSP"][5].endswith("trained on outliers")
    assert by_system["IsoMax2/combined"][5].startswith("here, resnet9_narrow_32; near 1 of 2 sets")
    assert "places365 | stand-in scenes" in section
    assert "copied from the OpenOOD v1.5 leaderboard" in section
    ours = [row for row in rows_of(output) if row["ours"]]
    published = [row for row in rows_of(output) if row["published"]]
    assert {row["flag"] for row in published} == {"published"}
    assert {row["flag"] for row in ours} == {""}
    assert len(published) == 2 * len(read_leaderboard())


def test_the_leaderboard_is_whole_and_as_shown_there() -> None:
    entries = {(entry.training, entry.score): entry for entry in read_leaderboard()}
    assert len(entries) == len(read_leaderboard()) == 61
    plain = entries["CrossEntropy", "MSP"]
    assert (plain.near_auroc, plain.far_auroc) == ("88.03 ± 0.25", "90.73 ± 0.43")
    assert entries["CIDER", "KNN"].accuracy == "-"
    assert sum(entry.outlier_data for entry in entries.values()) == 4


def test_a_set_of_the_benchmark_goes_before_its_stand_in() -> None:
    def record(out_data: str, value: float) -> Record:
        return Record(*PLACE, out_data, "AUROC", "IsoMax2/ES", 0, value, 10, 5)

    results = Results("smoke", [record("scenes", 90.0), record("places365", 70.0)])
    lines = {(line.group, line.name): line for line in table_lines(results, PLACE, "AUROC")}
    assert lines["far", "places365"].values["IsoMax2/ES"].mean == 70.0
    assert lines["far", "mean"].values["IsoMax2/ES"].mean == 70.0
    assert lines["near", "mean"].values == {}


def test_made_sets_stand_in_at_the_smoke_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = replace(TINY, in_data=("digits",), study=("resnet9_narrow_32", "digits"), seeds=1)
    monkeypatch.setitem(SCALES, "smoke", digits)
    monkeypatch.setattr(cli, "draw_all", lambda *_: [])
    run(tmp_path / "out", "--loss", "isomax2", "--data-root", str(tmp_path))
    report = (tmp_path / "out" / "report.md").read_text()
    assert "The benchmark's in-distribution is CIFAR-10, not digits" in report
    assert "| near | cifar100 | stand-in jigsaw" in report
    assert "| far | mean | 2 of 4 sets, 2 of them stand-in |" in report


def test_none_of_the_sets_is_refused_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SCALES, "smoke", replace(TINY, in_data=("digits",), out_data=("lsun",)))
    wanted = "none of OpenOOD's sets is below"
    with pytest.raises(InputError, match=wanted):
        run(tmp_path / "out", "--data-root", str(tmp_path))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no image"),
        ("../secret.png 0", "which is not below"),
        ("/etc/secret.png 0", "which is not below"),
        ("mnist/0.png 0", "not one readable image"),
    ],
)
def test_a_list_that_cannot_be_read_is_refused(tmp_path: Path, text: str, message: str) -> None:
    listed = tmp_path / "benchmark_imglist" / "cifar10" / "test_mnist.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text(text)
    (mnist,) = [wanted for wanted in PROTOCOL if wanted.name == "mnist"]
    spec = InputSpec(height=8, width=8, resize="fit-bicubic")
    with pytest.raises(InputError, match=re.escape(message)):
        find_on_disk(mnist, spec, tmp_path, None, ())


def test_the_combination_is_the_soft_minimum_of_the_three_views() -> None:
    torch.manual_seed(0)
    classifier = build_classifier("resnet9_narrow_32", "isomax2", 3).eval()
    torch.nn.init.normal_(classifier.head.prototypes)
    checkpoint = SimpleNamespace(classifier=lambda: classifier, mean=[0.5] * 3, std=[0.25] * 3)
    network = TrainedNetwork(checkpoint)
    pixels = np.random.default_rng(1).integers(0, 256, (90, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(60) % 3
    data = TuningData(pixels[:60], labels, pixels[60:80], labels[:20], (0.0,), (0.0,))
    by_name = {system.name: system for system in SYSTEMS}
    names = ("IsoMax2/ES", "IsoMax2/boundary", "IsoMax2/density", "IsoMax2/combined")
    scorers = [by_name[name].fitted(network, data).scorer for name in names]

    def views(images: np.ndarray) -> np.ndarray:
        return np.stack([network.score(scorer, images) for scorer in scorers[:3]])

    held_out, fresh = views(pixels[60:80]), views(pixels[80:])
    low, middle, high = np.quantile(held_out, [0.16, 0.5, 0.84], axis=1)[..., np.newaxis]
    z = (fresh - middle) / ((high - low) / 2)
    expected = -np.log((np.array([[1.0], [1.0], [1.5]]) * np.exp(-1.5 * z)).sum(axis=0))
    np.testing.assert_allclose(
        network.score(scorers[3], pixels[80:]), expected, rtol=1e-3, atol=1e-3
    )

    # Each view from its definition.
    features = network.score(classifier.backbone, pixels)
    cold, score_logits = classifier.head(torch.from_numpy(features).float())
    np.testing.assert_allclose(
        fresh[0], entropic_score(score_logits).detach()[80:], rtol=1e-4, atol=1e-6
    )
    distances = boundary_score(
        classifier.head, boundary_table(classifier.head), cold, cold.argmax(dim=1)
    )
    np.testing.assert_allclose(fresh[1], distances.detach()[80:], rtol=1e-3, atol=1e-5)
    assert (fresh[2] <= 0).all()
    far = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    assert network.score(scorers[2], far)[0] < network.score(scorers[2], pixels[:60]).min()


def finished_runs(output: Path, losses: tuple[str, ...]) -> list[Path]:
    """The first seed's runs that the module's report was made of."""
    folders = [path.parent for path in (output / "cells" / "training").glob("*/checkpoint.pt")]
    recipes = {folder: Checkpoint.load(folder).parsed_recipe() for folder in folders}
    return [
        folder
        for loss in losses
        for folder, recipe in recipes.items()
        if (recipe.loss, recipe.seed, recipe.acet_steps) == (loss, 0, 0)
    ]


def test_runs_that_are_there_are_shown_the_same_sets_and_nothing_is_trained(
    output: Path, tmp_path: Path
) -> None:
    root = output.parent
    runs = finished_runs(output, ("isomax2", "softmax"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SCALES, "smoke", TINY)
        patch.setattr(cli, "draw_all", lambda *_: [])
        given = ("--in-data", f"cifar10={root / 'known'}", "--data-root", str(root / "data"))
        words = [word for run in runs for word in ("--trained", str(run))]
        others = ("--out-data", f"SVHN={root / 'numbers'}", "--out-data", str(root / "scenes"))
        result = run(tmp_path / "again", *given, *words, *others)
        assert result.exit_code == 0, result.output
        assert "epoch 1/1" not in result.output
        with pytest.raises(InputError, match="--loss and --trained exclude each other"):
            run(tmp_path / "never", *given, *words, "--loss", "softmax")
        with pytest.raises(InputError, match="both of the loss 'isomax2'"):
            run(tmp_path / "never", *given, *words[:2], *words[:2])
        for part, count in (("train", 20), ("test", 2)):
            for name in ("cat", "dog"):
                write_images(tmp_path / "others" / part / name, count, 3)
        with pytest.raises(InputError, match="was trained on other images than cifar10"):
            run(tmp_path / "never", "--in-data", f"cifar10={tmp_path / 'others'}", *words)

    def first_seed(folder: Path) -> dict[tuple[str, str, str], float]:
        records = json.loads((folder / "results.json").read_text())["records"]
        return {
            (record["method"], record["out_data"], record["metric"]): record["value"]
            for record in records
            if record["seed"] == 0 and record["method"] in COLUMNS
        }

    found, expected = first_seed(tmp_path / "again"), first_seed(output)
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected)
