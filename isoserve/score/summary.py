"""``summary.json`` and its page: what one server's drift endpoint shows, of all images."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from isoserve.score.counts import Counts
from isoserve.score.plan import Plan
from isoserve.service.observability.drift import CONFIDENCE, drift_document, wilson


def summarize(plan: Plan, counts: Counts, failed_units: int) -> dict[str, Any]:
    """All that is reported of a run, as JSON."""
    fine = np.asarray(counts.p_values, dtype=np.int64)
    drift = drift_document(fine, plan.calibration_images)
    lower, upper = wilson(counts.rejected, counts.judged)
    return {
        "model": plan.model,
        "model_sha256": plan.sha256,
        "alpha": plan.alpha,
        "sources": plan.sources,
        "units": {"planned": plan.units, "failed": failed_units},
        "images": {
            "scored": counts.images,
            "in_distribution": counts.judged - counts.rejected,
            "ood": counts.rejected,
            "failed": counts.failed,
        },
        "errors": counts.errors,
        "rejection": {
            "share": counts.rejected / counts.judged if counts.judged else None,
            "lower": lower,
            "upper": upper,
            "confidence": CONFIDENCE,
        },
        "p_values": drift.pop("histogram"),
        "classes": [
            {"label": label, "images": images, "ood": rejected}
            for label, images, rejected in zip(
                plan.classes, counts.by_class, counts.rejected_by_class, strict=True
            )
        ],
        "drift": drift if counts.judged else None,
    }


def page(summary: dict[str, Any]) -> str:
    """The summary as an HTML page that needs no other file."""
    images, rejection, drift = summary["images"], summary["rejection"], summary["drift"]
    judged = images["in_distribution"] + images["ood"]
    share = "–" if rejection["share"] is None else f"{rejection['share']:.2%}"
    facts = [
        ("images scored", f"{images['scored']:,}"),
        (
            "rejected (\u201cI don't know\u201d)",
            f"{images['ood']:,} of {judged:,}: {share} "
            f"({rejection['lower']:.2%} to {rejection['upper']:.2%}); "
            f"about {summary['alpha']:.0%} of in-distribution images are",
        ),
        ("without a verdict", f"{images['failed']:,}"),
        (
            "units",
            f"{summary['units']['planned']:,} planned, {summary['units']['failed']:,} failed",
        ),
    ]
    if drift:
        outcome = {True: "differ from in-distribution traffic", False: "within chance"}
        facts += [
            (
                "Kolmogorov distance",
                f"{drift['kolmogorov']['distance']:.4f}: {outcome[drift['kolmogorov']['drifted']]}",
            ),
            (
                "stability index (PSI)",
                f"{drift['stability']['value']:.4f}, limit {drift['stability']['limit']:.4f}: "
                f"{outcome[drift['stability']['drifted']]}",
            ),
        ]
    buckets = summary["p_values"]
    edges = [0.0, *(bucket["le"] for bucket in buckets)]
    p_values = [
        (
            f"{low:g} to {bucket['le']:g}",
            f"{bucket['count']:,}",
            _bar(bucket["count"] / judged if judged else 0, bucket["expected"]),
        )
        for low, bucket in zip(edges, buckets, strict=False)
    ]
    classes = [
        (
            escape(entry["label"]),
            f"{entry['images']:,}",
            f"{entry['ood']:,}",
            _bar(entry["ood"] / entry["images"] if entry["images"] else 0, summary["alpha"]),
        )
        for entry in summary["classes"]
    ]
    errors = [(escape(reason), f"{n:,}") for reason, n in sorted(summary["errors"].items())]
    return _PAGE.format(
        model=escape(summary["model"]),
        digest=summary["model_sha256"][:12],
        facts=_table((), [(name, escape(value)) for name, value in facts]),
        p_values=_table(("p-value", "images", "share; the line is what is expected"), p_values),
        classes=_table(
            ("predicted class", "images", "rejected", "share; the line is alpha"), classes
        ),
        errors=_table(("images without a verdict", "how many"), errors) if errors else "",
    )


def _bar(share: float, expected: float) -> str:
    return (
        f'<svg width="240" height="14" role="img" aria-label="{share:.2%}, expected '
        f'{expected:.2%}"><rect width="{240 * min(share, 1):.1f}" height="14"/>'
        f'<line x1="{240 * min(expected, 1):.1f}" x2="{240 * min(expected, 1):.1f}" y2="14"/>'
        f"</svg> {share:.2%}"
    )


def _table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{f'<tr>{head}</tr>' if head else ''}{body}</table>"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Scored by {model}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto;
  padding: 0 1rem; }}
table {{ border-collapse: collapse; margin: 1rem 0 2rem; }}
th, td {{ text-align: left; padding: .25rem 1rem .25rem 0; border-bottom: 1px solid #8884; }}
svg {{ vertical-align: middle; background: #8882; }}
rect {{ fill: #3b76c4; }} line {{ stroke: #d9822b; stroke-width: 2; }}
</style></head><body>
<h1>Scored images</h1>
<p>By <code>{model}</code>, SHA-256 {digest}\u2026</p>
{facts}
<h2>p-values</h2>
<p>Images like those the model was calibrated on spread as the lines say.</p>
{p_values}
<h2>Classes</h2>
{classes}
{errors}
</body></html>
"""
