"""The live dashboard: a Dash application inside the admin. It only reads."""

import inspect
import sys
from datetime import datetime, timedelta
from math import log10
from typing import Any

import plotly.graph_objects as go
from dash import dcc, html
from dash.dependencies import Input, Output
from django.conf import settings
from django.templatetags.static import static
from django.urls import reverse
from django.utils import timezone
from django_plotly_dash import DjangoDash

from monitoring import selectors
from monitoring.drift.psi import PopulationStabilityIndex
from monitoring.models import SCORE_BINS
from monitoring.selectors import Traffic
from scoring.models import Decision, Prediction
from scoring.pages.display import money
from training import registry
from training.core.figures import at, score
from training.core.figures import milliseconds as tenths
from training.models import ModelVersion

NAME = "monitoring"
# The length and the step of each window. A plot has at most about a hundred steps, to keep refreshes small.
WINDOWS = {
    "15 min": (timedelta(minutes=15), timedelta(minutes=1)),
    "1 h": (timedelta(hours=1), timedelta(minutes=1)),
    "6 h": (timedelta(hours=6), timedelta(minutes=5)),
    "24 h": (timedelta(days=1), timedelta(minutes=15)),
    "7 d": (timedelta(days=7), timedelta(hours=2)),
}
REFRESH_S = {"1 s": 1, "2 s": 2, "5 s": 5, "30 s": 30, "Paused": 0}
COLOURS = {
    Decision.APPROVE: "#2e7d5b",
    Decision.CHALLENGE: "#3f78b5",
    Decision.REVIEW: "#d98a00",
    Decision.BLOCK: "#c4362b",
}
NEUTRAL, ACCENT = "#7d8590", "#2f74d0"
FEATURES_SHOWN = 10
REFUSALS_SHOWN = 4
NOTHING = "–"
HOVER_TIME = "%Y-%m-%d %H:%M UTC"


def layout() -> html.Div:
    def panel(title: str, *children: Any, wide: bool = False) -> html.Section:
        return html.Section([html.H2(title), *children], className="panel wide" if wide else "panel")

    def choice(name: str, label: str, options: list[str], value: str) -> html.Div:
        radio = dcc.RadioItems(options, value, id=name, inline=True, className="choice")
        # Hide a control with a single option.
        style = {"display": "none"} if len(options) == 1 else {}
        return html.Div([html.Span(label), radio], className="control", style=style)

    def graph(name: str, height: str = "210px") -> dcc.Graph:
        return dcc.Graph(id=name, config={"displayModeBar": False}, style={"height": height})

    live = [version.schema for version in registry.champions()] or [settings.DEFAULT_SCHEMA]
    first = settings.DEFAULT_SCHEMA if settings.DEFAULT_SCHEMA in live else live[0]
    return html.Div(
        [
            dcc.Interval(id="tick", interval=2000),
            html.Header(
                [
                    choice("schema", "Schema", live, first),
                    choice("window", "Window", list(WINDOWS), "15 min"),
                    choice("refresh", "Refresh", list(REFRESH_S), "2 s"),
                    html.Div(id="updated", className="updated"),
                ]
            ),
            html.Div(id="empty"),
            html.Div(id="tiles", className="tiles"),
            html.Main(
                [
                    panel("Transactions", graph("traffic"), wide=True),
                    panel("Scores, counted on a log scale", graph("scores")),
                    panel("Latency, arrival to commit", graph("latency", "246px"), wide=True),
                    panel("Drift against the training data", html.Div(id="drift-note"), graph("drift")),
                    panel("Latest alerts", html.Div(id="alerts", className="rows"), wide=True),
                    panel("Live feed", html.Div(id="feed", className="rows")),
                ]
            ),
        ],
        className="dashboard",
    )


def _made() -> DjangoDash:
    """The application. To find the module that makes it, it has `inspect` look for the sources of the whole stack, half
    a second of work at the start of each process. Here it is told the module."""
    whole, inspect.stack = inspect.stack, lambda: [None, (sys.modules[__name__],)]  # type: ignore
    try:
        return DjangoDash(NAME, external_stylesheets=[static("monitoring/dashboard.css")])
    finally:
        inspect.stack = whole


app = _made()
app.layout = layout


