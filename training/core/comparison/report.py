"""A comparison as a page to read and as Markdown for the documentation.

The page is one file without anything from elsewhere: its plots are SVG inside of it.
"""

import io
import re
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve

from training.core.comparison.baselines import BASELINES
from training.core.comparison.cells import SEED_MLP
from training.core.comparison.standings import Standing
from training.core.evaluation import COST_METRIC_NAMES, LOWER_IS_BETTER, METRIC_NAMES, PUBLISHED, Ranking
from training.core.evaluation.plots import log_odds_ticks, reliability
from training.core.pipeline import SEED_PROTOCOL_THRESHOLD, Config

matplotlib.use("Agg")

STYLE = Path(__file__).with_suffix(".css")

PROTOCOL_TITLES = {
    "seed": "The seed system's split",
    "stratified": "Stratified splits without duplicates",
    "time": "The past trains, the future judges",
}
PROTOCOL_TEXTS = {
    "seed": "Plain random 80/20, then 80/20, duplicates and all: the least demanding of the three, and the only one in "
    "which copies of training rows are among the test rows.",
    "stratified": "Of equal rows without ids only the first takes part; 64 % train, 16 % choose, 20 % judge, with the "
    "share of fraud kept.",
    "time": "Rows in the order of their time: the first 60 % train, the next 20 % choose, the last 20 % judge. The "
    "nearest to what a model meets in production.",
}
COLUMNS = {
    "auprc": "AUPRC",
    "recall": "recall",
    "precision": "precision",
    "f1": "F1",
    "precision_100": "precision top-100",
    "roc_auc": "ROC-AUC",
    "roc_auc_keras_binned": "ROC-AUC by Keras",
    "brier": "Brier × 1,000",
    "calibration_error": "calibration error × 1,000",
    "raw_calibration_error": "before calibration",
    **COST_METRIC_NAMES,
}
SCALES = {"brier": 1000, "calibration_error": 1000, "raw_calibration_error": 1000}
COLOURS = {
    SEED_MLP: "#6aa5ff",
    "xgboost": "#b3261e",
    "lightgbm": "#e8710a",
    "histogram": "#9a6700",
    "forest": "#2e7d5b",
    "logistic": "#7d8590",
}
Standings = Mapping[str, Sequence[Standing]]


def reference_of(standings: Sequence[Standing]) -> Standing | None:
    """Whom the others are compared with: the best shipped model, or else the seed system's."""
    ours = [one for one in standings if one.name not in BASELINES]
    ours.sort(key=lambda one: one.name == SEED_MLP)
    return ours[0] if ours else None


def as_markdown(standings: Standings, config: Config, facts: Mapping[str, str]) -> str:
    """Tables for the documentation."""
    said = [f"Made by `manage.py evaluate`: {'; '.join(f'{name} {fact}' for name, fact in facts.items())}.", ""]
    for protocol, ranked in _in_order(standings):
        columns = [column for column in COLUMNS if column in ranked[0].values]
        said += [f"**{PROTOCOL_TITLES[protocol]}** ({_counts(ranked)})", ""]
        said += [f"| {' | '.join(['', *(COLUMNS[column] for column in columns), 'models'])} |"]
        said += [f"| {' | '.join(['---'] * (len(columns) + 2))} |"]
        for one in ranked:
            cells = []
            for column in columns:
                low, high = one.interval(column) if column == "auprc" else (None, None)
                interval = "" if low is None else f" ({low:.3f} to {high:.3f})"
                cells.append(f"{_number(column, one.values[column])}{interval}")
            said.append(f"| {' | '.join([one.title, *cells, str(len(one.judged))])} |")
        reference = reference_of(ranked)
        differences = [
            f"{other.title} {_signed(reference.ahead_of(other, 'auprc'))}"
            for other in ranked
            if reference and other is not reference
        ]
        if reference and differences:
            said += ["", f"AUPRC of {reference.title} minus that of the others, paired: {'; '.join(differences)}."]
        said.append("")
    if own := _seed_systems_own(standings):
        said += ["**The seed system's own figures**, at its threshold of 0.5", ""]
        said += ["| test rows | seed system | mean | standard deviation | lowest | highest |", f"|{' --- |' * 6}"]
        said += [f"| {' | '.join(row)} |" for row in own] + [""]
    return "\n".join(said)


