"""Draws the plots of dashboards, in colours that the colour-blind tell apart, on a light or a dark page."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import cache
from textwrap import wrap
from typing import Any

import plotly.graph_objects as go

from monitoring.rollups.windows import Window
from scoring.lists.files import defused
from scoring.models import Decision

# Of Okabe and Ito, "Color Universal Design" (2008); none of them is lost on white or on black.
GREEN, BLUE, ORANGE, VERMILLION, PURPLE, SKY = "#009e73", "#0072b2", "#e69f00", "#d55e00", "#cc79a7", "#56b4e9"
SERIES = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY)
NEUTRAL = "#7d8590"
COLOURS = {Decision.APPROVE: GREEN, Decision.CHALLENGE: SKY, Decision.REVIEW: ORANGE, Decision.BLOCK: VERMILLION}
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "solid")
HOVER_TIME = "%Y-%m-%d %H:%M UTC"


def figure(*traces: Any, **layout: Any) -> go.Figure:
    """A figure in the manner of all: no frame, thin lines, the legend above."""
    grid = {"gridcolor": "rgba(125,133,144,0.2)", "zeroline": False, "automargin": True}
    # Given at once, as `update_layout` takes ten times as long.
    manner = {
        "template": "none",  # Plotly's own template is most of a figure's bytes, and draws light edges around bars
        "margin": {"l": 52, "r": 12, "t": 28, "b": 36},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": NEUTRAL, "size": 11},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": NEUTRAL},
        "legend": {"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        "uirevision": "keep",  # a refresh must not undo the reader's zoom
        "xaxis": grid,
        "yaxis": grid,
    }
    return go.Figure(traces, layout=manner | layout)


@cache
def said(text: str) -> go.Figure:
    """A figure that says a sentence in place of a plot: that nothing is there, or why."""
    drawn = figure(xaxis_visible=False, yaxis_visible=False)
    drawn.add_annotation(
        text="<br>".join(wrap(text, 38)), xref="paper", yref="paper", x=0.5, y=0.5, showarrow=False, font_size=12
    )
    return drawn


def stacked(window: Window, series: Iterable[tuple[str, str, Sequence[float]]], unit: str) -> go.Figure:
    """Bars by step, on top of each other, of (name, colour, values)."""
    middles = [start + window.step / 2 for start in window.starts]
    width_ms = 0.85 * window.step.total_seconds() * 1000
    bars = [
        go.Bar(x=middles, y=list(values), width=width_ms, name=name, marker_color=colour)
        for name, colour, values in series
    ]
    drawn = figure(*bars, barmode="stack", yaxis_title=unit)
    return over(drawn, window)


def lines(window: Window, series: Iterable[tuple[str, str, Sequence[float | None]]], unit: str) -> go.Figure:
    """Lines by step of (name, colour, values), with a gap where a value is None. Dashes tell them apart as well."""
    drawn = figure(
        *(
            go.Scatter(
                x=window.starts,
                y=list(values),
                name=name,
                mode="lines+markers",
                marker_size=4,
                line={"color": colour, "dash": DASHES[number % len(DASHES)]},
            )
            for number, (name, colour, values) in enumerate(series)
        ),
        yaxis_title=unit,
    )
    drawn.update_yaxes(rangemode="tozero")
    return over(drawn, window)


def ranked(names: Sequence[str], values: Sequence[float], colour: str | Sequence[str], unit: str) -> go.Figure:
    """Bars that lie, the first at the top."""
    drawn = figure(
        go.Bar(x=list(values), y=list(names), orientation="h", marker_color=colour, showlegend=False), xaxis_title=unit
    )
    downwards(drawn, names, dtick=1)
    return drawn


def with_intervals(what: str, shares: Sequence[tuple[str, float, float | None, float | None]]) -> go.Figure:
    """Points that lie, the first at the top, of (name, value, low, high), with their intervals where there is one."""
    names, values, _, _ = zip(*shares, strict=True)
    drawn = figure(
        go.Scatter(
            x=list(values),
            y=list(names),
            mode="markers",
            name=what,
            orientation="h",
            showlegend=False,
            marker={"color": BLUE, "size": 8},
            error_x=reaching([each[1:] for each in shares]),
        )
    )
    downwards(drawn, names, dtick=1)
    return drawn


def downwards(drawn: go.Figure, names: Iterable[str], **axis: Any) -> None:
    """Put the first name at the top. Said as a range, as Plotly forgets to reverse an axis that it drew before, such as
    that of the empty plot while a page loads."""
    drawn.update_yaxes(range=[len(set(names)) - 0.5, -0.5], tickfont_size=10, **axis)


def reaching(intervals: Sequence[tuple[float, float | None, float | None]]) -> dict[str, Any]:
    """The bars of intervals, of (value, low, high); none where there is no interval."""
    return {
        "type": "data",
        "symmetric": False,
        "thickness": 1.2,
        "width": 3,
        "array": [0.0 if high is None else max(0.0, high - value) for value, _, high in intervals],
        "arrayminus": [0.0 if low is None else max(0.0, value - low) for value, low, _ in intervals],
    }


def side_by_side(names: Sequence[str], series: Iterable[tuple[str, str, Sequence[float]]]) -> go.Figure:
    """Shares as bars that lie beside each other, the first name at the top, of (name, colour, values)."""
    bars = [
        go.Bar(x=list(values), y=list(names), orientation="h", name=name, marker_color=colour)
        for name, colour, values in series
    ]
    drawn = figure(*bars, barmode="group", bargap=0.25)
    downwards(drawn, names, dtick=1)
    drawn.update_xaxes(tickformat=".0%", hoverformat=".2%", rangemode="tozero")
    return drawn


def over(drawn: go.Figure, window: Window) -> go.Figure:
    """A figure whose horizontal axis is the time of a window."""
    drawn.update_xaxes(range=[window.start, window.end], hoverformat=HOVER_TIME, title="UTC", type="date")
    # Labels that turn where a plot gets narrow change its margins, and so its width: it would be drawn over and over.
    drawn.update_xaxes(tickangle=0)
    return drawn


def per(step: timedelta) -> str:
    """The unit of counts by step, such as "per minute" or "per 6 h"."""
    minutes = int(step.total_seconds()) // 60
    for length, word, letter in ((1440, "day", "days"), (60, "hour", "h"), (1, "minute", "min")):
        if minutes % length == 0:
            number = minutes // length
            return f"per {word}" if number == 1 else f"per {number} {letter}"
    return ""


def table_of(drawn: go.Figure) -> Iterator[list[str]]:
    """The numbers of a figure as rows of a table: where on its axis, then a column for each of its traces, and two more
    for the ends of its intervals."""
    columns: dict[str, dict[str, Any]] = {}
    for trace in drawn.data:
        if getattr(trace, "x", None) is not None:
            lies = getattr(trace, "orientation", None) == "h"
            places, values = (trace.y, trace.x) if lies else (trace.x, trace.y)
            name = trace.name or "value"
            columns[name] = dict(zip(map(_cell, places), values, strict=False))
            bars = getattr(trace, "error_x" if lies else "error_y", None)
            if bars is not None and bars.array is not None:
                lows = [value - reach for value, reach in zip(values, bars.arrayminus, strict=True)]
                highs = [value + reach for value, reach in zip(values, bars.array, strict=True)]
                columns |= {
                    f"{name} {end}": dict(zip(columns[name], ends, strict=False))
                    for end, ends in (("low", lows), ("high", highs))
                }
    yield ["", *map(defused, columns)]
    for place in dict.fromkeys(place for column in columns.values() for place in column):
        yield [place, *(_cell(column.get(place)) for column in columns.values())]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(timespec="minutes")
    return f"{value:.10g}" if isinstance(value, float) else defused(str(value))
