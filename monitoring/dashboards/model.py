"""The page *Model*: how good decisions were, by the labels that have come, and what is expected where none have.

All but the comparison with challengers reads counts by the day, and no predictions.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Any, NamedTuple

import plotly.graph_objects as go
from dash import html
from django.conf import settings
from django.urls import reverse
from django.utils.timesince import timesince

from monitoring import shadow_comparison
from monitoring.dashboards import figures, model_figures, model_tables
from monitoring.dashboards.choices import Choice
from monitoring.dashboards.figures import NEUTRAL
from monitoring.dashboards.frame import Entry, Page, Panel, Shown, Tile
from monitoring.label_free import record
from monitoring.label_free.record import Foreseen, Record
from monitoring.matured import costs, delays, report, selectors
from monitoring.matured.estimates import Costs
from monitoring.matured.report import Figures, Ranks, Report
from monitoring.rollups.counting import ALL_CLIENTS
from monitoring.shadow_comparison import ShadowComparison
from scoring import served
from scoring.pages.display import amount_of
from scoring.reviews.models import LabelSource
from training.models import ModelVersion, Stage

# Calibration is drawn of so many versions, and so many challengers are compared.
DRAWN = 4
CHALLENGERS = 3
# As the page of what-if has it, if nobody says otherwise.
BLOCKED = 10.0
MOST, LONGEST_MATURITY = 1e12, 3_650.0
CENTS = 1_000.0
OF_ALL = "This is of all clients together: choose none to see it."
NO_LABELS = "No alert of these days has a known outcome yet"
NO_SAMPLE = (
    "Recall cannot be told: no analyst has judged a random sample of these days' approved traffic (SAMPLE_SHARE), so "
    "nobody knows how many frauds were never reported."
)

PANELS = (
    Panel("precision", "Precision of alerts", "Are alerts as often right as before?", span=2, height=260),
    Panel("calibration", "Calibration", "On the line, scores are probabilities.", height=260),
    Panel("recall", "Recall", "How much of the fraud is caught?", span=2, height=260),
    Panel("delays", "How long labels take", "From when on are figures complete?", height=260),
    Panel("money", "Money saved", "Is the model worth its reviews?", span=2, height=260),
    Panel("challengers", "Challengers against the decisions", "Would a challenger decide better?", height=260),
    Panel("version-precision", "Precision by version, with 95 % intervals"),
    Panel("version-recall", "Recall by version, with 95 % intervals"),
    Panel("version-money", "Money saved by version, with 95 % intervals"),
    Panel("auprc", "AUPRC by version, with 95 % intervals", "Which version's scores rank best?"),
    Panel("held-precision", "Precision: expected, and what came true", "How good are estimates without labels?"),
    Panel("held-recall", "Recall: expected, and what came true", "How good are estimates without labels?"),
    Panel("version", "By model version", span=3, is_table=True, has_numbers=True),
    Panel("ranking", "Ranking of scores", is_table=True),
    Panel("assumptions", "Expected without labels: what is assumed", span=2, is_table=True),
    Panel("policy", "By policy", span=3, is_table=True, has_numbers=True),
    Panel(report.RULE, "By rule", span=3, is_table=True, has_numbers=True),
    Panel(report.QUEUE, "By review queue", span=3, is_table=True, has_numbers=True),
    Panel("period", "By period", span=3, is_table=True, has_numbers=True),
)


class Asked(NamedTuple):
    """What the page was asked for: days, when they are matured, and what alerts cost."""

    window: selectors.Window
    maturity_days: float
    costs: Costs


def asked(choice: Choice) -> Asked:
    """What makes no sense is told, and its default taken."""
    maturity_days = _number(choice, "matured", settings.LABEL_MATURITY_DAYS, LONGEST_MATURITY)
    before = selectors.matured_before(choice.now, maturity_days)
    window = selectors.Window(choice.schema, *choice.days, before, choice.version or "", choice.client or ALL_CLIENTS)
    review = _number(choice, "review_cost", costs.of_review(choice.schema), MOST)
    return Asked(window, maturity_days, Costs(review, _number(choice, "blocked_cost", BLOCKED, MOST)))


def asks(choice: Choice) -> list[Entry]:
    """The fields for maturity and costs."""
    found = asked(choice)
    return [
        Entry("matured", "Matured after days", f"{found.maturity_days:.12g}"),
        Entry("review_cost", "A review costs", f"{found.costs.review:.12g}"),
        Entry("blocked_cost", "An honest payment blocked", f"{found.costs.blocked:.12g}"),
    ]


def _number(choice: Choice, name: str, default: float, most: float) -> float:
    text = choice.more.get(name, "")
    if not text:
        return default
    try:
        found = float(text)
    except ValueError:
        found = float("nan")
    if not (isfinite(found) and 0 <= found <= most):
        choice.faults.append(f"{name} takes a number from 0 to {most:,.0f}; this is with {default:g}.")
        return default
    return found


def read(choice: Choice) -> Shown:
    """The page of a choice."""
    wanted = asked(choice)
    found = report.of(wanted.window, wanted.costs)
    if found.all is None:
        return Shown(empty=_nothing_yet(wanted.window))
    # Estimates without labels are made of all clients together, and so are challengers compared.
    foreseen = [] if choice.client else record.foreseen(wanted.window, found.periods)
    ranks = report.ranks(found)
    late, compared = _delays(found), _compared(choice.schema)
    records = {measure: Record.of(foreseen, measure) for measure in model_tables.MEASURES}
    told = notes(found, late, records, compared)
    money = partial(told_money, choice.schema)
    drawn = {
        **over_time(found, foreseen, money),
        **by_version(found, ranks),
        "calibration": model_figures.calibration(ranks[:DRAWN]),
        "delays": model_figures.delay_curves(late),
        "challengers": challengers_figure(compared),
        **{f"held-{measure}": model_figures.held(each.held) for measure, each in records.items()},
    }
    nothing = {"recall": "Recall cannot be told", "delays": "No label has come yet"} | dict.fromkeys(
        ("held-precision", "held-recall"), "No period with an estimate is matured yet"
    )
    numbers = {name: partial(model_tables.lines_by, name, rows) for name, rows in found.tables.items()}
    expected = partial(model_tables.expected_lines, foreseen)
    return Shown(
        tiles=tiles(choice, wanted, found, found.all, ranks),
        figures={name: each or figures.said(nothing.get(name, NO_LABELS)) for name, each in drawn.items()},
        tables={
            **{name: model_tables.by(name, rows, choice, money) for name, rows in found.tables.items()},
            "period": model_tables.by_period(found.periods, money),
            "ranking": model_tables.ranking(ranks),
            "assumptions": _quiet(OF_ALL)
            if choice.client
            else model_tables.assumptions(record.factors(wanted.window)) or _quiet("No estimate was made yet."),
        },
        notes=of_all(told) if choice.client else told,
        numbers={
            **numbers,
            "period": partial(model_tables.period_lines, found.periods),
            "delays": partial(model_tables.delay_lines, late),
            "calibration": partial(model_tables.calibration_lines, ranks),
            "held-precision": expected,
            "held-recall": expected,
        },
        notices=notices(found, wanted),
    )


def of_all(told: dict[str, Any]) -> dict[str, Any]:
    """The notes, as they are where a client is chosen."""
    links = told.get("challengers", [])
    return told | dict.fromkeys(("held-precision", "held-recall"), OF_ALL) | {"challengers": [f"{OF_ALL} ", *links]}


def _nothing_yet(window: selectors.Window) -> html.Div:
    stale = selectors.freshness(window).stale
    if stale:
        text = f"{stale} days wait to be counted: look again in a few minutes."
    else:
        of = f" by {window.version}" if window.version else ""
        of += " for this client" if window.client else ""
        text = (
            f"Nothing of {window.schema} was decided between {window.since} and {window.until}{of}, or beat has not "
            "counted it yet. It counts every few minutes; manage.py recount_outcomes counts at once."
        )
    return html.Div([html.H2("No decisions in these days"), html.P(text)], className="empty")


def _quiet(text: str) -> html.P:
    return html.P(text, className="quiet")


def told_money(schema: str, amount: float) -> str:
    """An amount of a schema: of large ones, nobody reads the cents."""
    if abs(amount) < CENTS:
        return amount_of(schema, amount)
    declared = served.now().schemas.get(schema)
    return f"{amount:,.0f} {declared.currency if declared else ''}".rstrip()


def notices(found: Report, wanted: Asked) -> list[str]:
    fresh = selectors.freshness(wanted.window)
    told = []
    if not found.is_matured:
        told.append(
            "No day of this window is matured, so figures and tables are of what is known so far. They change as "
            "labels come."
        )
    if fresh.stale:
        told.append(f"Labels have come: {fresh.stale} days are to be counted again.")
    if fresh.complete_since:
        of_client = " Days that were last counted by an earlier version are of all clients only, and missing here."
        told.append(
            f"Decisions before {fresh.complete_since:%Y-%m-%d} are deleted, at least those of some clients: their days "
            f"are as they were last counted, without labels that came later.{of_client if wanted.window.client else ''}"
        )
    return told


def tiles(choice: Choice, wanted: Asked, found: Report, whole: Figures, ranks: Sequence[Ranks]) -> list[Tile]:
    caught, missed = whole.caught, whole.missed
    sampled = f"{missed.judged:,} of the random sample judged"
    unknown = f"at most {whole.at_most:.1%}: no random sample was judged" if whole.at_most is not None else sampled
    counted_at = selectors.freshness(wanted.window).counted_at
    auprc = ranks[0].ranked.auprc if ranks else None
    money = partial(told_money, choice.schema)
    until = f"matured up to {wanted.window.matured.until:%d %b %Y}" if found.is_matured else "none is matured"
    counted = f", counted {timesince(counted_at, choice.now)} ago" if counted_at else ""
    return [
        Tile(
            "Precision", _share(whole.precision.value), model_figures.ends_of(whole.precision) or "no outcome is known"
        ),
        Tile("Recall", _share(whole.recall.value), model_figures.ends_of(whole.recall) or unknown),
        Tile(
            "AUPRC",
            f"{auprc.value:.3f}" if auprc and auprc.value is not None else "–",
            f"of {ranks[0].version}, which decided most" if ranks else "no scores",
        ),
        Tile("Money saved", money(whole.saved.value), f"{money(whole.saved.low)} to {money(whole.saved.high)}"),
        Tile(
            "Known outcomes",
            f"{caught.known:,.0f}",
            f"of {caught.alerts:,.0f} alerts; {caught.frauds:,.0f} frauds caught, {missed.reported:,} more reported",
        ),
        Tile("Final outcomes", f"{whole.is_final:.1%}", f"of {whole.rows:,} decisions; {until}{counted}"),
    ]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def over_time(found: Report, foreseen: Sequence[Foreseen], money: model_figures.Told) -> dict[str, go.Figure | None]:
    """Precision, recall and money by period, and what is expected of those that are still open."""
    still_open = [each for each in foreseen if not each.period.is_matured]
    precision, recall = (
        {each.period.since: getattr(each.expected, name) for each in still_open} for name in model_tables.MEASURES
    )
    return {
        "precision": model_figures.shares("", found.periods, lambda period: period.figures.precision, precision),
        "recall": model_figures.shares("", found.periods, lambda period: period.figures.recall, recall),
        "money": model_figures.money(found.periods, money),
    }


def by_version(found: Report, ranks: Sequence[Ranks]) -> dict[str, go.Figure | None]:
    """Each version's figures with their intervals."""
    of_versions = found.tables["version"]
    drawn = {
        "version-precision": model_figures.by_version(
            "precision", [(row.name, *_ends(row.precision)) for row in of_versions]
        ),
        "version-recall": model_figures.by_version("recall", [(row.name, *_ends(row.recall)) for row in of_versions]),
        "version-money": model_figures.by_version(
            "money saved", [(row.name, *row.saved) for row in of_versions if row.caught.known]
        ),
        "auprc": model_figures.by_version("AUPRC", [(each.version, *_ends(each.ranked.auprc)) for each in ranks]),
    }
    for name in ("version-precision", "version-recall", "auprc"):
        if each := drawn[name]:
            each.update_xaxes(range=[0, 1.02], tickformat=".0%" if name != "auprc" else ".1f")
    return drawn


