"""The model's screen: is it still shown what it was trained on?"""

from __future__ import annotations

from panels import (
    OF_JOB,
    OF_MODEL,
    RATE,
    Panel,
    Query,
    bars,
    dashboard,
    dashed,
    heat_map,
    lines,
    number,
    panel,
    placed,
    steps,
)

OF_WINDOW = f'{OF_MODEL}, window="30m"'
NAMED = "{{model}} v{{version}}"


def rejected_share() -> Panel:
    return lines(
        "Rejected share",
        "Part of the images of the last 30 minutes that were out-of-distribution, and the lower "
        "end of its interval, which is what the alerts compare. Alpha is what in-distribution "
        "images "
        "give; a ticket or a page comes where the lower end stays above its limit.",
        "percentunit",
        Query(f"isoserve:rejected:share{{{OF_WINDOW}}}", f"{NAMED} share"),
        Query(f"isoserve:rejected:lower{{{OF_WINDOW}}}", f"{NAMED} at least"),
        Query(f"isoserve:model:alpha{{{OF_MODEL}}}", f"{NAMED} alpha"),
        Query(f"isoserve:rejected:limit{{{OF_MODEL}}}", NAMED + " {{severity}} limit"),
        overrides=[
            dashed(".*alpha$", "blue"),
            dashed(".*ticket limit$", "orange"),
            dashed(".*page limit$", "red"),
        ],
    )


def p_values() -> Panel:
    return bars(
        "p-values against uniform",
        "For each bucket of p-values in the last 30 minutes: how many images there are for each "
        "one that in-distribution traffic would put there. 1 everywhere is in-distribution; a "
        "long bar at the "
        "top is foreign images; the whole leaning up is images that all score a little worse.",
        "none",
        Query(
            f"sum by (le) (isoserve:p_value:share{{{OF_WINDOW}}})"
            f" / on (le) (isoserve:p_value_uniform:share"
            f" * scalar(count(isoserve:p_value:count{{{OF_WINDOW}}})))",
            "≤ {{le}}",
            instant=True,
        ),
        orientation="horizontal",
        defaults={
            "min": 0,
            "max": 3,
            "decimals": 2,
            **steps(("orange", None), ("green", 0.8), ("orange", 1.25), ("red", 2)),
        },
    )


def by_class() -> Panel:
    return bars(
        "Rejected by predicted class",
        "Of the images called by each class in the last 30 minutes, the part that was "
        "out-of-distribution; the twenty highest. All classes alike: the picture has changed. One "
        "or two: something new.",
        "percentunit",
        Query(
            f"topk(20, sort_desc(isoserve:class_rejected:share{{{OF_WINDOW}}}))",
            "{{label}}",
            instant=True,
        ),
        orientation="horizontal",
        defaults={"min": 0, "max": 1, **steps(("green", None), ("orange", 0.15), ("red", 0.3))},
    )


def by_reason() -> Panel:
    return lines(
        "Rejections by reason",
        "Images a second that were out-of-distribution, by the view that spoke most against them. "
        "density: unlike any training image, as in fog or with a broken camera. entropic: between "
        "two classes, as a new product is. boundary: close to a class border.",
        "reqps",
        Query(
            f"sum by (reason) (rate(isoserve_rejections_total{{{OF_MODEL}}}{RATE}))", "{{reason}}"
        ),
        stacked=True,
    )


def drift() -> Panel:
    return lines(
        "Drift of the p-values",
        "Kolmogorov's distance of the last 30 minutes' p-values from uniform, and what 99 of 100 "
        "windows of in-distribution images stay under. The ticket comes at 1.65 times that "
        "limit and 0.1.",
        "none",
        Query(f"isoserve:p_value:kolmogorov{{{OF_WINDOW}}}", f"{NAMED} distance"),
        Query(f"isoserve:p_value:kolmogorov_limit{{{OF_WINDOW}}}", f"{NAMED} 99 % limit"),
        overrides=[dashed(".*limit$", "orange")],
    )


def class_mix() -> Panel:
    return lines(
        "Predicted classes",
        "Images a second by predicted class, the ten most frequent. The mix is compared with the "
        "same hours of yesterday.",
        "reqps",
        Query(
            f"topk(10, sum by (label) (rate(isoserve_predictions_total{{{OF_MODEL}}}{RATE})))",
            "{{label}}",
        ),
        stacked=True,
    )


def versions() -> Panel:
    return panel(
        "table",
        "Versions",
        "What serves now, and which file it is.",
        "none",
        [
            Query(
                "max by (model, version, network, loss, sha256)"
                f" (isoserve_model_info{{{OF_MODEL}}}) == 1",
                "",
                instant=True,
                form="table",
            )
        ],
        showHeader=True,
        overrides=[
            {
                "matcher": {"id": "byRegexp", "options": "Time|Value.*"},
                "properties": [{"id": "custom.hidden", "value": True}],
            }
        ],
    )


