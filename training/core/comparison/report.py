"""Writes a comparison as an HTML page and as Markdown for the documentation.

The page is one self-contained file, with its plots as inline SVG.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from training.core.comparison import report_plots
from training.core.comparison.baselines import BASELINES
from training.core.comparison.results import SEED_MLP
from training.core.comparison.standings import Standing
from training.core.configuration import Configuration
from training.core.evaluation import COST_METRIC_NAMES, LOWER_IS_BETTER, METRIC_NAMES, PUBLISHED, Ranking
from training.core.pipeline import SEED_PROTOCOL_THRESHOLD

PROTOCOL_TITLES = {
    "seed": "The seed system's split",
    "stratified": "Stratified splits without duplicates",
    "time": "Training on the past, test on the future",
}
PROTOCOL_TEXTS = {
    "seed": "Plain random 80/20, then 80/20, duplicates and all: the least demanding of the three, and the only one in "
    "which copies of training rows are among the test rows.",
    "stratified": "Of equal rows without ids only the first is used; 64 % for training, 16 % for validation, 20 % for "
    "the test, with the same share of fraud in each.",
    "time": "Rows in the order of their time: the first 60 % for training, the next 20 % for validation, the last 20 % "
    "for the test. The closest to production.",
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
# The columns of the table of the seed system's own figures.
OWN_HEAD = ("test rows", "seed system", "mean", "standard deviation", "lowest", "highest")
Standings = Mapping[str, Sequence[Standing]]


def reference_of(standings: Sequence[Standing]) -> Standing | None:
    """The model that the others are compared with: the best shipped model, or else the seed system's."""
    ours = [standing for standing in standings if standing.name not in BASELINES]
    ours.sort(key=lambda standing: standing.name == SEED_MLP)
    return ours[0] if ours else None


def as_markdown(standings: Standings, config: Configuration, facts: Mapping[str, str]) -> str:
    """Tables for the documentation."""
    lines = [f"Made by `manage.py evaluate`: {'; '.join(f'{name} {fact}' for name, fact in facts.items())}.", ""]
    for protocol, ranked in _in_order(standings):
        columns = [column for column in COLUMNS if column in ranked[0].values]
        lines += [f"**{PROTOCOL_TITLES[protocol]}** ({_counts(ranked)})", ""]
        lines += [f"| {' | '.join(['', *(COLUMNS[column] for column in columns), 'models'])} |"]
        lines += [f"| {' | '.join(['---'] * (len(columns) + 2))} |"]
        for standing in ranked:
            cells = []
            for column in columns:
                low, high = standing.interval(column) if column == "auprc" else (None, None)
                interval = "" if low is None else f" ({low:.3f} to {high:.3f})"
                cells.append(f"{_number(column, standing.values[column])}{interval}")
            lines.append(f"| {' | '.join([standing.title, *cells, str(len(standing.models))])} |")
        reference = reference_of(ranked)
        differences = [
            f"{other.title} {_signed(reference.ahead_of(other, 'auprc'))}"
            for other in ranked
            if reference and other is not reference
        ]
        if reference and differences:
            lines += ["", f"AUPRC of {reference.title} minus that of the others, paired: {'; '.join(differences)}."]
        lines.append("")
    if own := _seed_systems_own(standings):
        lines += ["**The seed system's own figures**, at its threshold of 0.5", ""]
        lines += [f"| {' | '.join(OWN_HEAD)} |", f"|{' --- |' * len(OWN_HEAD)}"]
        lines += [f"| {' | '.join(row)} |" for row in own] + [""]
    return "\n".join(lines)


