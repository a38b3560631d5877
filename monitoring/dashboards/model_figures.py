"""The plots of the page *Model*: outcomes by period and by version, calibration, and estimates without labels."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from math import log

import plotly.graph_objects as go

from monitoring.dashboards import figures
from monitoring.dashboards.figures import BLUE, DASHES, GREEN, NEUTRAL, PURPLE, SERIES, VERMILLION
from monitoring.label_free.record import Held, Interval
from monitoring.matured import delays
from monitoring.matured.estimates import Money
from monitoring.matured.ranking import Group
from monitoring.matured.report import Period, Ranks
from scoring.policies.backtesting import Share

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
# The axes of calibration, and of delays in hours.
CALIBRATION_MARKS = (0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
DELAY_MARKS = {1: "1 h", 6: "6 h", 24: "1 d", 168: "1 wk", 720: "30 d", 2_160: "90 d", 8_760: "1 yr"}
Told = Callable[[float], str]


def shares(
    what: str, periods: Sequence[Period], share_of: Callable[[Period], Share], expected: Mapping[date, Share]
) -> go.Figure | None:
    """A share by period with its intervals, of matured and of open periods apart, and what is `expected` of open ones
    without labels, by first day. None if nothing is known."""
    traces = []
    manners = ((True, "matured", "solid", "circle"), (False, "open", "dash", "circle-open"))
    for is_matured, name, dash, symbol in manners:
        known = [
            (period, share)
            for period in periods
            if period.is_matured == is_matured and (share := share_of(period)).value is not None
        ]
        if known:
            ends = [(share.value or 0.0, share.low, share.high) for _, share in known]
            traces.append(
                go.Scatter(
                    x=[middle(period) for period, _ in known],
                    y=[value for value, _, _ in ends],
                    name=name,
                    mode="lines+markers",
                    line={"color": BLUE, "dash": dash},
                    marker={"symbol": symbol, "size": 8},
                    error_y=figures.reaching(ends),
                    text=[f"{days_of(period)}: {told(share)}{_state(period)}" for period, share in known],
                    hovertemplate="%{text}<extra></extra>",
                )
            )
    traces += _expected([(period, expected.get(period.since, Share())) for period in periods])
    if not traces:
        return None
    drawn = over(figures.figure(*traces), periods)
    drawn.update_layout(legend_traceorder="normal")  # a band would turn it around
    drawn.update_yaxes(range=[0, 1.03], tickformat=".0%", title=what)
    return drawn


def _expected(shares: Sequence[tuple[Period, Share]]) -> list[go.Scatter]:
    """The estimate and the band of its interval."""
    known = [(period, share) for period, share in shares if share.value is not None]
    if not known:
        return []
    x = [middle(period) for period, _ in known]
    line = {"x": x, "mode": "lines", "line": {"color": PURPLE, "width": 0.5}, "showlegend": False, "hoverinfo": "skip"}
    return [
        go.Scatter(y=[share.low for _, share in known], name="expected low", **line),
        go.Scatter(
            y=[share.high for _, share in known],
            name="expected high",
            fill="tonexty",
            fillcolor="rgba(204,121,167,0.2)",
            **line,
        ),
        go.Scatter(
            x=x,
            y=[share.value for _, share in known],
            name="expected without labels",
            mode="lines+markers",
            line={"color": PURPLE, "dash": "dot"},
            marker={"symbol": "diamond", "size": 8},
            text=[f"{days_of(period)}: {told(share)}, expected without labels" for period, share in known],
            hovertemplate="%{text}<extra></extra>",
        ),
    ]


def money(periods: Sequence[Period], money_told: Told) -> go.Figure | None:
    """The money saved by period; bars of open periods are hatched. None if no outcome is known."""
    bars = []
    for is_matured, name, hatch in ((True, "matured", ""), (False, "open", "/")):
        known = [each for each in periods if each.is_matured == is_matured and each.figures.caught.known]
        saved = [each.figures.saved for each in known]
        reach = figures.reaching([(each.value, each.low, each.high) for each in saved])
        if known:
            bars.append(
                go.Bar(
                    x=[middle(each) for each in known],
                    y=[each.value for each in saved],
                    width=[0.8 * (end_of(each) - start_of(each)).total_seconds() * 1000 for each in known],
                    name=name,
                    marker={"color": GREEN, "pattern": {"shape": hatch, "fillmode": "replace", "size": 6}},
                    error_y=reach | {"color": NEUTRAL},
                    text=[
                        f"{days_of(each)}: {with_ends(each.figures.saved, money_told)}{_state(each)}" for each in known
                    ],
                    textposition="none",
                    hovertemplate="%{text}<extra></extra>",
                )
            )
    return over(figures.figure(*bars, barmode="overlay"), periods) if bars else None


def over(drawn: go.Figure, periods: Sequence[Period]) -> go.Figure:
    """A figure over the time of periods, with those that are open on a ground of their own."""
    first, last = start_of(periods[0]), end_of(periods[-1])
    drawn.update_xaxes(range=[first, last], type="date", hoverformat="%Y-%m-%d")
    still_open = next((start_of(each) for each in periods if not each.is_matured), None)
    if still_open:
        words = {"text": "still open", "font": {"color": NEUTRAL}, "showarrow": False}
        drawn.add_vrect(
            still_open, last, fillcolor=NEUTRAL, opacity=0.12, line_width=0, layer="below", annotation=words
        )
    return drawn


def delay_curves(counts: Sequence[tuple[str, dict[int, int]]]) -> go.Figure | None:
    """How much of each source's labels had come after how long."""
    if not counts:
        return None
    traces = []
    for number, (name, histogram) in enumerate(counts):
        points = [(edge / delays.HOUR, share) for edge, share in delays.curve(histogram)]
        traces.append(
            go.Scatter(
                x=[hours for hours, _ in points],
                y=[share for _, share in points],
                name=name,
                mode="lines",
                line={"color": SERIES[number % len(SERIES)], "dash": DASHES[number % len(DASHES)]},
            )
        )
    drawn = figures.figure(*traces)
    marks = {"tickvals": list(DELAY_MARKS), "ticktext": list(DELAY_MARKS.values())}
    drawn.update_xaxes(type="log", range=[-0.1, 4], title="after", hoverformat=".3g", **marks)
    drawn.update_yaxes(range=[0, 1.03], tickformat=".0%")
    return drawn