@app.callback([Output("tick", "interval"), Output("tick", "disabled")], [Input("refresh", "value")])
def set_pace(refresh: str, **_: Any) -> tuple[int, bool]:
    seconds = next((seconds for name, seconds in REFRESH_S.items() if name == refresh), 2)
    return max(seconds, 1) * 1000, seconds == 0


@app.callback(
    [Output(name, "children") for name in ("updated", "empty", "tiles", "drift-note", "alerts", "feed")]
    + [Output(name, "figure") for name in ("traffic", "scores", "latency", "drift")],
    [Input("tick", "n_intervals"), Input("window", "value"), Input("schema", "value")],
)
def refresh(_tick: int | None, window: str, schema: str, **_: Any) -> list[Any]:
    now = timezone.now()
    # Not WINDOWS.get: a request may send anything, also values that cannot be dictionary keys.
    length, step = next((found for name, found in WINDOWS.items() if name == window), WINDOWS["15 min"])
    schema = schema if schema in settings.SCHEMAS else settings.DEFAULT_SCHEMA
    champion = registry.champion_or_none(schema)
    traffic = selectors.traffic(length, schema=schema, now=now, step=step)
    feed = selectors.latest_predictions(schema)
    note, drift = drift_panel(schema, champion)
    return [
        f"Updated {at(now)}",
        None if feed else empty_state(schema),
        tiles(traffic, schema, champion, now),
        note,
        alert_rows(selectors.latest_alerts(schema)),
        feed_rows(feed),
        traffic_figure(traffic, now),
        score_figure(traffic, champion),
        latency_figure(traffic, now),
        drift,
    ]


def tiles(traffic: Traffic, schema: str, champion: ModelVersion | None, now: datetime) -> list[html.Div]:
    outcomes = selectors.review_outcomes(traffic.window, schema=schema, now=now)
    reviewed = outcomes["fraud"] + outcomes["legitimate"]
    seconds = min(traffic.window.total_seconds(), (now - traffic.minutes[0]).total_seconds()) if traffic.minutes else 0
    shown = [
        (
            "Transactions",
            f"{traffic.transactions:,}",
            f"{traffic.transactions / seconds:.1f} per second" if seconds else "none in this window",
        ),
        ("Alerts", f"{traffic.alerts:,}", f"{sum(traffic.blocked):,} blocked, {sum(traffic.reviewed):,} to review"),
        (
            "Alert rate",
            f"{traffic.alerts / traffic.transactions:.2%}" if traffic.transactions else NOTHING,
            "alerts among transactions",
        ),
        (
            "Alert precision",
            f"{outcomes['fraud'] / reviewed:.0%}" if reviewed else NOTHING,
            f"{outcomes['fraud']:,} of {reviewed:,} reviewed confirmed"
            if reviewed
            else "no review closed in this window",
        ),
        ("Open reviews", counted(outcomes["open"]), "now, of any age"),
        ("Latency, average", milliseconds(traffic.mean_ms), "arrival to commit"),
        ("Latency, p95", milliseconds(traffic.p95_ms), "19 of 20 are faster"),
        (
            "Model",
            champion.stage.capitalize() if champion else "None",
            champion.version if champion else "run manage.py train",
        ),
    ]
    tiles = [tile(title, value, detail) for title, value, detail in shown]
    return [*tiles, refused_tile(traffic.window, now), *unscored_tiles(traffic.window, schema, now)]


def tile(title: str, value: str, detail: str, *, calm: bool = False) -> html.Div:
    parts = [html.Span(title), html.Strong(value), html.Small(detail)]
    return html.Div(parts, className="tile calm" if calm else "tile")


def refused_tile(window: timedelta, now: datetime) -> html.Div:
    """Calls that got no decision, of all schemas: the schema of a refused call may be unknown."""
    refused = selectors.refusals(window, now=now)
    kinds = [f"{calls:,} × {status} {kind.lower()}" for (status, kind), calls in refused.items()]
    more = [f"{len(kinds) - REFUSALS_SHOWN} other kinds"] if len(kinds) > REFUSALS_SHOWN else []
    detail = f"of all schemas{': ' * bool(kinds)}{', '.join([*kinds[:REFUSALS_SHOWN], *more])}"
    return tile("Refused calls", f"{sum(refused.values()):,}", detail, calm=not refused)


