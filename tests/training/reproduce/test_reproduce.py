"""The whole command on a tiny scale: everything is in the report, and a second run repeats it."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from sklearn.metrics import roc_auc_score

from isoserve.commands import reproduce as cli
from isoserve.models.card import InputSpec
from isoserve.models.errors import InputError
from isoserve.training.data import LabelledImages
from isoserve.training.named_sets import Split
from isoserve.training.reproduce import datasets, systems
from isoserve.training.reproduce.grid import Grid
from isoserve.training.reproduce.plots import CAPTIONS
from isoserve.training.reproduce.published import TABLES
from isoserve.training.reproduce.scale import SCALES
from isoserve.training.reproduce.store import Store
from isoserve.training.reproduce.synthetic import digits
from isoserve.training.reproduce.systems import SYSTEMS

SMOKE = SCALES["smoke"]
TINY = replace(
    SMOKE,
    recipe=SMOKE.recipe.model_copy(update={"epochs": 1, "image_size": 8}),
    seeds=1,
    acet_epochs=1,
    acet_steps=1,
    images_per_class=(20,),
    noise_images=30,
    fooling_images=10,
    fooling_generations=2,
    tuning_images=40,
    odin_steps=(0.0, 0.01),
    mahalanobis_steps=(0.0, 0.01),
)


TWO = f"""
import sys
from dataclasses import replace
from pathlib import Path
from click.testing import CliRunner
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_reproduce
from isoserve.training.reproduce import datasets
from isoserve.training.reproduce.scale import SCALES
SCALES["smoke"] = replace(test_reproduce.TINY, odin_steps=(0.0,), mahalanobis_steps=(0.0,))
datasets.digits = test_reproduce.every_third_digit
result = test_reproduce.run(Path(sys.argv[1]), "--no-studies")
print(result.output)
sys.exit(result.exit_code)
"""


def every_third_digit(split: Split, spec: InputSpec) -> LabelledImages:
    images = digits(split, spec)
    return images.take(np.arange(0, len(images), 3))


def run(output: Path, *options: str) -> Result:
    arguments = ["--output", str(output), "--accelerator", "cpu", "--devices", "1", *options]
    return CliRunner().invoke(cli.reproduce, arguments, catch_exceptions=False)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("reproduce")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SCALES, "smoke", TINY)
        patch.setattr(datasets, "digits", every_third_digit)
        result = run(folder)
    assert result.exit_code == 0, result.output
    assert "left)" in result.output
    return folder


def test_the_report_holds_every_system_table_and_figure(output: Path) -> None:
    report = (output / "report.md").read_text()
    for system in SYSTEMS:
        # In the means, in the costs, and as a column of its own.
        assert len(re.findall(rf"\| {re.escape(system.name)} \|", report)) >= 3, system.name
    for table in TABLES:
        assert f"### {table}: " in report
    for name in CAPTIONS:
        with Image.open(output / "figures" / f"{name}.png") as image:
            assert image.width > 300
        assert f"](figures/{name}.png)" in report
    page = (output / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(CAPTIONS)
    assert "http" not in page
    assert str(output) not in report + page


def test_a_lost_cell_is_made_again_with_the_same_digits(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SCALES, "smoke", TINY)
    monkeypatch.setattr(datasets, "digits", every_third_digit)
    before = (output / "results.json").read_bytes()
    training = sorted((output / "cells" / "training").iterdir())
    kept = {path: (path / "checkpoint.pt").stat().st_mtime_ns for path in training[1:]}
    shutil.rmtree(training[0])
    for kind in ("scores", "logits", "fooling", "chosen"):
        shutil.rmtree(output / "cells" / kind)
    (output / "results.json").unlink()
    monkeypatch.setattr(cli, "draw_all", lambda *_: [*CAPTIONS])  # drawn already, and slow
    run(output)
    assert (output / "results.json").read_bytes() == before
    for path, changed in kept.items():
        assert (path / "checkpoint.pt").stat().st_mtime_ns == changed


def test_a_search_whose_choice_is_kept_is_not_done_again(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SCALES, "smoke", TINY)
    monkeypatch.setattr(datasets, "digits", every_third_digit)
    monkeypatch.setattr(cli, "draw_all", lambda *_: [*CAPTIONS])
    searched = []
    for name in ("tune_odin", "fit_mahalanobis"):
        search = getattr(systems, name)

        def recorded(*arguments: Any, search: Callable[..., Any] = search) -> Any:
            searched.append([len(given) for given in arguments if isinstance(given, tuple)][-1])
            return search(*arguments)

        monkeypatch.setattr(systems, name, recorded)
    shutil.copytree(output, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "cells" / "scores")
    run(tmp_path)
    assert searched == [1, 1]
    assert (tmp_path / "results.json").read_bytes() == (output / "results.json").read_bytes()


def test_without_the_studies_the_main_tables_are_the_same(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SCALES, "smoke", TINY)
    monkeypatch.setattr(datasets, "digits", every_third_digit)
    shutil.copytree(output / "cells", tmp_path / "cells")
    trained = sorted(path.name for path in (tmp_path / "cells" / "training").iterdir())
    run(tmp_path, "--no-studies")
    assert sorted(path.name for path in (tmp_path / "cells" / "training").iterdir()) == trained
    report = (tmp_path / "report.md").read_text()
    assert "--no-studies" in report
    assert report.count("](figures/") == len(CAPTIONS) - 2

    def records(folder: Path) -> list[dict[str, object]]:
        found = json.loads((folder / "results.json").read_text())["records"]
        names = [system.name for system in SYSTEMS]
        return [record for record in found if record["method"] in names]

    assert records(tmp_path) == records(output)


@pytest.mark.parametrize("losses", [("softmax", "isomax2"), ("acet",)])
def test_the_systems_of_some_losses_alone(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, losses: tuple[str, ...]
) -> None:
    monkeypatch.setitem(SCALES, "smoke", TINY)
    monkeypatch.setattr(datasets, "digits", every_third_digit)
    shutil.copytree(output / "cells", tmp_path / "cells")
    shutil.rmtree(tmp_path / "cells" / "fooling")
    options = [word for loss in losses for word in ("--loss", loss)]
    refusals = ["--no-studies", "--no-tuned", "--no-fooling"]
    result = run(tmp_path, *refusals, *options)
    assert result.exit_code == 0
    assert not (tmp_path / "cells" / "fooling").exists()
    assert " ".join([*options, *refusals]) in (tmp_path / "report.md").read_text()
    both = [
        {
            (record["method"], record["out_data"], record["metric"]): record["value"]
            for record in json.loads((folder / "results.json").read_text())["records"]
        }
        for folder in (output, tmp_path)
    ]
    wanted = {system.name for system in SYSTEMS if system.loss in losses and not system.tuned}
    found = {method for method, out_data, _ in both[1] if out_data}
    assert found == wanted
    assert both[1].items() <= both[0].items()


def test_one_study_alone(output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCALES, "smoke", TINY)
    monkeypatch.setattr(datasets, "digits", every_third_digit)
    shutil.copytree(output / "cells", tmp_path / "cells")
    words = ("--study", "ablation", "--loss", "isomax2", "--no-fooling")
    assert run(tmp_path, *words).exit_code == 0
    report = (tmp_path / "report.md").read_text()
    assert "--study ablation" in report
    whole = (output / "report.md").read_text().partition("## What IsoMax2 depends on")[2]
    assert whole.partition("##")[0] in report
    trainings = json.loads((tmp_path / "results.json").read_text())["trainings"]
    assert {entry["purpose"] for entry in trainings} == {"main", "ablation"}


def test_two_commands_on_one_folder_share_the_work(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TWO, str(tmp_path)]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    epochs = [text.count("epoch 1/1") for text in said]
    trainings = list((tmp_path / "cells" / "training").iterdir())
    assert sum(epochs) == len(trainings)
    assert min(epochs) >= 1


def test_an_accuracy_stands_with_the_images_it_is_of(output: Path) -> None:
    results = json.loads((output / "results.json").read_text())
    (images,) = [entry for entry in results["sets"] if entry["role"] == "in-distribution"]
    found = {r["metric"]: r["n_in"] for r in results["records"] if r["method"] == "IsoMax2"}
    assert found["test accuracy"] == images["test"]
    assert images["train"] / 2 < found["train accuracy"] < images["train"]  # less the held-out


def test_a_file_that_is_left_out_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "good.png")
    (folder / "broken.png").write_bytes(b"no")
    said: list[str] = []
    sources = datasets.Sources(tmp_path, out_data=(str(folder),))
    Grid(TINY, sources, Store(tmp_path / "cells"), said.append)
    (line,) = said
    assert line.startswith(f"skipped {folder / 'broken.png'}: ")


def test_a_records_number_is_that_of_its_scores(output: Path) -> None:
    results = json.loads((output / "results.json").read_text())
    wanted = {"method": "ViM", "out_data": "gratings", "metric": "AUROC"}
    (record,) = [r for r in results["records"] if wanted.items() <= r.items()]
    assert (record["n_in"], record["n_out"]) == (151, 300)
    # Of all score files of 151 and 300 images, one pair has this very AUROC.
    scores = [np.load(path)["scores"] for path in (output / "cells" / "scores").glob("*.npz")]
    found = [
        100 * roc_auc_score([1] * 151 + [0] * 300, np.concatenate([inside, outside]))
        for inside in scores
        if len(inside) == 151
        for outside in scores
        if len(outside) == 300
    ]
    assert min(abs(value - record["value"]) for value in found) < 1e-6


def test_each_changed_setting_stands_beside_the_usual_one(output: Path) -> None:
    records = json.loads((output / "results.json").read_text())["records"]

    def mean_auroc(method: str) -> float:
        natural = ("jigsaw", "strokes", "gratings")
        wanted = {"method": method, "metric": "AUROC", "seed": 0}
        found = [r for r in records if wanted.items() <= r.items() and r["out_data"] in natural]
        assert len(found) == len(natural)
        return statistics.fmean(record["value"] for record in found)

    _, _, rest = (output / "report.md").read_text().partition("## What IsoMax2 depends on")
    lines = [line for line in rest.partition("##")[0].splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    rows = {setting: numbers for setting, *numbers in cells}
    changed = ("wd=yes lr=1x", "wd=yes lr=0.1x", "wd=no lr=1x", "prototypes=normal")
    assert set(rows) == {"as usual", *changed}
    for setting, (entropic, largest, _) in rows.items():
        end = "" if setting == "as usual" else f" {setting}"
        assert entropic == f"{mean_auroc('IsoMax2/ES' + end):.2f}"
        assert largest == f"{mean_auroc('IsoMax2/MPS' + end):.2f}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only-in", "mnist"], "'mnist' is not in the smoke scale: digits"),
        (["--in-data", "cifar10", "--scale", "cpu"], "'cifar10' is no NAME=FOLDER"),
        (["--network", "resnet1000"], "no network named 'resnet1000'"),
        (["--out-data", "nowhere"], "no out-distribution and no folder named 'nowhere'"),
        (["--out-data", "uniform"], "two out-distributions named 'uniform'"),
        (["--study", "ablation", "--no-studies"], "--study ablation and --no-studies exclude"),
    ],
)
def test_bad_options_are_refused_before_any_training(
    tmp_path: Path, options: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        run(tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()
