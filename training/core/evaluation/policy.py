"""Chooses the thresholds of a policy, on validation rows and never on test rows."""

import numpy as np

from training.core import evaluation
from training.core.configuration.sections import PolicySettings
from training.core.description import Metrics
from training.core.exceptions import ConfigurationError, NoThreshold
from training.core.scored import ScoredRows


def review_threshold(policy: PolicySettings, rows: ScoredRows, *, days: float | None) -> float:
    """The threshold above which a transaction is an alert, chosen as `policy.choose` says.

    Args:
        policy: the section of the configuration.
        rows: labels, scores and amounts of validation rows.
        days: how many days of traffic these rows are; None if it is not known.

    Raises:
        NoThreshold: no threshold meets the policy.
        ConfigurationError: the policy needs amounts or days that are not known.
    """
    match policy.choose:
        case "precision":
            target = policy.review_precision
            found = evaluation.threshold_for_precision(rows.labels, rows.scores, target)
            failure = f"No threshold has a precision of {target} on the validation rows. Lower policy.review_precision"
        case "f1":
            return evaluation.threshold_for_f1(rows.labels, rows.scores)
        case "cost":
            if np.isnan(rows.amounts).any():
                raise ConfigurationError("The model is not given the amount, so policy.choose cannot be cost.")
            cost = policy.review_cost
            found = evaluation.threshold_for_cost(rows.labels, rows.scores, rows.amounts, review_cost=cost)
            failure = f"At {cost} a review, alerts cost more than they save. Lower policy.review_cost"
        case "alerts_per_day":
            if days is None:
                raise ConfigurationError("The number of days is not known, so policy.choose cannot be alerts_per_day.")
            alerts = policy.alerts_per_day
            found = evaluation.threshold_for_alerts(rows.scores, alerts=alerts * days)
            failure = f"More than {alerts:g} rows a day share the highest score. Raise policy.alerts_per_day"
    if found is None:
        raise NoThreshold(f"{failure}, or train longer or on more rows.")
    return found


def block_threshold(policy: PolicySettings, rows: ScoredRows, *, review: float) -> float | None:
    """The threshold from which on a transaction is blocked, never below the review threshold; None blocks nothing."""
    found = evaluation.threshold_for_precision(rows.labels, rows.scores, policy.block_precision)
    return None if found is None else max(review, found)


def metrics_at(
    policy: PolicySettings,
    rows: ScoredRows,
    *,
    threshold: float,
    resamples: int,
    seed: int,
    weights: np.ndarray | None = None,
) -> Metrics:
    """The metrics of rows at a threshold, see `evaluation.evaluate`; with costs if amounts are known."""
    return evaluation.evaluate(
        rows.labels,
        rows.scores,
        threshold=threshold,
        resamples=resamples,
        seed=seed,
        amounts=None if np.isnan(rows.amounts).any() else rows.amounts,
        review_cost=policy.review_cost,
        weights=weights,
    )