def as_page(standings: Standings, config: Config, facts: Mapping[str, str]) -> str:
    """The HTML page."""
    policy, evaluated = config["policy"], config["evaluation"]
    parts = [_section(protocol, ranked) for protocol, ranked in _in_order(standings)]
    if own := _seed_systems_own(standings):
        head = ("test rows", "seed system", "mean", "standard deviation", "lowest", "highest")
        parts.append(
            "<section><h2>The seed system's own figures</h2><p>Its network on its split, at its threshold of 0.5, "
            f"without calibration.</p>{_table(head, [[escape(cell) for cell in row] for row in own])}</section>"
        )
    parts.append(_origins(standings))
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(fact)}</dd>" for name, fact in facts.items())
    links = " · ".join(f'<a href="#{protocol}">{PROTOCOL_TITLES[protocol]}</a>' for protocol, _ in _in_order(standings))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Comparison of models</title><style>{STYLE.read_text()}</style></head><body><main>
<header><h1>Comparison of models</h1><p class="lead">Which model to trust, on rows that none of them was trained on.</p>
<nav>{links}</nav><dl>{listed}</dl></header>
<section><h2>How to read it</h2><ul>
<li>Scores are calibrated, and the alert threshold chosen, on validation rows: the highest recall with a precision of
at least {policy["review_precision"]:g} there. <em>Precision</em> and <em>recall</em> are what that came to on test
rows.</li>
<li>AUPRC is average precision. ROC-AUC is exact; <em>by Keras</em> is the estimate from 200 thresholds that Keras
makes, which falls short where scores crowd at 0. The seed system published that estimate.</li>
<li>Cost: {policy["review_cost"]:g} for each alert and the amount of each missed fraud, per 1,000 transactions.</li>
<li>Intervals are 95 %, from {evaluated["bootstrap_resamples"]:,} bootstrap draws of test rows. All models meet the same
draws, so the intervals of differences are paired; a difference whose interval holds 0 may be chance. Those of several
splits are somewhat too narrow, because the splits share rows.</li>
</ul></section>
{"".join(parts)}
</main></body></html>
"""


def _in_order(standings: Standings) -> list[tuple[str, Sequence[Standing]]]:
    return [(protocol, standings[protocol]) for protocol in PROTOCOL_TITLES if standings.get(protocol)]


def _section(protocol: str, ranked: Sequence[Standing]) -> str:
    columns = [column for column in COLUMNS if column in ranked[0].values]
    lower = LOWER_IS_BETTER | {"raw_calibration_error"}
    best = {
        column: _number(column, (np.nanmin if column in lower else np.nanmax)(values))
        for column in columns
        if not np.isnan(values := [one.values[column] for one in ranked]).all()
    }
    rows = []
    for one in ranked:
        cells = [f'<th scope="row"><i style="background:{_colour(one)}"></i>{escape(one.title)}</th>']
        for column in columns:
            low, high = one.interval(column)
            number = _number(column, one.values[column])
            shown = f"<b>{number}</b>" if number == best.get(column) else number
            interval = "" if low is None or high is None else f"{_number(column, low)}–{_number(column, high)}"
            cells.append(f"<td>{shown}<small>{interval}</small></td>")
        spread = one.spread["auprc"]
        cells.append(f"<td>{len(one.judged)}<small>{'' if spread is None else f'sd {spread:.3f}'}</small></td>")
        cells.append(f"<td>{one.seconds:.0f}&nbsp;s</td>")
        rows.append(cells)
    table = _table(["", *(COLUMNS[column] for column in columns), "models", "fit"], rows)
    plots = "".join(draw(ranked) for draw in (_auprc_plot, _difference_plot, _curves_plot, _reliability_plot))
    return f"""<section id="{protocol}"><h2>{PROTOCOL_TITLES[protocol]}</h2>
