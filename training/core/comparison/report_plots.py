"""The plots of a comparison, as SVG to stand in a page."""

import io
import re
import zlib
from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve

from training.core.comparison.results import SEED_MLP
from training.core.comparison.standings import Standing
from training.core.evaluation.plots import log_odds_ticks, reliability

matplotlib.use("Agg")

COLOURS = {
    SEED_MLP: "#6aa5ff",
    "xgboost": "#b3261e",
    "lightgbm": "#e8710a",
    "histogram": "#9a6700",
    "forest": "#2e7d5b",
    "logistic": "#7d8590",
}
# A drawing, an <svg> element, and its caption.
Plot = tuple[str, str]


def draw(ranked: Sequence[Standing], reference: Standing | None) -> list[Plot]:
    """Every plot of a protocol; that of differences needs a `reference`, and others to compare with it."""
    others = [standing for standing in ranked if standing is not reference]
    differences = [_differences(reference, others)] if reference and others else []
    return [_auprc(ranked), *differences, _curves(ranked), _reliability(ranked)]


def colour(standing: Standing) -> str:
    return COLOURS.get(standing.name, "#0b5fff")


def _auprc(ranked: Sequence[Standing]) -> Plot:
    figure, axes = _figure("AUPRC, with 95 % intervals", len(ranked))
    for place, standing in enumerate(reversed(ranked)):
        low, high = standing.interval("auprc")
        if low is not None:
            axes.plot(
                [low, high], [place, place], color=colour(standing), linewidth=3, solid_capstyle="round", alpha=0.35
            )
        models = [model.values["auprc"] for model in standing.models]
        if len(models) > 1:
            axes.plot(models, [place] * len(models), "|", color=colour(standing), markersize=9, alpha=0.7)
        axes.plot(standing.values["auprc"], place, "o", color=colour(standing), markersize=8)
    axes.set_yticks(range(len(ranked)), [standing.title for standing in reversed(ranked)])
    return _svg(figure, "Points are means, strokes single models.")


def _differences(reference: Standing, others: Sequence[Standing]) -> Plot:
    figure, axes = _figure(f"AUPRC: {reference.title} minus …", len(others))
    axes.axvline(0, color="#24292f", linewidth=1)
    for place, standing in enumerate(reversed(others)):
        value, low, high = reference.ahead_of(standing, "auprc")
        if low is not None:
            axes.plot(
                [low, high], [place, place], color=colour(standing), linewidth=3, solid_capstyle="round", alpha=0.45
            )
        axes.plot(value, place, "o", color=colour(standing), markersize=8)
    axes.set_yticks(range(len(others)), [standing.title for standing in reversed(others)])
    return _svg(figure, "Paired intervals; right of the line, the first is better.")


def _curves(ranked: Sequence[Standing]) -> Plot:
    figure, axes = _figure("Precision and recall", 8)
    for standing in ranked:
        scored = standing.models[0].calibrated
        precision, recall, _ = precision_recall_curve(scored.labels, scored.scores, drop_intermediate=True)
        axes.plot(recall, precision, color=colour(standing), label=standing.title, linewidth=1.4)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    axes.legend(loc="lower left", fontsize=8, frameon=False)
    return _svg(figure, "The first model of each, on the first split.")


def _reliability(ranked: Sequence[Standing]) -> Plot:
    figure, axes = _figure("Reliability of calibrated scores", 8)
    ends = (1e-5, 1 - 1e-4)
    axes.plot(ends, ends, color="#24292f", linewidth=1, label="ideal")
    for standing in ranked:
        scored = standing.models[0].calibrated
        means, shares, _ = reliability(scored.labels, scored.scores)
        axes.plot(means.clip(*ends), shares.clip(*ends), "o-", color=colour(standing), linewidth=1, markersize=4)
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


def _svg(figure: Figure, caption: str) -> Plot:
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": caption, "font.family": "sans-serif"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    drawing = file.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    # Ids must be unique among the drawings of the page.
    prefix = f"f{zlib.crc32(drawing.encode())}-"
    drawing = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}", drawing)
    return drawing, caption
