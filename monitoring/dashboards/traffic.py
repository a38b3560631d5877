"""The page *Traffic*: what comes, how it is decided, how fast, what is refused, and who works on it."""

from datetime import datetime
from math import log10
from typing import Any

import plotly.graph_objects as go
import redis
from dash import html
from django.conf import settings
from django.urls import reverse

from monitoring import selectors
from monitoring.dashboards import figures
from monitoring.dashboards.choices import Choice
from monitoring.dashboards.drift import indices_figure
from monitoring.dashboards.figures import BLUE, COLOURS, ORANGE, SERIES, VERMILLION
from monitoring.dashboards.frame import Page, Panel, Shown, Tile, rows
from monitoring.drift.clock import of_the_clock
from monitoring.drift.psi import PopulationStabilityIndex
from monitoring.rollups import reading
from monitoring.rollups.histograms import SCORE_BINS, STAGES
from monitoring.rollups.reading import Traffic
from scoring import served
from scoring.models import Decision, Prediction
from scoring.pages.display import amount_of, money
from scoring.worker import workers
from training import registry
from training.core.figures import milliseconds as tenths
from training.core.figures import score
from training.models import ModelVersion

FEATURES_SHOWN = 10
KINDS_SHOWN = 5
NOTHING = "–"

PANELS = (
    Panel("traffic", "Transactions by decision", "Does as much come as usual, and is as much of it stopped?", span=2),
    Panel("scores", "Scores, counted on a log scale", "How many scores lie near the thresholds?"),
    Panel("shares", "Share of each decision but approval", "Did a rule, a list or a model change what is stopped?"),
    Panel("money", "Money by decision", "How much money is held back?"),
    Panel(
        "refused", "Without a score, and refused", "Do clients get no answer? 503: workers; 429: limits; 4xx: clients."
    ),
    Panel("latency", "Latency, arrival to commit", "Do answers come in time?", span=2),
    Panel("stages", "Latency p95 by stage", "Where does the time go: waiting, features, or the model?"),
    Panel("alerts", "Latest alerts", span=2, is_table=True),
    Panel("feed", "Live feed", is_table=True),
    Panel("drift", "Drift against the training data", "Does traffic look like what the model was trained on?"),
    Panel("workers", "Workers", "Does each hold the champion and the live policy?", span=2, is_table=True),
)


def read(choice: Choice) -> Shown:
    """The page of a choice."""
    window = choice.window
    traffic = reading.traffic(window, schema=choice.schema, client=choice.client, version=choice.version)
    champion = registry.champion_or_none(choice.schema)
    narrowed = choice.client is not None or choice.version is not None
    feed = [] if narrowed else selectors.latest_predictions(choice.schema)
    is_new = not (feed or narrowed or traffic.transactions or traffic.fallbacks)
    refused = reading.refusals(window, client=choice.client)
    note, drift = drift_panel(choice.schema, champion)
    seen = {
        "traffic": traffic_figure(traffic),
        "scores": score_figure(traffic, champion),
        "shares": shares_figure(traffic),
        "money": money_figure(traffic),
        "refused": refused_figure(traffic, refused),
        "latency": latency_figure(traffic),
        "stages": stages_figure(traffic),
    }
    if not traffic.transactions:
        seen = {"refused": seen["refused"]}
    only_all = html.P("Shown for all clients and versions together.", className="quiet")
    return Shown(
        tiles=tiles(traffic, choice, champion, refused),
        figures=seen | {"drift": drift},
        tables={
            "alerts": only_all if narrowed else alert_rows(selectors.latest_alerts(choice.schema)),
            "feed": only_all if narrowed else feed_rows(feed),
            "workers": worker_rows(choice.schema, champion),
        },
        notes={
            "drift": note,
            "refused": f"Refused calls are of all schemas{', with keys of this client' * bool(choice.client)}.",
        },
        empty=empty_state(choice.schema) if is_new else None,
    )