def by_version(what: str, known: Sequence[tuple[str, float | None, float | None, float | None]]) -> go.Figure | None:
    """A figure of each version with its interval; None without any."""
    shares = [(name, value, low, high) for name, value, low, high in known if value is not None]
    if not shares:
        return None
    return figures.with_intervals(what, shares)


def calibration(ranks: Sequence[Ranks]) -> go.Figure | None:
    """The share of fraud (vertical) by the mean score (horizontal), both in log odds, of each version. A hollow mark is
    off the line by more than chance explains."""
    traces = []
    for number, each in enumerate(ranks):
        groups = [(group, found) for group in each.ranked.groups if (found := Interval.of(group.share))]
        ends = [Interval(*map(log_odds, found)) for _, found in groups]
        if groups:
            symbol = SYMBOLS[number % len(SYMBOLS)]
            traces.append(
                go.Scatter(
                    x=[log_odds(group.score) for group, _ in groups],
                    y=[value for value, _, _ in ends],
                    name=each.version,
                    mode="markers",
                    marker={
                        "color": SERIES[number % len(SERIES)],
                        "symbol": [
                            symbol if found.low <= group.score <= found.high else f"{symbol}-open"
                            for group, found in groups
                        ],
                        "size": 9,
                    },
                    error_y=figures.reaching(ends),
                    text=[_group_told(group) for group, _ in groups],
                    hovertemplate="%{text}<extra></extra>",
                )
            )
    if not traces:
        return None
    places = [log_odds(mark) for mark in CALIBRATION_MARKS]
    marks = {"tickvals": places, "ticktext": [f"{100 * mark:g} %" for mark in CALIBRATION_MARKS]}
    drawn = _with_diagonal(figures.figure(*traces), places[0] - 0.5, places[-1] + 0.5)
    drawn.update_xaxes(title="mean score", **marks)
    drawn.update_yaxes(title="share of fraud", **marks)
    return drawn


