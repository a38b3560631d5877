"""Draws the plots of a bundle, as PNG images."""

import io
from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator
from sklearn.metrics import precision_recall_curve, roc_curve

from training.core import figures
from training.core.scored import ScoredRows

matplotlib.use("Agg")

RELIABILITY_BINS = 10
COLOURS = {"validation": "#b26a00", "test": "#1f6feb"}
Parts = Mapping[str, ScoredRows]


def draw(
    scored: Parts, raw: Parts, history: dict[str, list[float]], *, kept_epoch: int, threshold: float
) -> dict[str, bytes]:
    """Draw every plot. `scored` has "validation" and "test", and so has `raw`, from before calibration."""
    return {
        "precision_recall": _precision_recall(scored, threshold),
        "roc": _roc(scored),
        "reliability": _reliability(scored["test"], raw["test"]),
        "scores": _scores(scored["test"], threshold),
        "training": _training(history, kept_epoch),
    }


def _precision_recall(scored: Parts, threshold: float) -> bytes:
    figure, axes = _figure("Precision and recall", "recall", "precision")
    for name, (labels, scores, _) in scored.items():
        precision, recall, _ = precision_recall_curve(labels, scores)
        axes.plot(recall, precision, color=COLOURS[name], label=name)
        alerts = scores >= threshold
        if alerts.any():
            at = (labels[alerts].sum() / labels.sum(), labels[alerts].mean())
            axes.plot(*at, "o", color=COLOURS[name], label=f"{name} at the threshold")
    axes.set(xlim=(0, 1.01), ylim=(0, 1.01))
    axes.legend(loc="lower left")
    return _png(figure)


def _roc(scored: Parts) -> bytes:
    figure, axes = _figure("ROC", "share of legitimate transactions alerted", "share of fraud alerted")
    for name, (labels, scores, _) in scored.items():
        false_alarms, caught, _ = roc_curve(labels, scores)
        axes.plot(false_alarms, caught, color=COLOURS[name], label=name)
    # Alerts are a few per cent at most: on a linear axis the relevant part would be at the left edge.
    axes.set(xscale="symlog", xlim=(0, 1), ylim=(0, 1.01))
    axes.set_xscale("symlog", linthresh=1e-4)
    _plain_numbers(axes.xaxis)
    axes.legend(loc="lower right")
    return _png(figure)


def reliability(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean score, share of fraud and number of rows [k] of bins of rows with similar scores.

    Of bins of equal width, the first would have nearly all rows. These bins have about equal numbers of expected
    frauds: the sum of all scores, rising, is divided into ten equal parts.
    """
    order = np.argsort(scores, kind="stable")
    expected = np.cumsum(scores[order])
    bins = np.minimum((expected / expected[-1] * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
    counts = np.bincount(bins, minlength=RELIABILITY_BINS)
    kept = counts > 0
    means, shares = (
        np.bincount(bins, values[order], RELIABILITY_BINS)[kept] / counts[kept] for values in (scores, labels)
    )
    return means, shares, counts[kept]


def _reliability(scored: ScoredRows, raw: ScoredRows) -> bytes:
    figure, axes = _figure("Reliability, test rows", "score (log odds)", "share of fraud (log odds)")
    axes.plot([1e-5, 1 - 1e-5], [1e-5, 1 - 1e-5], color="#57606a", linewidth=1, label="ideal")
    for rows, colour, name in ((raw, "#8c959f", "before calibration"), (scored, COLOURS["test"], "calibrated")):
        means, shares, _ = reliability(rows.labels, rows.scores)
        # A bin with only legitimate or only fraud rows has no finite odds: it is drawn at the edge.
        axes.plot(means.clip(1e-5, 1 - 1e-5), shares.clip(1e-5, 1 - 1e-5), "o-", color=colour, markersize=4, label=name)
    axes.set(xscale="logit", yscale="logit", xlim=(1e-5, 1 - 1e-5), ylim=(1e-5, 1 - 1e-5))
    log_odds_ticks(axes)
    axes.legend(loc="upper left")
    return _png(figure)


def log_odds_ticks(axes) -> None:  # type: ignore[no-untyped-def]
    """Set fewer, plainer ticks than matplotlib's own on axes of log odds."""
    ticks = [1e-5, 1e-3, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(ticks))
        _plain_numbers(axis)
        axis.set_minor_locator(NullLocator())


def _plain_numbers(axis) -> None:  # type: ignore[no-untyped-def]
    """Print 0.01 on a logarithmic axis instead of a power of ten, which matplotlib typesets slowly."""
    axis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())


def _scores(scored: ScoredRows, threshold: float) -> bytes:
    figure, axes = _figure("Scores of the test rows", "score", "transactions (log)")
    labels, scores, _ = scored
    bins = np.linspace(0, 1, 41)
    # One outline each: forty bars take matplotlib longer than all other plots together.
    how = {"histtype": "stepfilled", "alpha": 0.7, "log": True}
    axes.hist(scores[labels == 0], bins, color="#2e7d5b", label="legitimate", **how)
    axes.hist(scores[labels == 1], bins, color="#b3261e", label="fraud", **how)
    axes.axvline(threshold, color="black", linestyle="--", label=f"threshold {figures.threshold(threshold)}")
    _plain_numbers(axes.yaxis)
    axes.legend(loc="upper right")
    return _png(figure)


def _training(history: dict[str, list[float]], kept_epoch: int) -> bytes:
    figure, axes = _figure("Training", "epoch", "binary cross-entropy (log)")
    epochs = range(1, len(history["loss"]) + 1)
    axes.plot(epochs, history["loss"], color="#57606a", label="training (with dropout)")
    axes.plot(epochs, history["val_loss"], color=COLOURS["validation"], label="validation")
    kept_loss = history["val_loss"][kept_epoch - 1]
    axes.plot(kept_epoch, kept_loss, "o", color=COLOURS["validation"], label=f"kept: epoch {kept_epoch}")
    axes.set_yscale("log")
    _plain_numbers(axes.yaxis)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="upper right")
    return _png(figure)


def _figure(title: str, x: str, y: str):  # type: ignore[no-untyped-def]
    figure = Figure(figsize=(6, 4), dpi=110)
    # Fixed margins and a fixed place of the title: if matplotlib computes them, it lays everything out twice.
    axes = figure.add_axes((0.16, 0.13, 0.81, 0.78))
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title, y=1.0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
