"""Draws a dashboard with matplotlib, each panel as its type shows it in Grafana's dark theme.

Not Grafana: a stand-in where there is none, near enough to see what an operator would see.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

CANVAS, PANEL, TEXT, FAINT = "#111217", "#181b1f", "#ccccdc", "#2a2d33"
PALETTE = ["#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c"]
PALETTE += ["#5794f2", "#b877d9", "#705da0", "#37872d", "#fade2a"]
NAMED = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "blue": "#5794f2"}
COLUMN, ROW = 0.8, 0.42
"""Inches of one cell of Grafana's grid of 24 columns."""
TICK_SECONDS = (5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)

Box = tuple[float, float, float, float]
Series = list[dict[str, Any]]
Answers = dict[str, list[Series]]
"""Panel title -> for each of its queries what Prometheus answered: a matrix, or a vector."""


def dashboard_digest(document: dict[str, Any]) -> str:
    """SHA-256 of the dashboard, by which a test sees that its picture is of today's."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def dashboard_picture(document: dict[str, Any], answers: Answers, path: Path) -> None:
    """Write the whole dashboard as a PNG that carries its digest."""
    panels = document["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    height = (rows + 1) * ROW
    style = {"text.color": TEXT, "axes.labelcolor": TEXT, "font.size": 8, "axes.edgecolor": FAINT}
    ticks = {"xtick.color": TEXT, "ytick.color": TEXT, "axes.facecolor": PANEL, "grid.color": FAINT}
    with mpl.rc_context({**style, **ticks}):
        figure = plt.figure(figsize=(24 * COLUMN, height), facecolor=CANVAS)
        figure.text(0.008, 1 - 0.6 * ROW / height, document["title"], fontsize=13, va="center")
        for panel in panels:
            place = panel["gridPos"]
            box = (
                place["x"] / 24 + 0.003,
                1 - ((place["y"] + place["h"] + 1) * ROW - 0.06) / height,
                place["w"] / 24 - 0.006,
                (place["h"] * ROW - 0.1) / height,
            )
            _panel(figure, box, panel, answers[panel["title"]])
        metadata = {"Software": None, "Source": dashboard_digest(document)}
        figure.savefig(path, dpi=72, metadata=metadata)
        plt.close(figure)


def display_name(legend: str, labels: dict[str, str]) -> str:
    """A legend with its labels filled in."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), legend)


def shown(value: float, unit: str, decimals: int | None = None) -> str:
    """A value with its unit, as Grafana writes it."""
    if not np.isfinite(value):
        return "no value"
    if unit == "percentunit":
        return f"{100 * value:.3g}%" if decimals is None else f"{100 * value:.{decimals}f}%"
    if decimals is not None:
        return f"{value:.{decimals}f}"
    if unit == "s":
        for size, name in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")):
            if abs(value) >= size:
                return f"{value / size:.3g} {name}"
        return "0 s"
    if unit == "bytes":
        return f"{value / 2**20:.4g} MiB"
    thousands = f"{value / 1000:.3g} K" if abs(value) >= 1000 else f"{value:.3g}"
    return thousands + {"reqps": " req/s", "cps": " c/s"}.get(unit, "")


def _panel(
    figure: Figure,
    box: tuple[float, float, float, float],
    panel: dict[str, Any],
    answers: list[Any],
) -> None:
    """The panel's frame and title, and inside them its drawing."""
    frame = figure.add_axes(box)
    frame.set(xticks=[], yticks=[])
    width, height = (figure.get_figwidth() * box[2], figure.get_figheight() * box[3])
    frame.text(0.1 / width, 1 - 0.16 / height, panel["title"], weight="bold", va="center")
    draw: dict[str, tuple[Callable[..., None], Box]] = {
        "timeseries": (_curves, (0.62, 0.5, 0.12, 0.32)),
        "stat": (_number, (0.05, 0.05, 0.05, 0.3)),
        "bargauge": (_bars, (0.8, 0.1, 0.7, 0.32)),
        "heatmap": (_heat_map, (0.62, 0.28, 0.12, 0.32)),
        "table": (_table, (0.1, 0.1, 0.1, 0.32)),
    }
    work, (left, below, right, above) = draw[panel["type"]]
    inside = (
        box[0] + left / figure.get_figwidth(),
        box[1] + below / figure.get_figheight(),
        box[2] * (1 - (left + right) / width),
        box[3] * (1 - (below + above) / height),
    )
    work(figure.add_axes(inside), panel, answers)


def _curves(axes: Axes, panel: dict[str, Any], answers: list[Series]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults["custom"]
    stacked = "stacking" in custom
    named = _named(panel, answers)
    times = sorted({sample[0] for _, each in named for sample in each["values"]})
    base = np.zeros(len(times))
    for index, (name, each) in enumerate(named):
        look = _look(panel, name)
        values = {at: float(text) for at, text in each["values"]}
        y = np.array([values.get(at, np.nan) for at in times])
        if stacked:
            y = base + np.nan_to_num(y)
        colour = look.get("color") or PALETTE[index % len(PALETTE)]
        fill = look.get("fillOpacity", custom["fillOpacity"]) / 100
        x = _instants(times)
        axes.plot(x, y, color=colour, linewidth=1.2, linestyle=look.get("line", "-"), label=name)
        if fill:
            axes.fill_between(x, base if stacked else 0 * y, y, color=colour, alpha=fill, lw=0)
        if stacked:
            base = y
    axes.set_ylim(bottom=defaults.get("min"))
    if "max" in defaults:
        # A curve that stays at the top is to be seen.
        axes.set_ylim(top=1.03 * defaults["max"])
    if not np.any(axes.dataLim.height):
        axes.set_ylim(top=1)
    _time_axis(axes)
    scale = 2**20 if defaults["unit"] == "bytes" else 1
    ticks = MaxNLocator(5).tick_values(*(end / scale for end in axes.get_ylim()))
    shown_ticks = [scale * tick for tick in ticks if scale * tick <= axes.get_ylim()[1]]
    axes.yaxis.set_major_locator(FixedLocator(shown_ticks))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: shown(v, defaults["unit"])))
    name_width = 30 + 3.7 * max(len(name) for name, _ in named)
    columns = max(1, min(len(named), int(axes.bbox.width / name_width)))
    axes.legend(
        *(handles[:12] for handles in axes.get_legend_handles_labels()),
        loc="upper left",
        bbox_to_anchor=(-0.45 * axes.figure.dpi / axes.bbox.width, -0.1),
        ncols=columns if len(named) > 4 else min(columns, 4),
        fontsize=6.5,
        frameon=False,
        handlelength=1.4,
        columnspacing=1,
        labelspacing=0.2,
    )


