"""Panels and dashboards as Grafana stores them: what every one of ours has in common, said once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
GRID = 24
OF_MODEL = 'job=~"$job", model=~"$model", version=~"$version"'
OF_JOB = 'job=~"$job"'
PREDICTIONS = f'{OF_JOB}, route=~"/v1/predict.*|/v2/.*/infer|grpc ModelInfer"'
RATE = "[$__rate_interval]"

Panel = dict[str, Any]


@dataclass(frozen=True)
class Query:
    """One expression; ``legend`` may name labels in double braces."""

    expr: str
    legend: str
    instant: bool = False
    form: str = "time_series"


def panel(
    kind: str, title: str, description: str, unit: str, queries: list[Query], **options: Any
) -> Panel:
    """A panel without its place; ``defaults`` and ``options`` go where Grafana keeps them."""
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "fieldConfig": {
            "defaults": {"unit": unit, **options.pop("defaults", {})},
            "overrides": options.pop("overrides", []),
        },
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": DATASOURCE,
                "expr": query.expr,
                "legendFormat": query.legend,
                "instant": query.instant,
                "range": not query.instant,
                "format": query.form,
            }
            for index, query in enumerate(queries)
        ],
    }


def lines(
    title: str, description: str, unit: str, *queries: Query, stacked: bool = False, **more: Any
) -> Panel:
    """Curves over time."""
    custom: dict[str, Any] = {"lineWidth": 1, "fillOpacity": 5, "showPoints": "never"}
    if stacked:
        custom |= {"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 30}
    defaults = {"custom": custom, **more.pop("defaults", {"min": 0})}
    return panel(
        "timeseries",
        title,
        description,
        unit,
        list(queries),
        defaults=defaults,
        tooltip={"mode": "multi", "sort": "desc"},
        legend={"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        **more,
    )


def number(title: str, description: str, unit: str, expr: str, **more: Any) -> Panel:
    """The newest value, large."""
    return panel(
        "stat",
        title,
        description,
        unit,
        [Query(expr, "", instant=True)],
        reduceOptions={"calcs": ["lastNotNull"], "fields": "", "values": False},
        colorMode=more.pop("colour", "none"),
        graphMode="none",
        textMode="auto",
        justifyMode="auto",
        orientation="auto",
        **more,
    )


def bars(title: str, description: str, unit: str, query: Query, **more: Any) -> Panel:
    """One bar a series."""
    return panel(
        "bargauge",
        title,
        description,
        unit,
        [query],
        displayMode="basic",
        valueMode="color",
        namePlacement="auto",
        showUnfilled=True,
        minVizWidth=8,
        minVizHeight=12,
        reduceOptions={"calcs": ["lastNotNull"], "fields": "", "values": False},
        **more,
    )


def heat_map(title: str, description: str, unit: str, expr: str) -> Panel:
    """A Prometheus histogram over time."""
    return panel(
        "heatmap",
        title,
        description,
        unit,
        [Query(expr, "{{le}}", form="heatmap")],
        calculate=False,
        cellGap=0,
        color={
            "mode": "scheme",
            "scheme": "Oranges",
            "fill": "dark-orange",
            "scale": "exponential",
            "exponent": 0.5,
            "steps": 64,
            "reverse": False,
        },
        yAxis={"axisPlacement": "left", "unit": unit},
        tooltip={"mode": "single", "yHistogram": False, "showColorScale": False},
        legend={"show": True},
    )


def steps(*colours: tuple[str, float | None]) -> dict[str, Any]:
    """Colours by value, for ``defaults``."""
    return {
        "thresholds": {
            "mode": "absolute",
            "steps": [{"color": colour, "value": value} for colour, value in colours],
        },
        "color": {"mode": "thresholds"},
    }


def dashed(pattern: str, colour: str) -> dict[str, Any]:
    """An override that draws the series whose name matches as a dashed line: a limit."""
    return {
        "matcher": {"id": "byRegexp", "options": pattern},
        "properties": [
            {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}},
            {"id": "custom.fillOpacity", "value": 0},
            {"id": "color", "value": {"mode": "fixed", "fixedColor": colour}},
        ],
    }


def placed(rows: list[tuple[int, list[tuple[int, Panel]]]]) -> list[Panel]:
    """Panels with ids and places: rows of (height, [(width, panel)]), widths adding up to 24."""
    result: list[Panel] = []
    y = 0
    for height, row in rows:
        x = 0
        for width, made in row:
            place = {"x": x, "y": y, "w": width, "h": height}
            result.append({"id": len(result) + 1, "gridPos": place, **made})
            x += width
        if x != GRID:
            raise ValueError(f"a row is {x} wide, not {GRID}")
        y += height
    return result


def dashboard(uid: str, title: str, description: str, chosen: list[Panel], **more: Any) -> Panel:
    """The whole document; ``variables`` are names of labels to choose by."""
    variables: list[dict[str, Any]] = [
        {
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
            "current": {"text": "Prometheus", "value": "prometheus"},
            "hide": 0,
            "refresh": 1,
            "options": [],
            "includeAll": False,
            "multi": False,
        }
    ]
    before = ""
    for name in more["variables"]:
        variables.append(
            {
                "name": name,
                "label": name.capitalize(),
                "type": "query",
                "datasource": DATASOURCE,
                "query": {
                    "query": f"label_values(isoserve_model_info{{{before}}}, {name})",
                    "refId": name,
                },
                "current": {"text": ["All"], "value": ["$__all"]},
                "allValue": ".+",
                "includeAll": True,
                "multi": True,
                "refresh": 2,
                "sort": 1,
                "hide": 0,
                "options": [],
            }
        )
        before = ", ".join(filter(None, [before, f'{name}=~"${name}"']))
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["isoserve"],
        "schemaVersion": 41,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "fiscalYearStartMonth": 0,
        "templating": {"list": variables},
        "annotations": {"list": [_alerts(more["alerts"])]},
        "links": [
            {
                "type": "dashboards",
                "title": "Isoserve",
                "tags": ["isoserve"],
                "asDropdown": False,
                "includeVars": False,
                "keepTime": True,
                "targetBlank": False,
                "icon": "external link",
                "tooltip": "",
            }
        ],
        "panels": chosen,
    }


def _alerts(expr: str) -> dict[str, Any]:
    return {
        "name": "Alerts",
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "red",
        "expr": expr,
        "titleFormat": "{{alertname}}",
        "textFormat": "{{model}} {{version}}",
        "step": "60s",
    }
