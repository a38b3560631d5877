"""The tables of the page *Model*, and what its panels have as CSV."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dash import html
from django.urls import reverse

from monitoring.dashboards.choices import Choice
from monitoring.dashboards.frame import rows
from monitoring.dashboards.model_figures import days_of, told
from monitoring.label_free.evidence import OTHERS
from monitoring.label_free.record import Foreseen
from monitoring.matured import delays, report
from monitoring.matured.report import Figures, Period, Ranks
from scoring.lists.files import defused

Told = Callable[[float], str]
Delays = Sequence[tuple[str, dict[int, int]]]
# What is said in place of a table without rows.
NOTHING = {
    "version": "No decision.",
    "policy": "No decision.",
    report.RULE: "No rule of the policy matched an alert in these days.",
    report.QUEUE: "No alert of these days was in a review queue.",
}
PARTS = {"review": "alerts to review", "block": "blocked transactions", OTHERS: "what was no alert"}
MEASURES = ("precision", "recall")
COLUMNS = (
    *("decisions", "final", "alerts", "alerts_known", "precision", "precision_low", "precision_high"),
    *("recall", "recall_low", "recall_high", "recall_at_most", "frauds_caught", "frauds_missed_reported"),
    *("sample_drawn", "sample_judged", "stopped", "saved", "saved_low", "saved_high"),
)


def by(table: str, found: Sequence[Figures], choice: Choice, money: Told) -> Any:
    """The table of figures by version, policy, rule or queue."""
    if not found:
        return html.P(NOTHING[table], className="quiet")
    recall = "Recall" if table in ("version", "policy") else "Share of all frauds"
    cells = []
    for row in found:
        address = f"{reverse('dashboard_model')}?{choice.query(version=row.name)}" if table == "version" else ""
        name = html.A(row.name, href=address, target="_top") if address else row.name
        cells.append((name, *_cells_of(row, money)))
    return rows([table.capitalize(), *_titles(recall)], cells)


def by_period(periods: Sequence[Period], money: Told) -> html.Table:
    cells = [
        (f"{days_of(each)}{'' if each.is_matured else ', still open'}", *_cells_of(each.figures, money))
        for each in reversed(periods)
    ]
    return rows(["Period", *_titles("Recall")], cells)


def _titles(recall: str) -> list[str]:
    return ["Alerts", "Known", "Precision", recall, "Fraud stopped", "Money saved"]


def _cells_of(row: Figures, money: Told) -> tuple[str, ...]:
    return (
        f"{row.caught.alerts:,.0f}",
        f"{row.caught.known:,.0f}",
        told(row.precision),
        told(row.recall) if row.recall.value is not None or row.at_most is None else f"at most {row.at_most:.1%}",
        money(row.caught.stopped),
        money(row.saved.value),
    )


def ranking(ranks: Sequence[Ranks]) -> html.Table:
    """How well each version's scores rank."""
    cells = []
    for each in ranks:
        auprc, of = each.ranked.auprc, each.ranked
        cells.append(
            (
                each.version,
                f"{of.rows.sum():,.0f}",
                f"{of.frauds.sum():,.1f}" + ("" if of.is_sampled else ", without frauds that nobody reports"),
                "no known fraud" if auprc.value is None else f"{auprc.value:.3f}",
                "" if auprc.low is None or auprc.high is None else f"{auprc.low:.3f} to {auprc.high:.3f}",
            )
        )
    return rows(["Version", "Decisions", "Frauds", "AUPRC", "95 % interval"], cells)


def assumptions(factors: Mapping[str, Mapping[str, Sequence[float]]]) -> html.Div | None:
    """What the estimates without labels assume, by version; None without any."""
    if not factors:
        return None
    told_of = []
    for version, of_version in sorted(factors.items()):
        corrected = [
            f"{PARTS[part]} by {middle:.2f} ({low:.2f} to {high:.2f})"
            for part, (middle, low, high) in of_version.items()
            if part in PARTS
        ]
        calibrated = [words for part, words in PARTS.items() if part not in of_version]
        sentences = []
        if corrected:
            sentences.append(f"The odds of fraud are multiplied, for {'; for '.join(corrected)}.")
        if calibrated:
            sentences.append(
                f"The scores of {' and of '.join(calibrated)} are assumed to be calibrated, as no outcomes of enough "
                "of these are known: the interval tells chance alone."
            )
        told_of.append(html.P([html.Strong(version), f": {' '.join(sentences)}"]))
    return html.Div(
        [
            html.P(
                "Scores are probabilities of fraud, so they tell precision and recall before labels come. Where "
                "outcomes of earlier decisions are known, by reviews, the control group and the random sample, they "
                "correct the scores."
            ),
            *told_of,
        ],
        className="words",
    )


# --- CSV ------------------------------------------------------------------------------------------------------------


def lines_by(table: str, found: Sequence[Figures]) -> Iterator[list[Any]]:
    yield [table, *COLUMNS]
    for row in found:
        yield [defused(row.name), *_numbers_of(row)]


def period_lines(periods: Sequence[Period]) -> Iterator[list[Any]]:
    yield ["since", "until", "is_matured", *COLUMNS]
    for each in periods:
        yield [each.since, each.until, each.is_matured, *_numbers_of(each.figures)]


def _numbers_of(row: Figures) -> list[Any]:
    caught, missed, precision, recall = row.caught, row.missed, row.precision, row.recall
    return [
        *(row.rows, row.final, int(caught.alerts), int(caught.known)),
        *(precision.value, precision.low, precision.high, recall.value, recall.low, recall.high, row.at_most),
        *(caught.frauds, missed.reported, missed.drawn, missed.judged, caught.stopped, *row.saved),
    ]


def delay_lines(late: Delays) -> Iterator[list[Any]]:
    yield ["source", "labels", "median_hours", "p90_hours", *(f"within_{edge / 3600:.3g}_h" for edge in delays.EDGES)]
    for name, counts in late:
        below = dict(delays.curve(counts))
        quantiles = [(delays.quantile(counts, q) or 0.0) / 3600 for q in (0.5, 0.9)]
        shares = (below.get(edge, 1.0) for edge in delays.EDGES)
        yield [name, sum(counts.values()), *(f"{hours:.4g}" for hours in quantiles), *shares]


def calibration_lines(ranks: Sequence[Ranks]) -> Iterator[list[Any]]:
    yield ["version", "auprc", "decisions", "mean_score", "share_of_fraud", "share_low", "share_high"]
    for each in ranks:
        auprc = each.ranked.auprc.value
        for group in each.ranked.groups:
            share = group.share
            yield [each.version, auprc, group.rows, group.score, share.value, share.low, share.high]


def expected_lines(foreseen: Sequence[Foreseen]) -> Iterator[list[Any]]:
    ends = ("", "_low", "_high")
    names = [f"{side}{measure}{end}" for measure in MEASURES for side in ("expected_", "") for end in ends]
    yield ["since", "until", "is_matured", "is_timely", "alerts", *names]
    for period, expected, is_timely in foreseen:
        shares = [getattr(of, measure) for measure in MEASURES for of in (expected, period.figures)]
        values = [value for share in shares for value in (share.value, share.low, share.high)]
        yield [period.since, period.until, period.is_matured, is_timely, expected.alerts, *values]
