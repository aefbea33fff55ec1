"""What 8 bits cost the default model, and what they bring.

    python -m benchmarks.quantize data/cifar10/train --ood data/ood/* --output benchmarks/results

The folder is what the model was trained on. Of its images those are taken that were held out, by
the seed and the counts in the model's card: the weights have not seen them, and the test set is not
touched. The rest is what ``isoserve quantize`` does, without its bounds, to report a loss.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.serving.report import circumstances
from isoserve.training.data import load_class_folders
from isoserve.training.hold_out import hold_out
from isoserve.training.onnx_graph import read_model
from isoserve.training.onnx_model.quantize import QuantizeOptions, quantize
from isoserve.training.out_distributions import load_out_distributions

DEFAULT_MODEL = Path(__file__).parents[2] / "model_repository/cifar10/1/model.onnx"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train_folder", type=Path)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--ood", nargs="*", default=["gaussian", "uniform"])
    parser.add_argument("--limit", type=int, default=1000, help="images of each --ood")
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    before = circumstances()
    model, card = read_model(given.model)
    images = load_class_folders(given.train_folder, card.input)
    count = len(images) - card.data.training_images  # calibration and scales of the views
    _, held_out = hold_out(images.labels, count, card.seed)
    outs = load_out_distributions(given.ood, card.input, Path(), given.limit, card.classes)
    options = QuantizeOptions(max_accuracy_loss=1, max_auroc_loss=1)
    cost = quantize(model, card, images.take(held_out), outs, options).cost
    report = {
        "command": "python -m benchmarks.quantize data/cifar10/train --ood "
        + " ".join(out.name for out in outs),
        **before,
        "model": card.name,
        "network": card.network,
        "images": cost.n,
        "range_images": options.range_images,
        "seed": options.seed,
        "accuracy": cost.accuracy.as_dict(),
        "auroc": {
            out.name: {"n": len(out.pixels), **cost.auroc[out.name].as_dict()} for out in outs
        },
        "speedup": cost.speedup,
    }
    (given.output / "quantize.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({key: report[key] for key in ("images", "accuracy", "auroc", "speedup")}))


if __name__ == "__main__":
    main()
