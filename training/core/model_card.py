"""A bundle's lineage and its model card (Mitchell et al., Model Cards for Model Reporting, FAT* 2019)."""

from collections.abc import Mapping
from typing import Any

from msgspec.structs import asdict

from training.core.bundle import Bundle
from training.core.description import Measured
from training.core.evaluation import CARD_METRIC_NAMES, COST_METRIC_NAMES, LOWER_IS_BETTER, METRIC_NAMES
from training.core.families import effective_hyperparameters
from training.core.figures import figure, threshold

PARTS = ("validation", "test")
LEANS_ON = 10
# The limits of each protocol.
LIMIT_OF_PROTOCOL = {
    "stratified": "Training and test rows are of the same days. A split by time would say more about future traffic.",
    "seed": "Training and test rows are of the same days, and some test rows are copies of training rows: the figures "
    "flatter the model, and are for comparison with the seed system.",
    "time": "The test rows are of a few days. Figures on other days will differ.",
}


def lineage(bundle: Bundle) -> list[tuple[str, str]]:
    """How the bundle was made, as titles and texts."""
    description = bundle.description
    split, data, losses = description.split, description.data, description.history["val_loss"]
    sizes = f"{split.train:,} train, {split.validation:,} validation, {split.test:,} test"
    # Older bundles have no `kept_epoch`: it was the one with the lowest validation loss.
    kept = description.kept_epoch or losses.index(min(losses)) + 1
    parameters = effective_hyperparameters(bundle)
    drawn = f", seed {split.seed}" if split.protocol == "stratified" else ""
    vocabularies = ", ".join(f"{len(texts):,} of {name}" for name, texts in description.vocabularies.items())
    return [
        ("Trained", f"{description.created_at[:19].replace('T', ' ')} UTC, on {description.device}"),
        ("Data", f"{data.rows:,} rows, {data.frauds:,} frauds ({data.frauds / data.rows:.3%})"),
        ("SHA-256 of the data", data.sha256),
        ("Schema", f"{bundle.schema}, {len(bundle.feature_names)} features, SHA-256 {description.schema.hash}"),
        ("Split", f"{split.protocol}{drawn}: {sizes} rows"),
        ("Architecture", bundle.architecture),
        ("Hyperparameters", _listed(parameters)),
        *([("Known values", vocabularies)] if vocabularies else []),
        ("Epochs", f"{len(losses)}, of which number {kept} was kept"),
        ("Calibration", (description.calibration or {}).get("method", "none")),
        ("Code", description.git_commit or "outside of a repository"),
        ("Packages", ", ".join(f"{name} {version}" for name, version in description.packages.items())),
    ]


def _listed(parameters: Mapping[str, Any]) -> str:
    """Names and values; those of a teacher in brackets."""
    return ", ".join(
        f"{name} ({_listed(value)})" if isinstance(value, Mapping) else f"{name} {value}"
        for name, value in parameters.items()
    )