def unscored_tiles(window: timedelta, schema: str, now: datetime) -> list[html.Div]:
    """The fallbacks in the window, and all transactions that wait for their score now."""
    fallbacks, rows = selectors.fallbacks(window, schema=schema, now=now), selectors.unscored(schema)
    waiting = f"now; {rows.set_aside:,} set aside"
    return [
        tile("Without a score", counted(fallbacks), "answered by rules", calm=not fallbacks),
        tile("Waiting for a score", counted(rows.waiting), waiting, calm=not (rows.waiting or rows.set_aside)),
    ]


def counted(rows: int) -> str:
    """A count of rows, which ends at `COUNT_LIMIT`."""
    return f"{rows:,}{'+' * (rows >= selectors.COUNT_LIMIT)}"


def milliseconds(value: float | None) -> str:
    return NOTHING if value is None else f"{tenths(value)} ms"


def empty_state(schema: str) -> html.Div:
    command = (
        "curl http://127.0.0.1:8000/predict -H 'Authorization: Bearer <key>' "
        "-H 'Content-Type: application/json' -d @transaction.json"
    )
    return html.Div(
        [
            html.H2("No transaction has been scored yet"),
            html.P("Post one, or let the simulator post rows that the model was not trained on:"),
            html.Pre(f"{command}\npython manage.py simulate --schema {schema} --api-key <key>"),
            html.P(
                html.A("Make a key among the clients", href=reverse("admin:scoring_client_changelist"), target="_top")
            ),
        ],
        className="empty",
    )


def alert_rows(alerts: list[Prediction]) -> html.Table | html.P:
    if not alerts:
        return html.P("No alert so far.", className="quiet")
    rows = [
        html.Tr(
            [
                html.Td(_link(prediction)),
                html.Td(score(prediction.fraud_score)),
                html.Td(_badge(prediction)),
                html.Td(money(prediction.transaction)),
                html.Td(", ".join(reason["feature"] for reason in prediction.reasons) or NOTHING),
                html.Td(prediction.review.get_state_display()),
            ]
        )
        for prediction in alerts
    ]
    return _table(["Time, UTC", "Score", "Decision", "Amount", "Reasons", "Review"], rows)


def feed_rows(predictions: list[Prediction]) -> html.Table | html.P:
    if not predictions:
        return html.P("Waiting for the first transaction.", className="quiet")
    rows = [
        html.Tr(
            [
                html.Td(_link(prediction)),
                html.Td(money(prediction.transaction)),
                html.Td(score(prediction.fraud_score)),
                html.Td(_badge(prediction)),
            ]
        )
        for prediction in predictions
    ]
    return _table(["Time, UTC", "Amount", "Score", "Decision"], rows)


def drift_panel(schema: str, champion: ModelVersion | None) -> tuple[Any, go.Figure]:
    report = selectors.latest_drift(schema)
    if report is None:
        have = selectors.samples_so_far(champion, settings.DRIFT_MIN_SAMPLES) if champion else 0
        note = f"Drift needs {settings.DRIFT_MIN_SAMPLES:,} scored transactions; there are {have:,} so far."
        return html.P(note, className="quiet"), _figure(xaxis_visible=False, yaxis_visible=False)
    strongest = sorted(report.features.items(), key=lambda item: item[1])[-FEATURES_SHOWN:]
    names, values = [*[name for name, _ in strongest], "score"], [*[value for _, value in strongest], report.score]
    figure = _figure(
        go.Bar(x=values, y=names, orientation="h", marker_color=[_drift_colour(value) for value in values]),
        xaxis_title="population stability index",
    )
    for edge in (PopulationStabilityIndex.MODERATE, PopulationStabilityIndex.STRONG):
        figure.add_vline(edge, line_dash="dot", line_color=NEUTRAL, line_width=1)
    figure.update_xaxes(hoverformat=".3f")
    figure.update_yaxes(tickfont_size=10, nticks=len(names))
    note = (
        f"{report.get_status_display()}: the latest {report.samples:,} transactions, "
        f"up to {at(report.window_end)}. "
        f"Below {PopulationStabilityIndex.MODERATE} is stable, above {PopulationStabilityIndex.STRONG} strong."
    )
    return html.P(note, className=f"quiet drift-{report.status}"), figure


