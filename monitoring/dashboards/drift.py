"""The page *Drift*: what moved in a version's recent traffic, by how much, and what that did to the score.

It shows what the last measurement stored, and the measurements of the window over time; it reads no predictions.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import plotly.graph_objects as go
from dash import html
from django.conf import settings
from django.urls import reverse
from django.utils.timesince import timesince

from monitoring import selectors
from monitoring.dashboards import figures
from monitoring.dashboards.choices import Choice
from monitoring.dashboards.figures import BLUE, GREEN, NEUTRAL, ORANGE, SERIES, VERMILLION
from monitoring.dashboards.frame import Entry, Page, Panel, Shown, Tile, rows
from monitoring.drift import report
from monitoring.drift.attribution import Added, Shift
from monitoring.drift.psi import PopulationStabilityIndex
from monitoring.drift.report import Drift, Input
from monitoring.drift.shares import SCORE
from scoring.lists.files import defused
from training import registry
from training.core.figures import psi
from training.models import ModelVersion

# Plots have so many inputs; the table has all.
SHOWN = 20
LINES = 5
# After so many intervals without a measurement, the page asks whether beat is alive.
LATE_AFTER = 10
NOTHING = "–"
EDGES = (PopulationStabilityIndex.MODERATE, PopulationStabilityIndex.STRONG)

PANELS = (
    Panel("trend", "Stability index over time", "Since when does it drift?", span=2),
    Panel("d0", "Distribution", "Do scores lie where they lay on validation rows?"),
    Panel("index", "How far each input moved", "Which inputs are not as they were in training?", height=400),
    Panel("effect", "What moved the score, with 95 % intervals", "Does the drift matter to the model?", height=400),
    Panel("unusual", "Missing and unknown values", "Does a client leave a field out, or send new values?", height=400),
    *(Panel(f"d{number}", "Distribution", "How did its values move?", height=300) for number in range(1, report.DRAWN)),
    Panel("inputs", "All inputs, those that moved most first", span=3, is_table=True, has_numbers=True),
)


def read(choice: Choice) -> Shown:
    """The page of a choice."""
    version = _version(choice)
    found = report.of_version(version) if version else None
    if version is None or found is None:
        return Shown(empty=_nothing_yet(version))
    strongest = found.inputs[:SHOWN]
    seen = {
        "trend": trend_figure(choice, version, found),
        "index": index_figure([found.score, *strongest]),
        "unusual": unusual_figure(found.inputs),
        "effect": effect_figure(found),
    }
    drawn = [found.score, *(each for each in found.drawn(choice.more.get("input", "")) if each is not found.score)]
    titles, notes = {}, {"effect": _told_shift(found.shift)}
    numbers: dict[str, Callable[[], Iterable[Sequence[Any]]]] = {}
    for number, each in enumerate(drawn):
        seen[f"d{number}"] = distribution_figure(each)
        titles[f"d{number}"] = f"Distribution of {each.name}"
        notes[f"d{number}"] = f"Index {psi(each.moved.psi)}, {each.level}"
        numbers[f"d{number}"] = partial(_bin_lines, [each])
    numbers["inputs"] = partial(_input_lines, found)
    notes["index"] = f"{_traffic(found)} Below {EDGES[0]} is stable, from {EDGES[1]} on strong.{_clock(found)}"
    age = choice.now - found.report.created_at
    is_late = age > LATE_AFTER * timedelta(seconds=settings.DRIFT_INTERVAL_S)
    return Shown(
        tiles=tiles(choice, version, found),
        figures=seen,
        tables={"inputs": input_rows(choice, found)},
        titles=titles,
        notes=notes
        | {"index": f"{_traffic(found)} Below {EDGES[0]} is stable, from {EDGES[1]} on strong.{_clock(found)}"},
        numbers=numbers,
        notices=["Measured long ago: is beat alive, and a bulk worker?"] if is_late else [],
    )


def asks(choice: Choice) -> list[Entry]:
    """The input whose distribution is drawn besides."""
    version = _version(choice)
    found = report.of_version(version) if version else None
    names = sorted(each.name for each in found.inputs) if found else []
    return [Entry("input", "Input", choice.more.get("input", ""), ["", *names])] if names else []


def _version(choice: Choice) -> ModelVersion | None:
    """The chosen version, else the champion."""
    if choice.version:
        return ModelVersion.objects.get(pk=choice.version)
    return registry.champion_or_none(choice.schema)


def _nothing_yet(version: ModelVersion | None) -> html.Div:
    if version is None:
        text = "There is no champion: train a model and promote it."
    else:
        needed = settings.DRIFT_MIN_SAMPLES
        have = selectors.samples_so_far(version, needed)
        text = (
            f"It needs {needed:,} transactions that {version.pk} has scored (DRIFT_MIN_SAMPLES); there are {have:,} so "
            "far. Beat measures the champion by itself once there are enough."
        )
    return html.Div([html.H2("Drift was not measured yet"), html.P(text)], className="empty")


def tiles(choice: Choice, version: ModelVersion, found: Drift) -> list[Tile]:
    first, shift = found.inputs[0], found.shift
    moved = _by_effect(found)
    unusual = [
        (now - (before or 0.0), each.name, now)
        for each in found.inputs
        for now, before in _unusual(each).values()
        if now is not None
    ]
    excess, name, share = max(unusual, default=(0.0, "", 0.0))
    return [
        Tile(
            "Drift",
            found.report.get_status_display(),
            f"of {version.pk}, measured {timesince(found.report.created_at, choice.now)} ago",
            calm=found.report.status == "stable",
        ),
        Tile("Score", psi(found.score.moved.psi), "stability index, against validation rows"),
        Tile("Moved most", first.name, f"stability index {psi(first.moved.psi)}", calm=first.level == "stable"),
        Tile(
            "Mean score, in log odds",
            f"{shift.total.value:+.3f}" if shift else NOTHING,
            f"{_interval(shift.total)}, against earlier traffic" if shift else "no traffic from before to compare with",
        ),
        Tile(
            "Moved the score most",
            moved[0].name if moved else NOTHING,
            _effect(moved[0].added, shift) if moved and moved[0].added else "",
        ),
        Tile(
            "Missing or unknown",
            f"{share:.1%}" if excess > 0 else NOTHING,
            f"of {name}: {excess:+.1%} since training" if excess > 0 else "no more than among training rows",
            calm=excess < 0.01,
        ),
    ]


def _traffic(found: Drift) -> str:
    of = found.report
    return f"{of.samples:,} transactions, {of.window_start:%Y-%m-%d %H:%M} to {of.window_end:%Y-%m-%d %H:%M} UTC."


def _by_effect(found: Drift) -> list[Input]:
    """Inputs by how much they moved the score, the most first."""
    known = [each for each in found.inputs if each.added]
    return sorted(known, key=lambda each: -abs(each.added.value) if each.added else 0.0)


def _effect(added: Added, shift: Shift | None) -> str:
    """What an input added, and as a share of the whole shift where chance alone does not explain that."""
    if shift is None or shift.total.low <= 0 <= shift.total.high:
        return f"{added.value:+.3f}"
    return f"{added.value:+.3f}, {added.value / shift.total.value:.0%} of the shift"


def _interval(added: Added) -> str:
    return f"{added.low:+.3f} to {added.high:+.3f}"


def _told_shift(shift: Shift | None) -> str:
    if shift is None:
        return "There is no traffic from before to compare with."
    (_, until, now), (first, last, before) = shift.now, shift.before
    return (
        f"Log odds. {now:,} transactions up to {until:%Y-%m-%d %H:%M} beside {before:,} from {first:%Y-%m-%d %H:%M} to "
        f"{last:%Y-%m-%d %H:%M}: {shift.total.value:+.3f} ({_interval(shift.total)}) in all; the inputs add up to it."
    )


def _unusual(each: Input) -> dict[str, tuple[float | None, float | None]]:
    """The shares of missing values, and of those that the model does not know: now, and among training rows."""
    moved = each.moved
    return {"missing": (moved.missing, moved.missing_before), "unknown": (moved.unseen, moved.unseen_before)}


# --- plots ----------------------------------------------------------------------------------------------------------


def colour_of(index: float) -> str:
    """The colour of an index, by what is usually made of it."""
    return VERMILLION if index >= EDGES[1] else ORANGE if index >= EDGES[0] else GREEN


def indices_figure(names: Sequence[str], values: Sequence[float]) -> go.Figure:
    """Indices, the first at the top, with the edges between stable, moderate and strong."""
    drawn = figures.ranked(names, values, [colour_of(value) for value in values], "population stability index")
    for edge in EDGES:
        drawn.add_vline(edge, line_dash="dot", line_color=NEUTRAL, line_width=1)
    drawn.update_xaxes(hoverformat=".3f")
    return drawn


def index_figure(inputs: Sequence[Input]) -> go.Figure:
    return indices_figure([each.name for each in inputs], [each.moved.psi for each in inputs])


def effect_figure(found: Drift) -> go.Figure:
    known = [(each.name, each.added) for each in _by_effect(found)[:SHOWN] if each.added]
    if not known:
        return figures.said("There is no traffic from before to compare with")
    drawn = figures.with_intervals("moved the score", [(name, of.value, of.low, of.high) for name, of in known])
    drawn.add_vline(0, line_color=NEUTRAL, line_width=1)
    drawn.update_xaxes(title="log odds", hoverformat="+.3f")
    return drawn


def unusual_figure(inputs: Iterable[Input]) -> go.Figure:
    shares = [
        (f"{each.name}: {kind}", before or 0.0, now)
        for each in inputs
        for kind, (now, before) in _unusual(each).items()
        if now is not None
    ]
    moved = sorted((each for each in shares if each[1] or each[2]), key=lambda each: -abs(each[2] - each[1]))[:SHOWN]
    if not moved:
        return figures.said("No input lacks values, or has values that the model does not know")
    names, before, now = zip(*moved, strict=True)
    return figures.side_by_side(names, [("training rows", NEUTRAL, before), ("now", BLUE, now)])


def distribution_figure(each: Input) -> go.Figure:
    bins = each.bins
    reference = "validation rows" if each.moved.name == SCORE else "training rows"
    return figures.side_by_side(
        [one.text for one in bins],
        [(reference, NEUTRAL, [one.before for one in bins]), ("now", BLUE, [one.now for one in bins])],
    )


def trend_figure(choice: Choice, version: ModelVersion, found: Drift) -> go.Figure:
    window = choice.window
    reports = report.over_time(version, window.starts, window.step)
    if not any(reports):
        return figures.said("Drift was not measured in this window")
    names = [each.name for each in found.inputs[:LINES]]
    series = [("score", SERIES[0], [each.score if each else None for each in reports])]
    series += [
        (name, colour, [each.features.get(name) if each else None for each in reports])
        for name, colour in zip(names, SERIES[1:], strict=False)
    ]
    drawn = figures.lines(window, series, "index")
    drawn.update_traces(connectgaps=True)
    for edge in EDGES:
        drawn.add_hline(edge, line_dash="dot", line_color=NEUTRAL, line_width=1)
    drawn.update_yaxes(hoverformat=".3f")
    return drawn


def _clock(found: Drift) -> str:
    if not found.clock:
        return ""
    return f" Not counted as drift, as the traffic spans less than a week: {', '.join(sorted(found.clock))}."


# --- the table ------------------------------------------------------------------------------------------------------


def input_rows(choice: Choice, found: Drift) -> html.Table:
    titles = [
        "Input",
        "Stability index",
        "Missing",
        "Unknown to the model",
        "Moved the score, log odds",
        "95 % interval",
    ]
    cells = []
    for each in found.inputs:
        address = f"{reverse('dashboard_drift')}?{choice.query(input=each.name)}"
        unknown = _share(each.moved.unseen_before, each.moved.unseen)
        newest = f", such as {each.moved.newest}" if each.moved.newest else ""
        cells.append(
            (
                html.A(each.name, href=address, target="_top"),
                html.Span(f"{psi(each.moved.psi)} {each.level}", style={"color": colour_of(each.moved.psi)}),
                _share(each.moved.missing_before, each.moved.missing) or "never",
                f"{unknown}{newest}" if unknown else "",
                _effect(each.added, found.shift) if each.added else NOTHING,
                _interval(each.added) if each.added else NOTHING,
            )
        )
    return rows(titles, cells)


def _share(before: float | None, now: float | None) -> str:
    return "" if now is None else f"{before or 0.0:.1%} → {now:.1%}"


def _input_lines(found: Drift) -> Iterator[list[Any]]:
    yield ["input", "psi", "missing_before", "missing", "unseen", "moved_score_by", "moved_low", "moved_high", "share"]
    total = found.shift.total.value if found.shift else 0.0
    for each in [*found.inputs, found.score]:
        moved, added = each.moved, each.added
        parts = [added.value, added.low, added.high, added.value / total if total else None] if added else [None] * 4
        yield [defused(each.name), moved.psi, moved.missing_before, moved.missing, moved.unseen, *parts]


def _bin_lines(inputs: Iterable[Input]) -> Iterator[list[Any]]:
    yield ["input", "bin", "share_of_training_rows", "share_now"]
    for each in inputs:
        for one in each.bins:
            yield [defused(each.name), defused(one.text), one.before, one.now]


PAGE = Page(
    "drift",
    "Drift",
    "What moved since the training, and what that did to the score",
    "monitoring.view_driftreport",
    PANELS,
    read,
    uses=("version",),
    no_version="champion",
    first="24h",
    asks=asks,
    reads_rollups=False,
    every_s=int(settings.DRIFT_INTERVAL_S),
)