def tiles(
    traffic: Traffic, choice: Choice, champion: ModelVersion | None, refused: dict[tuple[int, str], Any]
) -> list[Tile]:
    alerts, number = int(traffic.alerts.sum()), traffic.transactions
    blocked, to_review = (int(traffic.counts[kind].sum()) for kind in (Decision.BLOCK, Decision.REVIEW))
    seconds = seconds_of(traffic, choice.now)
    fallbacks = int(sum(found.sum() for found in traffic.fallbacks.values()))
    unscored, open_reviews = selectors.unscored(choice.schema), selectors.open_reviews(choice.schema)
    calls = {kind: int(counts.sum()) for kind, counts in refused.items()}
    kinds = [f"{count:,} × {status} {kind.lower()}" for (status, kind), count in calls.items()]
    more = [f"{len(kinds) - KINDS_SHOWN} other kinds"] if len(kinds) > KINDS_SHOWN else []
    amounts = {decision: float(found.sum()) for decision, found in traffic.amounts.items()}
    a_second = number / seconds if seconds else 0.0
    rate = f"{a_second:.1f} per second" if a_second >= 1 else f"{60 * a_second:.1f} per minute"
    return [
        Tile("Transactions", f"{number:,}", rate if number else "none in this window"),
        Tile("Alerts", f"{alerts:,}", f"{blocked:,} blocked, {to_review:,} to review"),
        Tile("Alert rate", f"{alerts / number:.2%}" if number else NOTHING, "alerts among transactions"),
        Tile(
            "Money",
            amount_of(choice.schema, sum(amounts.values())),
            f"{amount_of(choice.schema, amounts[Decision.BLOCK])} of it blocked",
        ),
        Tile("Open reviews", counted(open_reviews), "now, of any age"),
        Tile("Latency, median", milliseconds(traffic.quantile_ms(0.5)), "arrival to commit"),
        Tile("Latency, p95", milliseconds(traffic.quantile_ms(0.95)), "19 of 20 are faster"),
        Tile(
            "Model",
            champion.stage.capitalize() if champion else "None",
            champion.version if champion else "run manage.py train",
        ),
        queue_tile(),
        Tile(
            "Refused calls",
            f"{sum(calls.values()):,}",
            f"of all schemas{': ' * bool(kinds)}{', '.join([*kinds[:KINDS_SHOWN], *more])}",
            calm=not calls,
        ),
        Tile("Without a score", f"{fallbacks:,}", "answered by rules", calm=not fallbacks),
        Tile(
            "Waiting for a score",
            counted(unscored.waiting),
            f"now; {unscored.set_aside:,} set aside",
            calm=not (unscored.waiting or unscored.set_aside),
        ),
    ]


def seconds_of(traffic: Traffic, now: datetime) -> float:
    """For how long there has been traffic within the window."""
    window = traffic.window
    first = next((start for start, number in zip(window.starts, traffic.scored, strict=True) if number), now)
    return (min(now, window.end) - max(first, window.start)).total_seconds()


def queue_tile() -> Tile:
    """How many messages wait for workers now."""
    try:
        depths = workers.waiting()
    except redis.RedisError:
        return Tile("Queue", NOTHING, "Redis does not answer")
    others = ", ".join(f"{depths[name]:,} {name}" for name in (settings.BULK_QUEUE, settings.TRAINING_QUEUE))
    waiting = depths[settings.REALTIME_QUEUE]
    return Tile("Queue", f"{waiting:,}", f"messages of calls that wait now; {others}", calm=not waiting)


def counted(number: int) -> str:
    """A count of rows, which ends at `COUNT_LIMIT`."""
    return f"{number:,}{'+' * (number >= selectors.COUNT_LIMIT)}"


def milliseconds(value: float | None) -> str:
    return NOTHING if value is None else f"{tenths(value)} ms"


