"""The numbers the papers print.

[IsoMax2]  "Hyperparameter-Free Isotropic Maximization Loss" (Macêdo et al.), tables 1-5.
[IsoMax]   "Isotropy Maximization Loss and Entropic Score" (Macêdo et al., 2021), tables 1-3.
[IsoMax+]  "Enhanced Isotropy Maximization Loss" (Macêdo and Ludermir, 2021), table 3.
[OpenOOD]  The leaderboard of OpenOOD v1.5 for CIFAR-10: near and far means.

Two printed rows of [IsoMax2] table 5 are impossible (a detection accuracy below
(95 + TNR@TPR95) / 2); they carry a flag, and so do cells the paper leaves out.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources

TABLES: dict[str, str] = {
    "IsoMax2 table 1": "isomax2_table1.csv",
    "IsoMax2 table 2": "isomax2_table2.csv",
    "IsoMax2 table 3": "isomax2_table3.csv",
    "IsoMax2 table 4": "isomax2_table4.csv",
    "IsoMax2 table 5": "isomax2_table5.csv",
    "IsoMax table 1": "isomax_table1.csv",
    "IsoMax table 2": "isomax_table2.csv",
    "IsoMax table 3": "isomax_table3.csv",
    "IsoMax+ table 3": "isomaxplus_table3_from_image.csv",
}
"""Table -> file beside this package."""

TITLES: dict[str, str] = {
    "IsoMax2 table 1": "fair comparison: no tuning, no extra data, one pass",
    "IsoMax2 table 2": "systems with other needs: ODIN, ACET, Mahalanobis",
    "IsoMax2 table 3": "weight decay and learning rate of scales and tilts",
    "IsoMax2 table 4": "classification accuracy, train and test",
    "IsoMax2 table 5": "table 1 with fooling images, Gaussian and uniform noise",
    "IsoMax table 1": "fair comparison of the first paper",
    "IsoMax table 2": "systems with other needs, first paper",
    "IsoMax table 3": "test accuracy, first paper",
    "IsoMax+ table 3": "the authors' successor, mean of five runs, read from an image",
}


@dataclass(frozen=True)
class Published:
    """One printed cell; ``value`` in percent, None where the paper leaves it out."""

    table: str
    model: str
    in_data: str
    out_data: str
    metric: str
    method: str
    value: float | None
    flag: str
    note: str


def read_published(table: str) -> list[Published]:
    """The cells of one of :data:`TABLES`, in the paper's order."""
    text = resources.files("isoserve.training.published").joinpath(TABLES[table]).read_text("utf-8")
    return [
        Published(
            table=table,
            model=row["model"],
            in_data=row["in_data"],
            out_data=row["out_data"],
            metric=row["metric"],
            method=_method(row["method"]),
            value=float(row["value"]) if row["value"] else None,
            flag=row.get("flag", ""),
            note=row.get("note", ""),
        )
        for row in csv.DictReader(text.splitlines())
    ]


OPENOOD_SOURCE = "OpenOOD v1.5 leaderboard (results/cifar10.csv of github.com/Jingkang50/OpenOOD)"

_OPENOOD_FILE = "openood_cifar10.csv"


@dataclass(frozen=True)
class LeaderboardEntry:
    """One row of [OpenOOD]; each number as it is shown there, mean ± deviation, in percent."""

    training: str
    score: str
    near_auroc: str
    far_auroc: str
    accuracy: str
    """"-" where it is not reported."""
    outlier_data: bool
    """Whether images of other classes were trained on."""
    network: str
    note: str


def read_leaderboard() -> list[LeaderboardEntry]:
    """All rows of [OpenOOD], in the order of their names."""
    text = resources.files("isoserve.training.published").joinpath(_OPENOOD_FILE).read_text("utf-8")
    return [
        LeaderboardEntry(
            training=row["training"],
            score=row["score"],
            near_auroc=_with_deviation(row, "near_auroc", "near_std"),
            far_auroc=_with_deviation(row, "far_auroc", "far_std"),
            accuracy=_with_deviation(row, "accuracy", "accuracy_std"),
            outlier_data=row["outlier_data"] == "yes",
            network=row["network"],
            note=row["note"],
        )
        for row in csv.DictReader(text.splitlines())
    ]


def _with_deviation(row: dict[str, str], mean: str, std: str) -> str:
    return f"{row[mean]} ± {row[std]}" if row[mean] else "-"


def _method(printed: str) -> str:
    # The first paper joins loss and score with a plus sign, the others with a stroke.
    loss, plus, score = printed.partition("+")
    return f"{loss}/{score}" if plus and score in ("ES", "MPS") else printed


def same_name(ours: str, printed: str) -> bool:
    """Whether a set of ours is the printed one: upper case and "-resize" do not matter."""
    return ours.lower() == printed.lower().removesuffix("-resize")


def same_network(ours: str, printed: str) -> bool:
    """Whether our network is of the printed family; the exact network is named beside it."""
    family = printed.lower().rstrip("0123456789")
    return ours.lower().startswith(family)