<p>{PROTOCOL_TEXTS[protocol]} {_counts(ranked)}.</p>{table}<div class="plots">{plots}</div></section>"""


def _origins(standings: Standings) -> str:
    rows = []
    for protocol, ranked in _in_order(standings):
        for one in ranked:
            said = one.judged[0].cell.said
            parameters = ", ".join(f"{name} {_short(value)}" for name, value in said["parameters"].items())
            search = f"best of {said['trials']} trials" if said["trials"] else "fixed in advance"
            if collapsed := sum(each.cell.said["collapsed"] > 0 for each in one.judged):
                search += f"; {collapsed} collapsed, the next best was taken"
            methods = ", ".join(sorted({each.method for each in one.judged}))
            rows.append(
                [
                    escape(protocol),
                    f'<th scope="row">{escape(one.title)}</th>',
                    search,
                    escape(parameters),
                    methods,
                ]
            )
    return (
        "<section><h2>How the models were made</h2><p>Searches (Optuna, TPE) maximise the AUPRC on validation rows of "
        "the first split of a protocol; what they found serves all its splits. A model whose validation AUPRC falls "
        "far below that of its search has collapsed: then the next best parameters are taken.</p>"
        + _table(["protocol", "model", "search", "parameters", "calibration"], rows, "words")
        + "</section>"
    )


def _seed_systems_own(standings: Standings) -> list[list[str]]:
    """The seed system's network on its split at its threshold, beside what was published: rows of texts."""
    network = next((one for one in standings.get("seed", ()) if one.name == SEED_MLP), None)
    if network is None:
        return []
    tests = [one.cell.scored["test"] for one in network.judged]
    found = [Ranking(test.labels, test.scores, threshold=SEED_PROTOCOL_THRESHOLD).metrics() for test in tests]
    rows = []
    for name in ("precision", "recall", "accuracy", "auprc", "roc_auc", "roc_auc_keras_binned"):
        values = np.array([metrics[name] for metrics in found])
        spread = f"{values.std(ddof=1):.5f}" if len(values) > 1 else ""
        published = f"{PUBLISHED[name]:.4f}" if name in PUBLISHED else ""
        rows.append(
            [
                METRIC_NAMES[name],
                published,
                f"{values.mean():.4f}",
                spread,
                f"{values.min():.4f}",
                f"{values.max():.4f}",
            ]
        )
    return rows


def _counts(ranked: Sequence[Standing]) -> str:
    said = ranked[0].judged[0].cell.said
    splits = len({one.cell.case for one in ranked[0].judged})
    parts = ", ".join(f"{said['rows'][part]:,} {part} rows with {said['frauds'][part]} frauds" for part in said["rows"])
    return f"{f'Mean of {splits} splits; of the first: ' if splits > 1 else ''}{parts}"


def _number(column: str, value: float) -> str:
    if np.isnan(value):
        return "–"
    scaled = value * SCALES.get(column, 1)
    return f"{scaled:.0f}" if column in COST_METRIC_NAMES else f"{scaled:.3f}"


def _signed(difference: tuple[float, float | None, float | None]) -> str:
    value, low, high = difference
    return f"{value:+.3f}" + ("" if low is None else f" ({low:+.3f} to {high:+.3f})")


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _colour(one: Standing) -> str:
    return COLOURS.get(one.name, "#0b5fff")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "numbers") -> str:
    """Cells that bring no tag of their own get one."""
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    body = "".join(
        f"<tr>{''.join(cell if cell.startswith('<t') else f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows
    )
    table = f'<table class="{kind}"><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="scrolled">{table}</div>'