def _ends(share: Any) -> tuple[float | None, float | None, float | None]:
    return share.value, share.low, share.high


def _delays(found: Report) -> list[tuple[str, dict[int, int]]]:
    """The delays of each source, of matured days if there are any: of others, late labels are still to come."""
    counts = selectors.delays(found.window.matured if found.is_matured else found.window)
    names = dict(LabelSource.choices)
    return [(str(names.get(source, source)), counts[source]) for source in sorted(counts)]


def _compared(schema: str) -> dict[str, ShadowComparison]:
    """Each challenger, by its name, compared with the decisions on the same transactions."""
    challengers = ModelVersion.objects.filter(schema=schema, stage=Stage.SHADOW)[:CHALLENGERS]
    found = ((each.pk, shadow_comparison.compare(each)) for each in challengers)
    return {version: comparison for version, comparison in found if comparison}


def challengers_figure(compared: Mapping[str, ShadowComparison]) -> go.Figure:
    """The differences of each challenger's measures from those of the decisions, with paired intervals."""
    known = [
        (f"{version}: {name}", given - decided, *(ends or (None, None)))
        for version, comparison in compared.items()
        for name, decided, given, ends in comparison.measures
        if decided is not None and given is not None
    ]
    if not known:
        return figures.said("No challenger has scored labelled transactions")
    drawn = figures.with_intervals("difference", known)
    drawn.add_vline(0, line_color=NEUTRAL, line_width=1)
    drawn.update_xaxes(title="difference; right of 0, the challenger is better", hoverformat="+.3f")
    return drawn