def _number(axes: Axes, panel: dict[str, Any], answers: list[Series]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    value = float(answers[0][0]["value"][1])
    colour = TEXT
    if "thresholds" in defaults:
        axes.set_facecolor(_threshold_colour(defaults, value))
        colour = "#000000"
    text = shown(value, defaults["unit"], defaults.get("decimals"))
    axes.text(0.5, 0.5, text, fontsize=20, color=colour, ha="center", va="center")
    axes.set(xticks=[], yticks=[])


def _bars(axes: Axes, panel: dict[str, Any], answers: list[Series]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    named = [(name, float(each["value"][1])) for name, each in _named(panel, answers)]
    top = defaults["max"]
    for row, (_, value) in enumerate(named):
        colour = _threshold_colour(defaults, value)
        axes.barh(row, top, color=FAINT, height=0.7)
        axes.barh(row, min(value, top), color=colour, height=0.7)
        text = shown(value, defaults["unit"], defaults.get("decimals"))
        axes.text(top * 1.02, row, text, color=colour, va="center")
    axes.set_yticks(range(len(named)), [name for name, _ in named])
    axes.set(xticks=[], xlim=(0, top), ylim=(len(named) - 0.4, -0.6))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _heat_map(axes: Axes, panel: dict[str, Any], answers: list[Series]) -> None:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    rows = sorted(answers[0], key=lambda each: float(each["metric"]["le"]))
    times = sorted({sample[0] for each in rows for sample in each["values"]})
    cumulative = np.array(
        [[dict(each["values"]).get(at, "nan") for at in times] for each in rows], dtype=float
    )
    counts = np.diff(cumulative, axis=0, prepend=0)
    x = _instants([*times, 2 * times[-1] - times[-2]])
    counts[counts <= 0] = np.nan
    axes.pcolormesh(x, np.arange(len(rows) + 1), np.sqrt(counts), cmap="Oranges", vmin=0)
    every = max(1, round(len(rows) / 8))
    bounds = [float(each["metric"]["le"]) for each in rows]
    marks = [(i + 1, shown(b, unit)) for i, b in enumerate(bounds) if np.isfinite(b)][::every]
    axes.set_yticks([at for at, _ in marks], [text for _, text in marks])
    _time_axis(axes)


def _table(axes: Axes, panel: dict[str, Any], answers: list[Series]) -> None:
    axes.axis("off")
    names = sorted(answers[0][0]["metric"])
    cells = [[each["metric"][name][:12] for name in names] for each in answers[0]]
    made = axes.table(cells, colLabels=names, loc="upper left", cellLoc="left", edges="horizontal")
    made.auto_set_font_size(False)
    for (row, _), cell in made.get_celld().items():
        cell.set_edgecolor(FAINT)
        cell.get_text().set(color=PALETTE[2] if row == 0 else TEXT, fontsize=8)
    assert panel["options"]["showHeader"]


def _named(panel: dict[str, Any], answers: list[Series]) -> list[tuple[str, dict[str, Any]]]:
    """Every series with its display name."""
    return [
        (display_name(target["legendFormat"], each["metric"]), each)
        for target, answer in zip(panel["targets"], answers, strict=True)
        for each in answer
    ]


def _look(panel: dict[str, Any], name: str) -> dict[str, Any]:
    """What overrides say of a series: colour, line, fill."""
    look: dict[str, Any] = {}
    for override in panel["fieldConfig"]["overrides"]:
        if not re.search(override["matcher"]["options"], name):
            continue
        for change in override["properties"]:
            value = change["value"]
            if change["id"] == "color":
                look["color"] = NAMED[value["fixedColor"]]
            elif change["id"] == "custom.lineStyle":
                look["line"] = (0, tuple(length / 2 for length in value["dash"]))
            elif change["id"] == "custom.fillOpacity":
                look["fillOpacity"] = value
    return look


def _threshold_colour(defaults: dict[str, Any], value: float) -> str:
    steps = defaults["thresholds"]["steps"]
    reached = [step for step in steps if step["value"] is None or value >= step["value"]]
    return NAMED[reached[-1]["color"]]


def _instants(seconds: list[float]) -> np.ndarray:
    return (1000 * np.array(seconds)).astype("int64").astype("datetime64[ms]")


def _time_axis(axes: Axes) -> None:
    first, last = (end * 86400 for end in axes.get_xlim())
    step = next(step for step in TICK_SECONDS if (last - first) / step < 6)
    ticks = np.arange(first + (-first) % step, last + 1, step)
    form = "%H:%M:%S" if step < 60 else "%H:%M"
    labels = [datetime.fromtimestamp(at, UTC).strftime(form) for at in ticks]
    axes.set_xticks(ticks / 86400, labels)
    axes.grid(linewidth=0.5)
    axes.margins(x=0)
