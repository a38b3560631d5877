"""The plot of a series with its level, as numbers for a template: places from 0 to 100, and texts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil, floor, log10
from typing import NamedTuple

import numpy as np

from monitoring.alerts.conditions import Direction
from monitoring.alerts.preview import Past, Preview
from training.core.figures import at

# A plot has at most so many points; each is the worst of the steps that it stands for.
POINTS = 240
X_MARKS = 4
DAYS_ARE_ENOUGH_S = 3 * 86_400
Mark = tuple[float, str]  # a place on an axis, and its text


class Shade(NamedTuple):
    """When an alert was open."""

    x: float
    width: float
    told: str


class Level(NamedTuple):
    y: float
    told: str


@dataclass
class Plot:
    title: str
    told: str
    x_marks: list[Mark] = field(default_factory=list)
    y_marks: list[Mark] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    usual: list[str] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)
    shades: list[Shade] = field(default_factory=list)
    fired: float | None = None  # where it fired

    @property
    def is_empty(self) -> bool:
        return not self.lines


def plot_of(preview: Preview, past: Past, title: str, *, fired_at: datetime | None = None) -> Plot:
    """The past of a subject: its values, what is usual or the levels, and when the alert was open."""
    series, measure = past.judged.series, preview.measure
    length = (preview.until - preview.since).total_seconds()

    def on_time(moment: datetime) -> float:
        return round(100 * min(max((moment - preview.since).total_seconds() / length, 0.0), 1.0), 2)

    first = max(0, int((preview.since - series.since) / series.step))
    values = series.shown[first:]
    usual = None if past.judged.expected is None else past.judged.expected[first:]
    known = np.concatenate([values, usual if usual is not None else []])
    known = known[~np.isnan(known)]
    plot = Plot(title, f"{title}: {would_have_fired(len(past.episodes))} since {at(preview.since)}")
    if not len(known):
        return plot
    levels = [] if measure.is_seasonal else [preview.condition.fires_at, preview.condition.clears_at]
    factor = 100.0 if measure.unit == "share" else 1.0
    marks = round_marks(factor * min(0.0, *known, *levels), factor * max(*known, *levels))
    low, high = marks[0] / factor, marks[-1] / factor

    def on_axis(value: float) -> float:
        return round(100 * (high - value) / (high - low), 2)

    unit = " %" if measure.unit == "share" else ""
    plot.y_marks = [(on_axis(mark / factor), f"{short(round(mark, 10))}{unit}") for mark in marks]
    plot.x_marks = list(_x_marks(preview.since, preview.until, on_time))
    places = [on_time(series.end_of(first + index)) for index in range(len(values))]
    worst = np.nanmax if measure.direction is Direction.ABOVE else np.nanmin
    plot.lines = list(_paths(places, values, worst, on_axis))
    if usual is not None:
        plot.usual = list(_paths(places, usual, np.nanmean, on_axis))
    names = ("fires at", "clears at")
    plot.levels = [
        Level(on_axis(level), f"{name} {measure.shown(level)}") for name, level in zip(names, levels, strict=False)
    ]
    for episode in past.episodes:
        begin = series.end_of(episode.first)
        end = preview.until if episode.last is None else series.end_of(episode.last)
        told = f"from {at(begin)} " + ("until now" if episode.last is None else f"to {at(end)}")
        plot.shades.append(Shade(on_time(begin), max(0.4, round(on_time(end) - on_time(begin), 2)), told))
    plot.fired = None if fired_at is None else on_time(fired_at)
    return plot


def would_have_fired(number: int) -> str:
    """
    >>> would_have_fired(0), would_have_fired(1), would_have_fired(2)
    ('would never have fired', 'would have fired once', 'would have fired 2 times')
    """
    often = {0: "would never have fired", 1: "would have fired once"}
    return often.get(number, f"would have fired {number} times")


def _x_marks(since: datetime, until: datetime, on_time: object) -> Iterator[Mark]:
    form = "%d %b" if (until - since).total_seconds() > DAYS_ARE_ENOUGH_S else "%a %H:%M"
    for mark in range(X_MARKS):
        moment = since + (until - since) * (mark + 0.5) / X_MARKS
        yield on_time(moment), moment.strftime(form)  # type: ignore[operator]


def _paths(places: Sequence[float], values: np.ndarray, worst: object, on_axis: object) -> Iterator[str]:
    """Paths of the values, one for each run without a gap; of many values, the worst of neighbours."""
    width = max(1, -(-len(values) // POINTS))
    points: list[tuple[float, float]] = []
    for start in range(0, len(values), width):
        part = values[start : start + width]
        if np.isnan(part).all():
            if points:
                yield _drawn(points)
            points = []
        else:
            x = places[min(start + width, len(values)) - 1]
            points.append((x, on_axis(float(worst(part)))))  # type: ignore[operator]
    if points:
        yield _drawn(points)


def _drawn(points: list[tuple[float, float]]) -> str:
    """A path; a single point is a short line."""
    return path_of(points if len(points) > 1 else [points[0], (points[0][0] + 0.3, points[0][1])])


def path_of(points: Sequence[tuple[float, float]]) -> str:
    """The path of a line through points."""
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)


def round_marks(low: float, high: float) -> list[float]:
    """Round numbers from at most `low` to at least `high`, a few of them."""
    if low == high:
        return [0.0, 1.0]
    rough = (high - low) / 4
    unit = 10 ** floor(log10(rough))
    step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough)
    return [step * number for number in range(floor(low / step), ceil(high / step) + 1)]


def short(value: float) -> str:
    """An amount where there is little room.

    >>> short(0.0), short(12_500.0), short(-2_000_000.0), short(0.5)
    ('0', '12.5k', '-2M', '0.5')
    """
    for limit, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{letter}"
    return f"{value:g}"