def notes(
    found: Report,
    late: Sequence[tuple[str, dict[int, int]]],
    records: Mapping[str, Record],
    compared: Mapping[str, ShadowComparison],
) -> dict[str, Any]:
    of_matured = "Of matured days." if found.is_matured else "Of what is known so far."
    told = dict.fromkeys(("version-precision", "version-recall", "version-money", "auprc", "version"), of_matured)
    whole = found.all
    if whole and whole.recall.value is None and not whole.missed.judged:
        told["recall"] = NO_SAMPLE
    told["calibration"] = (
        "Mean score and share of fraud of decisions with similar scores; hollow is off by more than chance."
    )
    told["delays"] = "; ".join(
        f"{name}: half within {delays.told(delays.quantile(counts, 0.5))}, 90 % within "
        f"{delays.told(delays.quantile(counts, 0.9))}, of {sum(counts.values()):,}"
        for name, counts in late
    )
    for measure, of_measure in records.items():
        told[f"held-{measure}"] = (
            f"Of {len(of_measure.held)} matured periods, {of_measure.within} came as close to the estimate as its "
            f"interval allows; 95 % should. Off by {100 * (of_measure.mean_error or 0.0):.1f} points in the mean."
            if of_measure.held
            else "An estimate is kept as it was made on its day, and held here against what came true."
        )
    links: list[Any] = []
    for version, comparison in compared.items():
        links += [
            html.A(version, href=reverse("at_work", args=[version]), target="_top"),
            f": its latest {comparison.rows:,} transactions since {comparison.since:%Y-%m-%d %H:%M}, "
            f"{comparison.labelled:,} labelled. ",
        ]
    return told | ({"challengers": links} if links else {})


PAGE = Page(
    "model",
    "Model",
    "How good decisions were, by the labels that have come",
    "monitoring.view_outcomecount",
    PANELS,
    read,
    first="26w",
    windows=("7d", "30d", "90d", "26w", "52w"),
    asks=asks,
    reads_rollups=False,
    every_s=int(settings.OUTCOMES_INTERVAL_S),
)
