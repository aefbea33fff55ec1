"""The short tables that a report begins with: means, differences and settings."""

from __future__ import annotations

import statistics

from isoserve.training.recipe import Recipe
from isoserve.training.reproduce.document import Heading, Paragraph, Part, Table
from isoserve.training.reproduce.plan import LOSS_NAMES, ablation_name
from isoserve.training.reproduce.results import METRICS, Results
from isoserve.training.reproduce.systems import SYSTEMS
from isoserve.training.reproduce.tables import natural_means, natural_means_by_seed

OURS = "IsoMax2/ES"
CHEAP = ("SoftMax/MPS", "SoftMax/ES", "IsoMax/ES", "IsoMax2/MPS", "IsoMax+/MDS", "Energy")
"""Systems of one plain pass that need no other data either."""


def means(results: Results) -> list[Part]:
    over_seeds = natural_means(results)
    places = dict.fromkeys((network, in_data) for network, in_data, _, _ in over_seeds)
    parts: list[Part] = [
        Heading("Mean over natural out-distributions"),
        Paragraph("Percent, mean ± standard deviation over seeds; noise and fooling left out."),
    ]
    for network, in_data in places:
        rows = []
        for system in SYSTEMS:
            found = [over_seeds.get((network, in_data, metric, system.name)) for metric in METRICS]
            if found[0] is not None:
                accuracy = results.summaries().get(
                    (network, in_data, "", "test accuracy", _classifier_of(system.name))
                )
                cells = [str(summary or "-") for summary in (*found, accuracy)]
                rows.append((system.name, *cells, str(found[0].seeds)))
        header = ("system", *METRICS, "test accuracy", "seeds")
        parts += [Heading(f"{network} on {in_data}", 3), Table(header, tuple(rows))]
    return parts


def advantage(results: Results) -> list[Part]:
    """IsoMax2 with the entropic score over the others, seed by seed."""
    by_seed = natural_means_by_seed(results)
    places = dict.fromkeys((network, in_data) for network, in_data, _, _ in by_seed)
    parts: list[Part] = []
    for network, in_data in places:
        ours = by_seed.get((network, in_data, "AUROC", OURS), {})
        rows = []
        for other in CHEAP:
            theirs = by_seed.get((network, in_data, "AUROC", other), {})
            found = {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}
            if found:
                std = f" ± {statistics.stdev(found.values()):.2f}" if len(found) > 1 else ""
                each = ", ".join(f"{value:+.2f}" for value in found.values())
                rows.append((other, f"{statistics.fmean(found.values()):+.2f}{std}", each))
        if rows:
            header = ("against", "mean ± std over seeds", "each seed")
            parts += [Heading(f"{network} on {in_data}", 3), Table(header, tuple(rows))]
    if not parts:
        return []
    return [
        Heading(f"{OURS} over the systems that cost as little"),
        Paragraph(
            f"AUROC of {OURS} minus that of the other, in points, averaged over the natural "
            "out-distributions, between networks of the same seed; above zero where it is better."
        ),
        *parts,
    ]


def settings(results: Results) -> list[Part]:
    """What becomes of IsoMax2 where one setting of its training is not as usual."""
    studied = [entry for entry in results.trainings if entry["purpose"] == "ablation"]
    if not studied:
        return []
    recipes = [Recipe.model_validate(entry["recipe"]) for entry in studied]
    network, in_data = recipes[0].network, studied[0]["in_data"]
    suffixes = ("", *(f" {ablation_name(recipe)}" for recipe in recipes))
    scores = (OURS, "IsoMax2/MPS")
    auroc = natural_means_by_seed(results, [score + end for score in scores for end in suffixes])
    accuracy = {
        record.method: record.value
        for record in results.records
        if (record.network, record.in_data) == (network, in_data)
        and (record.metric, record.seed) == ("test accuracy", 0)
    }
    rows = []
    for end in suffixes:
        found = [auroc[network, in_data, "AUROC", score + end][0] for score in scores]
        numbers = (*found, accuracy[f"IsoMax2{end}"])
        rows.append((end.strip() or "as usual", *(f"{number:.2f}" for number in numbers)))
    return [
        Heading("What IsoMax2 depends on"),
        Paragraph(
            f"One setting changed at a time, seed 0, {network} on {in_data}: AUROC in percent, "
            "averaged over the natural out-distributions, and test accuracy. As usual: wd=no "
            "lr=0.1x, prototypes=zeros."
        ),
        Table(("setting", *scores, "test accuracy"), tuple(rows)),
    ]


def _classifier_of(system: str) -> str:
    return LOSS_NAMES[next(found.loss for found in SYSTEMS if found.name == system)]