def _auprc_plot(ranked: Sequence[Standing]) -> str:
    figure, axes = _figure("AUPRC, with 95 % intervals", len(ranked))
    for place, one in enumerate(reversed(ranked)):
        low, high = one.interval("auprc")
        if low is not None:
            axes.plot([low, high], [place, place], color=_colour(one), linewidth=3, solid_capstyle="round", alpha=0.35)
        models = [each.values["auprc"] for each in one.judged]
        if len(models) > 1:
            axes.plot(models, [place] * len(models), "|", color=_colour(one), markersize=9, alpha=0.7)
        axes.plot(one.values["auprc"], place, "o", color=_colour(one), markersize=8)
    axes.set_yticks(range(len(ranked)), [one.title for one in reversed(ranked)])
    return _svg(figure, "Points are means, strokes single models.")


def _difference_plot(ranked: Sequence[Standing]) -> str:
    reference = reference_of(ranked)
    others = [one for one in ranked if one is not reference]
    if reference is None or not others:
        return ""
    figure, axes = _figure(f"AUPRC: {reference.title} minus …", len(others))
    axes.axvline(0, color="#24292f", linewidth=1)
    for place, one in enumerate(reversed(others)):
        value, low, high = reference.ahead_of(one, "auprc")
        if low is not None:
            axes.plot([low, high], [place, place], color=_colour(one), linewidth=3, solid_capstyle="round", alpha=0.45)
        axes.plot(value, place, "o", color=_colour(one), markersize=8)
    axes.set_yticks(range(len(others)), [one.title for one in reversed(others)])
    return _svg(figure, "Paired intervals; right of the line, the first is better.")


def _curves_plot(ranked: Sequence[Standing]) -> str:
    figure, axes = _figure("Precision and recall", 8)
    for one in ranked:
        scored = one.judged[0].calibrated
        precision, recall, _ = precision_recall_curve(scored.labels, scored.scores, drop_intermediate=True)
        axes.plot(recall, precision, color=_colour(one), label=one.title, linewidth=1.4)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    axes.legend(loc="lower left", fontsize=8, frameon=False)
    return _svg(figure, "The first model of each, on the first split.")


def _reliability_plot(ranked: Sequence[Standing]) -> str:
    figure, axes = _figure("Reliability of calibrated scores", 8)
    ends = (1e-5, 1 - 1e-4)
    axes.plot(ends, ends, color="#24292f", linewidth=1, label="as it should be")
    for one in ranked:
        scored = one.judged[0].calibrated
        means, shares, _ = reliability(scored.labels, scored.scores)
        axes.plot(means.clip(*ends), shares.clip(*ends), "o-", color=_colour(one), linewidth=1, markersize=4)
    axes.set(
        xlabel="mean score (log odds)", ylabel="share of fraud", xscale="logit", yscale="logit", xlim=ends, ylim=ends
    )
    log_odds_ticks(axes)
    return _svg(figure, "Ten bins with equal expected fraud each; the first model, on the first split.")


def _figure(title: str, lines: int):  # type: ignore[no-untyped-def]
    figure = Figure(figsize=(6.2, 1.3 + 0.36 * lines), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.grid(alpha=0.2)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, labelsize=9)
    return figure, axes


def _svg(figure: Figure, caption: str) -> str:
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": caption, "font.family": "sans-serif"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    drawing = file.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    # Two drawings in one page must not share the names of their parts.
    prefix = f"f{zlib.crc32(drawing.encode())}-"
    drawing = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}", drawing)
    return f"<figure>{drawing}<figcaption>{escape(caption)}</figcaption></figure>"


def write(standings: Standings, config: Config, facts: Mapping[str, str], directory: Path) -> tuple[Path, Path]:
    """Write `report.html` and `report.md`, and return where they are."""
    facts = {**facts, "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"}
    directory.mkdir(parents=True, exist_ok=True)
    page, text = directory / "report.html", directory / "report.md"
    page.write_text(as_page(standings, config, facts), encoding="utf-8")
    text.write_text(as_markdown(standings, config, facts), encoding="utf-8")
    return page, text