def shadow() -> Panel:
    seen = f"isoserve_shadow_images_total{{{OF_MODEL}}}"
    agreeing = f'isoserve_shadow_images_total{{{OF_MODEL}, class_agrees="true"}}'
    of_pair = "sum by (model, version, shadow_version)"
    named = "{{model}} v{{version}}, v{{shadow_version}}:"
    return lines(
        "Shadow agreement",
        "Part of the images seen by a shadow that it calls by the live version's class, and the "
        "parts that only one of the two rejects. Agreement that holds over all of a day's traffic "
        "is what a promotion rests on; without a shadow there is nothing here.",
        "percentunit",
        Query(
            f"{of_pair} (rate({agreeing}{RATE})) / ({of_pair} (rate({seen}{RATE})) > 0)",
            f"{named} same class",
        ),
        *(
            Query(
                f"{of_pair} (rate(isoserve_shadow_images_total{{{OF_MODEL},"
                f' rejected="{who}"}}{RATE})) / ({of_pair} (rate({seen}{RATE})) > 0)',
                f"{named} {who} alone rejects",
            )
            for who in ("live", "shadow")
        ),
        defaults={"min": 0, "max": 1},
    )


def document() -> Panel:
    """The dashboard."""
    counts = f"isoserve:images:count{{{OF_WINDOW}}}"
    rejected = f"sum(isoserve:rejected:count{{{OF_WINDOW}}}) / (sum({counts}) > 0)"
    alerts = f'ALERTS{{alertname=~"Isoserve.*", alertstate="firing", {OF_JOB}}}'
    at_a_glance = [
        (
            6,
            number(
                "Images, 30 minutes", "Images judged in half an hour.", "short", f"sum({counts})"
            ),
        ),
        (
            6,
            number(
                "Rejected, 30 minutes",
                "Part of them that was out-of-distribution.",
                "percentunit",
                rejected,
                defaults={"decimals": 1},
            ),
        ),
        (
            6,
            number(
                "Alerts",
                "Kinds of alerts of this service that fire now; docs/runbooks has a page for each.",
                "none",
                f"count(count by (alertname) ({alerts})) or vector(0)",
                colour="background",
                defaults=steps(("green", None), ("red", 1)),
            ),
        ),
        (
            6,
            number(
                "Refused versions, 24 hours",
                "New model versions that were not loaded.",
                "none",
                f'sum(increase(isoserve_model_loads_total{{{OF_JOB}, outcome="refused"}}[24h]))',
                colour="background",
                defaults={"decimals": 0, **steps(("green", None), ("orange", 1))},
            ),
        ),
    ]
    scores = heat_map(
        "Scores, as p-values",
        "Where the scores of all images lie, by their rank among those of the calibration; what "
        "lies up to alpha is rejected. In-distribution images fill the whole height, each band "
        "by its "
        "width. A step is an event, a slope is dirt, fog or dusk.",
        "none",
        f"sum by (le) (increase(isoserve_p_value_bucket{{{OF_MODEL}}}{RATE}))",
    )
    quantiles = lines(
        "p-values and threshold",
        "The p-value that 5, 50 and 95 of 100 images of the last 30 minutes stay under; on "
        "in-distribution "
        "images they are 0.05, 0.5 and 0.95. What lies under the threshold, alpha, is rejected.",
        "none",
        *(
            Query(
                f"histogram_quantile({q}, sum by (le)"
                f" (isoserve:p_value_bucket:increase{{{OF_WINDOW}}}))",
                f"{q:.0%}",
            )
            for q in (0.95, 0.5, 0.05)
        ),
        Query(f"max(isoserve:model:alpha{{{OF_MODEL}}})", "threshold"),
        defaults={"min": 0, "max": 1},
        overrides=[dashed("threshold", "red")],
    )
    stability = lines(
        "Drift of p-values and classes (PSI)",
        "Population stability index of the p-values against uniform and of the predicted classes "
        "against the same hours of yesterday, with their 99 % limits, which depend on the counts.",
        "none",
        Query(f"isoserve:p_value:psi{{{OF_WINDOW}}}", f"{NAMED} p-values"),
        Query(f"isoserve:p_value:psi_limit{{{OF_WINDOW}}}", f"{NAMED} p-values limit"),
        Query(f'isoserve:class_mix:psi{{{OF_JOB}, model=~"$model"}}', "{{model}} classes"),
        Query(
            f'isoserve:class_mix:psi_limit{{{OF_JOB}, model=~"$model"}}', "{{model}} classes limit"
        ),
        overrides=[dashed(".*limit$", "orange")],
    )
    invalid = lines(
        "Invalid images by reason",
        "Images a second that were no images or broke a limit; they are not in the shares above.",
        "reqps",
        Query(
            f"sum by (reason) (rate(isoserve_invalid_images_total{{{OF_JOB}}}{RATE}))", "{{reason}}"
        ),
        stacked=True,
    )
    by_version = lines(
        "Images by version",
        "Images a second that each version judged; a new version takes over between two batches.",
        "reqps",
        Query(f"sum by (model, version) (rate(isoserve_images_total{{{OF_MODEL}}}{RATE}))", NAMED),
        stacked=True,
    )
    return dashboard(
        "isoserve-model",
        "Isoserve model",
        "Is the model still shown what it was trained on?",
        placed(
            [
                (3, at_a_glance),
                (8, [(14, rejected_share()), (10, p_values())]),
                (8, [(8, by_class()), (8, scores), (8, quantiles)]),
                (7, [(8, drift()), (8, stability), (8, class_mix())]),
                (6, [(8, by_reason()), (8, by_version), (8, invalid)]),
                (6, [(12, versions()), (12, shadow())]),
            ]
        ),
        variables=["job", "model", "version"],
        alerts=alerts,
    )