def model_card(bundle: Bundle, *, stage: str, review_threshold: float, block_threshold: float | None) -> str:
    """The model card in Markdown. The stage and the thresholds are the current ones, not the bundle's."""
    schema = bundle.declared
    protocol = bundle.description.split.protocol
    parent = bundle.description.parent
    frauds = sum(bundle.metrics["test"].confusion[1])
    lines = [
        f"# Model card: {bundle.version}",
        "",
        f"Stage when this was written: **{stage}**.",
        "",
        "## What it is",
        f"A model of the architecture `{bundle.architecture}` that gives a card transaction a score from 0 to 1: "
        f"higher is riskier. It takes the {len(schema.input_names)} features of the schema `{schema.name}` "
        f"({schema.title}).",
        "",
        "## Intended use",
        f"To score transactions of the schema `{schema.name}` when they are made. A score at or above the review "
        "threshold sends a transaction to a fraud analyst; one at or above the block threshold blocks it. An analyst's "
        "label takes precedence over the score.",
        "",
        "Not for transactions of another source than the data below, unless the model is trained again on those; and "
        "not to judge a person.",
        "",
        "## Metrics",
        "With 95 % bootstrap intervals. Thresholds, calibration and the end of training may have been chosen on the "
        "validation rows, but nothing on the test rows: their figures are what to expect.",
        "",
        *_table(["", *PARTS], [[title, *cells] for title, *cells in _metric_rows(bundle)]),
        "",
        f"At the bundle's review threshold of {threshold(bundle.review_threshold)}:",
        "",
        *_table(["", *PARTS], _confusion_rows(bundle)),
        "",
        "## Thresholds",
        *_policy(bundle),
        "",
        *_table(
            ["", "chosen in training", "now"],
            [
                ["review", threshold(bundle.review_threshold), threshold(review_threshold)],
                ["block", threshold(bundle.block_threshold), threshold(block_threshold)],
            ],
        ),
        "",
        "## Feature importance",
        *_leans_on(bundle),
        "",
        "## Limits",
        f"- The test rows have {frauds:,} frauds: every figure is as uncertain as its interval is wide.",
        f"- {LIMIT_OF_PROTOCOL.get(protocol, 'Figures are of the rows above only.')}",
        "- Fraud and customers change: watch drift. Its reference is in the bundle.",
        "- The data names no groups of people, so it was not measured whether the model treats them alike.",
        "- Figures depend on the labels: a fraud that nobody reported counts as legitimate.",
        "",
        "## Lineage",
        *[f"- {title}: {text}" for title, text in lineage(bundle)],
        f"- Parent (the champion at the time): {parent or 'none, or not recorded'}",
    ]
    return "\n".join(lines) + "\n"


def _metric_rows(bundle: Bundle) -> list[list[str]]:
    titles = METRIC_NAMES | COST_METRIC_NAMES | CARD_METRIC_NAMES
    return [
        [
            f"{title}, lower is better" if name in LOWER_IS_BETTER else title,
            *(_figure(name, bundle.metrics[part].measured(name)) for part in PARTS),
        ]
        for name, title in titles.items()
        if bundle.metrics["test"].measured(name)
    ]


def _figure(name: str, metric: Measured | None) -> str:
    if metric is None:
        return "-"
    interval = " ({} to {})".format(*(figure(name, bound) for bound in metric.interval)) if metric.interval else ""
    return f"{figure(name, metric.value)}{interval}"


def _policy(bundle: Bundle) -> list[str]:
    """How the review threshold was chosen; older bundles had only one way."""
    policy = bundle.description.policy
    if bundle.description.split.protocol == "seed":
        return ["The review threshold is the seed system's fixed one."]
    ways = {
        "precision": "the highest recall with a precision of at least {review_precision}",
        "f1": "the highest F1",
        "cost": "the lowest cost, where an alert costs {review_cost} and a missed fraud its amount",
        "alerts_per_day": "the lowest threshold with at most {alerts_per_day} alerts a day",
    }
    chosen = ways[policy.choose].format_map(asdict(policy))
    return [f"The review threshold was chosen on validation rows: {chosen}."]


def _confusion_rows(bundle: Bundle) -> list[list[str]]:
    places = {"frauds caught": (1, 1), "frauds missed": (1, 0), "false alerts": (0, 1), "legitimate, no alert": (0, 0)}
    return [
        [title, *(f"{bundle.metrics[part].confusion[row][column]:,}" for part in PARTS)]
        for title, (row, column) in places.items()
    ]


def _leans_on(bundle: Bundle) -> list[str]:
    importance = bundle.description.importance
    if importance is None:
        return ["Not measured: the bundle is older than the measurement."]
    ranked = sorted(importance.features.items(), key=lambda item: -item[1].value)[:LEANS_ON]
    rows = [[name, f"{lost.value:.4f}", f"{lost.low:.4f} to {lost.high:.4f}"] for name, lost in ranked]
    return [
        f"The loss of AUPRC on validation rows when a feature's values are shuffled, the mean of "
        f"{importance.repeats} times. It does not show causes, and features with the same information replace each "
        "other.",
        "",
        *_table(["feature", "loss of AUPRC", "minimum to maximum"], rows),
    ]


def _table(titles: list[str], rows: list[list[str]]) -> list[str]:
    lines = [titles, ["---"] * len(titles), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