def as_page(standings: Standings, config: Configuration, facts: Mapping[str, str]) -> str:
    """The HTML page, of the template report.html."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, undefined=StrictUndefined
    )
    return environment.get_template("report.html").render(
        facts=facts,
        review_precision=f"{config.policy.review_precision:g}",
        review_cost=f"{config.policy.review_cost:g}",
        resamples=f"{config.evaluation.bootstrap_resamples:,}",
        sections=[_section(protocol, ranked) for protocol, ranked in _in_order(standings)],
        own_head=OWN_HEAD,
        own=_seed_systems_own(standings),
        origins=[_origin(protocol, standing) for protocol, ranked in _in_order(standings) for standing in ranked],
    )


def _in_order(standings: Standings) -> list[tuple[str, Sequence[Standing]]]:
    return [(protocol, standings[protocol]) for protocol in PROTOCOL_TITLES if standings.get(protocol)]


def _section(protocol: str, ranked: Sequence[Standing]) -> dict[str, Any]:
    """A protocol, as the template shows it."""
    columns = [column for column in COLUMNS if column in ranked[0].values]
    lower = LOWER_IS_BETTER | {"raw_calibration_error"}
    best = {
        column: _number(column, (np.nanmin if column in lower else np.nanmax)(values))
        for column in columns
        if not np.isnan(values := [standing.values[column] for standing in ranked]).all()
    }
    return {
        "protocol": protocol,
        "title": PROTOCOL_TITLES[protocol],
        "text": PROTOCOL_TEXTS[protocol],
        "counts": _counts(ranked),
        "columns": [COLUMNS[column] for column in columns],
        "rows": [_row(standing, columns, best) for standing in ranked],
        "plots": report_plots.draw(ranked, reference_of(ranked)),
    }


def _row(standing: Standing, columns: Sequence[str], best: Mapping[str, str]) -> dict[str, Any]:
    cells = []
    for column in columns:
        low, high = standing.interval(column)
        number = _number(column, standing.values[column])
        interval = "" if low is None or high is None else f"{_number(column, low)}–{_number(column, high)}"
        cells.append({"number": number, "best": number == best.get(column), "interval": interval})
    spread = standing.spread["auprc"]
    return {
        "title": standing.title,
        "colour": report_plots.colour(standing),
        "cells": cells,
        "models": len(standing.models),
        "spread": "" if spread is None else f"sd {spread:.3f}",
        "seconds": f"{standing.seconds:.0f}",
    }


def _origin(protocol: str, standing: Standing) -> dict[str, str]:
    """How the models of a contender were made, as the template shows it."""
    record = standing.models[0].result.record
    search = f"best of {record.trials} trials" if record.trials else "fixed in advance"
    if collapsed := sum(model.result.record.collapsed > 0 for model in standing.models):
        search += f"; {collapsed} collapsed, the next best was taken"
    return {
        "protocol": protocol,
        "title": standing.title,
        "search": search,
        "parameters": ", ".join(f"{name} {_short(value)}" for name, value in record.parameters.items()),
        "calibration": ", ".join(sorted({model.method for model in standing.models})),
    }


def _seed_systems_own(standings: Standings) -> list[list[str]]:
    """Rows of a table: the seed system's network on its split at its threshold, beside the published figures."""
    network = next((standing for standing in standings.get("seed", ()) if standing.name == SEED_MLP), None)
    if network is None:
        return []
    tests = [model.result.scored["test"] for model in network.models]
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
    record = ranked[0].models[0].result.record
    splits = len({model.result.case for model in ranked[0].models})
    parts = ", ".join(f"{record.rows[part]:,} {part} rows with {record.frauds[part]} frauds" for part in record.rows)
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


def write(standings: Standings, config: Configuration, facts: Mapping[str, str], directory: Path) -> tuple[Path, Path]:
    """Write `report.html` and `report.md`. Returns their paths."""
    facts = {**facts, "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"}
    directory.mkdir(parents=True, exist_ok=True)
    page, text = directory / "report.html", directory / "report.md"
    page.write_text(as_page(standings, config, facts), encoding="utf-8")
    text.write_text(as_markdown(standings, config, facts), encoding="utf-8")
    return page, text