def empty_state(schema: str) -> html.Div:
    command = (
        "curl http://127.0.0.1:8000/api/v1/predict -H 'Authorization: Bearer <key>' "
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


# --- plots ----------------------------------------------------------------------------------------------------------


def shown_decisions(traffic: Traffic) -> list[Decision]:
    """All decisions, challenges only if there are any."""
    return [each for each in Decision if each != Decision.CHALLENGE or traffic.counts[each].any()]


def traffic_figure(traffic: Traffic) -> go.Figure:
    series = [(each.label, COLOURS[each], traffic.counts[each].tolist()) for each in shown_decisions(traffic)]
    return figures.stacked(traffic.window, series, figures.per(traffic.window.step))


def shares_figure(traffic: Traffic) -> go.Figure:
    whole = traffic.scored
    series = [
        (each.label, COLOURS[each], [part / all_ if all_ else None for part, all_ in zip(traffic.counts[each], whole)])  # noqa: B905
        for each in shown_decisions(traffic)
        if each != Decision.APPROVE
    ]
    figure = figures.lines(traffic.window, series, "")
    figure.update_yaxes(tickformat=".1%")
    return figure


def money_figure(traffic: Traffic) -> go.Figure:
    series = [(each.label, COLOURS[each], traffic.amounts[each].tolist()) for each in shown_decisions(traffic)]
    return figures.stacked(traffic.window, series, figures.per(traffic.window.step))


def refused_figure(traffic: Traffic, refused: dict[tuple[int, str], Any]) -> go.Figure:
    kinds = [(f"{status} {kind}", counts) for (status, kind), counts in refused.items()]
    series = [(f"by rules: {reason.replace('_', ' ')}", counts) for reason, counts in traffic.fallbacks.items()]
    named = [*series, *kinds[:KINDS_SHOWN]]
    if rest := kinds[KINDS_SHOWN:]:
        named.append(("other refusals", sum(counts for _, counts in rest)))
    if not named:
        return figures.said("Every call got a score")
    coloured = [(name, SERIES[number % len(SERIES)], counts.tolist()) for number, (name, counts) in enumerate(named)]
    return figures.stacked(traffic.window, coloured, figures.per(traffic.window.step))


def score_figure(traffic: Traffic, champion: ModelVersion | None) -> go.Figure:
    middles = [(i + 0.5) / SCORE_BINS for i in range(SCORE_BINS)]
    counts = traffic.scores.sum(axis=0).tolist()
    bar = go.Bar(x=middles, y=counts, width=0.9 / SCORE_BINS, marker_color=BLUE, showlegend=False, name="transactions")
    figure = figures.figure(bar, xaxis_title="score")
    # The axis begins below 1: otherwise a single transaction has no height on a log scale.
    figure.update_yaxes(type="log", dtick=1, range=[-0.4, log10(max(10, *counts)) + 0.2])
    figure.update_xaxes(range=[0, 1], hoverformat=".3f")
    if champion:
        thresholds = {Decision.REVIEW: champion.review_threshold, Decision.BLOCK: champion.block_threshold}
        for decision, threshold in thresholds.items():
            if threshold is not None:
                colour = COLOURS[decision]
                words = {"text": decision, "font_color": colour, "yref": "paper", "y": 1.12, "showarrow": False}
                # On the side where there is room for the word.
                words["xanchor"] = "left" if threshold < 0.5 else "right"
                figure.add_vline(threshold, line_dash="dot", line_color=colour, annotation=words)
    return figure


def latency_figure(traffic: Traffic) -> go.Figure:
    quantiles = (("median", 0.5, BLUE), ("p95", 0.95, ORANGE), ("p99", 0.99, VERMILLION))
    series = [(name, colour, traffic.quantiles_ms(q)) for name, q, colour in quantiles]
    figure = figures.lines(traffic.window, series, "ms")
    figure.update_yaxes(hoverformat=".1f")
    return figure


def stages_figure(traffic: Traffic) -> go.Figure:
    series = [(stage, colour, traffic.quantiles_ms(0.95, stage)) for stage, colour in zip(STAGES, SERIES, strict=False)]
    figure = figures.lines(traffic.window, series, "ms")
    figure.update_yaxes(hoverformat=".1f")
    return figure


def drift_panel(schema: str, champion: ModelVersion | None) -> tuple[str, go.Figure]:
    report = selectors.latest_drift(schema)
    if report is None:
        have = selectors.samples_so_far(champion, settings.DRIFT_MIN_SAMPLES) if champion else 0
        return (
            f"Drift needs {settings.DRIFT_MIN_SAMPLES:,} scored transactions; there are {have:,} so far.",
            figures.said("Not measured yet"),
        )
    clock = of_the_clock(served.now().schemas.get(schema), report)
    drifting = [item for item in report.features.items() if item[0] not in clock]
    strongest = sorted(drifting, key=lambda item: -item[1])[:FEATURES_SHOWN]
    names, values = ["score", *(name for name, _ in strongest)], [report.score, *(value for _, value in strongest)]
    note = (
        f"{report.get_status_display()}: the latest {report.samples:,} transactions, "
        f"up to {report.window_end:%Y-%m-%d %H:%M} UTC. "
        f"Below {PopulationStabilityIndex.MODERATE} is stable, above {PopulationStabilityIndex.STRONG} strong."
    )
    return note, indices_figure(names, values)


# --- tables ---------------------------------------------------------------------------------------------------------


def alert_rows(alerts: list[Prediction]) -> html.Table | html.P:
    if not alerts:
        return html.P("No alert so far.", className="quiet")
    cells = [
        (
            _link(each),
            score(each.fraud_score),
            _badge(each),
            money(each.transaction),
            ", ".join(reason["feature"] for reason in each.reasons) or NOTHING,
            each.review.get_state_display(),
        )
        for each in alerts
    ]
    return rows(["Time, UTC", "Score", "Decision", "Amount", "Reasons", "Review"], cells)


def feed_rows(predictions: list[Prediction]) -> html.Table | html.P:
    if not predictions:
        return html.P("Waiting for the first transaction.", className="quiet")
    cells = [(_link(each), money(each.transaction), score(each.fraud_score), _badge(each)) for each in predictions]
    return rows(["Time, UTC", "Amount", "Score", "Decision"], cells)


def worker_rows(schema: str, champion: ModelVersion | None) -> html.Table | html.P | html.Div:
    """The processes that score a schema, and what each holds."""
    try:
        known = [each for each in workers.known() if schema in each.versions or schema in each.refused]
    except redis.RedisError:
        return html.P("Redis does not answer, so nothing is known of the workers.", className="quiet")
    if not known:
        return html.P("No worker has this schema's model loaded: calls get no score.", className="quiet")
    cells = []
    for each in known:
        version, refused = each.versions.get(schema, NOTHING), each.refused.get(schema)
        state = "current" if champion and version == champion.pk else "not the champion"
        policy = each.policies.get(schema)
        cells.append((each.worker, version, str(policy or "thresholds alone"), refused.fault if refused else state))
    table = rows(["Process", "Model", "Policy", "State"], cells)
    if any(each.scores_at_once for each in known):
        return table
    return html.Div(
        [html.P("No realtime worker has this schema's model loaded: calls get no score.", className="quiet"), table]
    )


def _badge(prediction: Prediction) -> html.Span:
    return html.Span(prediction.decision, className=f"badge {prediction.decision}")


def _link(prediction: Prediction) -> html.A:
    page = "review" if prediction.is_alert else "prediction"
    address = reverse(f"admin:scoring_{page}_change", args=[prediction.pk])
    return html.A(f"{prediction.created_at:%Y-%m-%d %H:%M:%S}", href=address, target="_top")


PAGE = Page("traffic", "Traffic", "What comes, how it is decided and how fast", "", PANELS, read)