def held(pairs: Sequence[Held]) -> go.Figure | None:
    """What was expected (horizontal), and what came true (vertical), of each matured period."""
    if not pairs:
        return None
    trace = go.Scatter(
        x=[each.expected.value for each in pairs],
        y=[each.truth.value for each in pairs],
        name="came true",
        mode="markers",
        showlegend=False,
        marker={
            "color": [BLUE if each.is_within else VERMILLION for each in pairs],
            "symbol": ["circle" if each.is_within else "x-open" for each in pairs],
            "size": 9,
        },
        error_x=figures.reaching([each.expected for each in pairs]) | {"color": NEUTRAL},
        error_y=figures.reaching([each.truth for each in pairs]) | {"color": NEUTRAL},
        text=[
            f"{days_of(each.period)}: expected {each.expected.value:.1%}, came true {each.truth.value:.1%}"
            for each in pairs
        ],
        hovertemplate="%{text}<extra></extra>",
    )
    ends = [end for each in pairs for end in (*each.expected, *each.truth)]
    drawn = _with_diagonal(figures.figure(trace), min(ends) - 0.02, max(ends) + 0.02)
    drawn.update_xaxes(title="expected", tickformat=".0%")
    drawn.update_yaxes(title="came true", tickformat=".0%")
    return drawn


def _with_diagonal(drawn: go.Figure, low: float, high: float) -> go.Figure:
    """A figure whose axes both have this range, with the line on which both are equal."""
    line = {"color": NEUTRAL, "dash": "dash", "width": 1}
    drawn.add_shape(type="line", x0=low, y0=low, x1=high, y1=high, line=line, layer="below")
    drawn.update_xaxes(range=[low, high])
    drawn.update_yaxes(range=[low, high])
    return drawn


def log_odds(share: float) -> float:
    """The log odds of a share, within the axes of calibration.

    >>> log_odds(0.5), log_odds(0.0) == log_odds(0.0001)
    (0.0, True)
    """
    within = min(max(share, CALIBRATION_MARKS[0]), CALIBRATION_MARKS[-1])
    return log(within / (1 - within))


# --- words ----------------------------------------------------------------------------------------------------------


def told(share: Share) -> str:
    """A share with its interval.

    >>> told(Share(0.5, 0.25, 0.75)), told(Share())
    ('50.0% (25.0% to 75.0%)', '–')
    """
    if share.value is None:
        return "–"
    return f"{share.value:.1%}" + (f" ({ends})" if (ends := ends_of(share)) else "")


def ends_of(share: Share) -> str:
    return "" if share.low is None or share.high is None else f"{share.low:.1%} to {share.high:.1%}"


def with_ends(of: Money, money_told: Told) -> str:
    return f"{money_told(of.value)} ({money_told(of.low)} to {money_told(of.high)})"


def _group_told(group: Group) -> str:
    return f"{group.rows:,.0f} decisions with a mean score of {group.score:.2%}: {told(group.share)} are fraud"


def _state(period: Period) -> str:
    return f", {period.figures.is_final:.0%} final" + ("" if period.is_matured else ", still open")


def days_of(period: Period) -> str:
    first, last = f"{period.since:%d %b %Y}", f"{period.until:%d %b %Y}"
    return first if first == last else f"{first} to {last}"


def start_of(period: Period) -> datetime:
    return datetime.combine(period.since, time(), UTC)


def end_of(period: Period) -> datetime:
    return datetime.combine(period.until, time(), UTC) + timedelta(days=1)


def middle(period: Period) -> datetime:
    return start_of(period) + (end_of(period) - start_of(period)) / 2