def traffic_figure(traffic: Traffic, now: datetime) -> go.Figure:
    series = [
        (Decision.APPROVE, traffic.approved),
        *([(Decision.CHALLENGE, traffic.challenged)] if any(traffic.challenged) else []),
        (Decision.REVIEW, traffic.reviewed),
        (Decision.BLOCK, traffic.blocked),
    ]
    middles = [minute + traffic.step / 2 for minute in traffic.minutes]
    width_ms = 0.85 * traffic.step.total_seconds() * 1000
    bars = [
        go.Bar(x=middles, y=counts, width=width_ms, name=decision.label, marker_color=COLOURS[decision])
        for decision, counts in series
    ]
    minutes = traffic.step // selectors.MINUTE
    figure = _figure(*bars, barmode="stack", yaxis_title="per minute" if minutes == 1 else f"per {minutes} min")
    figure.update_xaxes(range=[now - traffic.window, now], hoverformat=HOVER_TIME, title="UTC")
    return figure


def score_figure(traffic: Traffic, champion: ModelVersion | None) -> go.Figure:
    middles = [(i + 0.5) / SCORE_BINS for i in range(SCORE_BINS)]
    bar = go.Bar(x=middles, y=traffic.score_histogram, width=0.9 / SCORE_BINS, marker_color=ACCENT, showlegend=False)
    figure = _figure(bar, xaxis_title="score")
    # The axis begins below 1: otherwise a single transaction has no height on a log scale.
    figure.update_yaxes(type="log", dtick=1, range=[-0.4, log10(max(10, *traffic.score_histogram)) + 0.2])
    figure.update_xaxes(range=[0, 1], hoverformat=".3f")
    if champion:
        thresholds = {Decision.REVIEW: champion.review_threshold, Decision.BLOCK: champion.block_threshold}
        for decision, threshold in thresholds.items():
            if threshold is not None:
                colour = COLOURS[decision]
                words = {"text": decision, "font_color": colour, "yref": "paper", "y": 1.12, "showarrow": False}
                figure.add_vline(threshold, line_dash="dot", line_color=colour, annotation=words)
    return figure


def latency_figure(traffic: Traffic, now: datetime) -> go.Figure:
    lines = [
        go.Scatter(x=traffic.minutes, y=values, name=name, mode="lines+markers", marker_size=4, line_color=colour)
        for name, values, colour in (
            ("average", traffic.latency_mean_ms, ACCENT),
            ("p95", traffic.latency_p95_ms, COLOURS[Decision.REVIEW]),
        )
    ]
    figure = _figure(*lines, yaxis_title="ms")
    figure.update_xaxes(range=[now - traffic.window, now], hoverformat=HOVER_TIME, title="UTC")
    figure.update_yaxes(rangemode="tozero", hoverformat=".1f")
    return figure


def _figure(*traces: Any, **layout: Any) -> go.Figure:
    figure = go.Figure(traces)
    figure.update_layout(
        template="none",  # Plotly's own template is most of a figure's bytes, and draws light edges around bars
        margin={"l": 48, "r": 12, "t": 24, "b": 36},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": NEUTRAL, "size": 11},
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 1, "xanchor": "right"},
        uirevision="keep",  # a refresh must not undo the reader's zoom
        **layout,
    )
    grid = {"gridcolor": "rgba(125,133,144,0.2)", "zeroline": False}
    figure.update_xaxes(**grid)
    figure.update_yaxes(**grid)
    return figure


def _drift_colour(value: float) -> str:
    if value >= PopulationStabilityIndex.STRONG:
        return COLOURS[Decision.BLOCK]
    return COLOURS[Decision.REVIEW if value >= PopulationStabilityIndex.MODERATE else Decision.APPROVE]


def _table(titles: list[str], rows: list[html.Tr]) -> html.Table:
    return html.Table([html.Thead(html.Tr([html.Th(title) for title in titles])), html.Tbody(rows)])


def _badge(prediction: Prediction) -> html.Span:
    return html.Span(prediction.decision, className=f"badge {prediction.decision}")


def _link(prediction: Prediction) -> html.A:
    page = "review" if prediction.is_alert else "prediction"
    address = reverse(f"admin:scoring_{page}_change", args=[prediction.pk])
    return html.A(f"{prediction.created_at:%Y-%m-%d %H:%M:%S}", href=address, target="_top")
