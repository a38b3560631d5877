"""The rules that every installation has. Each `migrate` adds those that are missing, and changes none: from then on
their levels are the operators'."""

from typing import Any

from monitoring.alerts.models import Severity

INFO, WARNING, CRITICAL = Severity.INFO, Severity.WARNING, Severity.CRITICAL
# Five deviations: chance alone goes so far once in millions of hours.
FAR = {"fires_at": 5.0, "clears_at": 2.0, "min_samples": 100, "calm_min": 180}

RULES: dict[str, dict[str, Any]] = {
    "client_silence": {"name": "A client is silent", "fires_at": 20.0, "clears_at": 5.0},
    "silence": {"name": "No traffic", "severity": CRITICAL, "fires_at": 20.0, "clears_at": 5.0},
    "transactions": {
        "name": "Less traffic than usual",
        "fires_at": -5.0,
        "clears_at": -2.0,
        "least_ratio": 2.0,
        "lasts_min": 120,
        "calm_min": 120,
    },
    "alert_rate": {"name": "More alerts than usual", "least_ratio": 1.5, **FAR},
    "client_alert_rate": {"name": "More alerts of a client than usual", "least_ratio": 1.5, **FAR},
    "segment_fraud_hour": {"name": "More fraud in a segment, within an hour", "least_ratio": 1.5, **FAR},
    "segment_fraud_day": {"name": "More fraud in a segment, within a day", "least_ratio": 1.5, **FAR},
    "feature_drift": {
        "name": "A feature has moved",
        "fires_at": 0.25,
        "clears_at": 0.15,
        "lasts_min": 20,
        "calm_min": 20,
    },
    "score_drift": {
        "name": "The score has moved",
        "fires_at": 0.25,
        "clears_at": 0.15,
        "lasts_min": 20,
        "calm_min": 20,
    },
    "unseen_values": {
        "name": "A category has new values",
        "fires_at": 0.01,
        "clears_at": 0.002,
        "lasts_min": 20,
        "calm_min": 20,
    },
    "missing_values": {
        "name": "Values are missing",
        "fires_at": 0.05,
        "clears_at": 0.02,
        "lasts_min": 20,
        "calm_min": 20,
    },
    "precision": {"name": "Precision is too low", "fires_at": 0.7, "clears_at": 0.75, "min_samples": 50},
    "latency_p99": {
        "name": "Answers are slow",
        "fires_at": 500.0,
        "clears_at": 300.0,
        "lasts_min": 10,
        "calm_min": 10,
        "min_samples": 100,
    },
    "unscored": {
        "name": "Answers without a score",
        "severity": CRITICAL,
        "fires_at": 0.05,
        "clears_at": 0.01,
        "lasts_min": 5,
        "calm_min": 5,
        "min_samples": 20,
    },
    "refused_by_us": {
        "name": "Calls are refused",
        "severity": CRITICAL,
        "fires_at": 0.05,
        "clears_at": 0.01,
        "lasts_min": 5,
        "calm_min": 5,
        "min_samples": 20,
    },
    "refused_by_fault": {
        "name": "Calls are faulty",
        "severity": INFO,
        "fires_at": 0.2,
        "clears_at": 0.1,
        "lasts_min": 15,
        "calm_min": 15,
        "min_samples": 50,
    },
    "review_age": {
        "name": "Reviews wait too long",
        "fires_at": 48.0,
        "clears_at": 24.0,
        "lasts_min": 10,
        "calm_min": 10,
    },
    "set_aside": {"name": "Transactions are set aside", "fires_at": 1.0, "clears_at": 0.0},
    "workers": {
        "name": "No worker scores",
        "severity": CRITICAL,
        "fires_at": 0.0,
        "clears_at": 1.0,
        "lasts_min": 2,
        "calm_min": 2,
    },
    "workers_lost": {"name": "Workers are lost", "fires_at": 1.0, "clears_at": 0.0, "lasts_min": 3, "calm_min": 3},
    "models_refused": {
        "name": "Workers refuse the champion",
        "fires_at": 1.0,
        "clears_at": 0.0,
        "lasts_min": 2,
        "calm_min": 2,
    },
    "webhooks_dead": {"name": "Webhooks were given up", "fires_at": 1.0, "clears_at": 0.0},
    "webhook_wait": {"name": "Webhooks wait", "fires_at": 10.0, "clears_at": 2.0, "lasts_min": 5, "calm_min": 5},
    "disk_free": {"name": "The disk is nearly full", "severity": CRITICAL, "fires_at": 0.1, "clears_at": 0.15},
    "counting_behind": {
        "name": "Counting is behind",
        "fires_at": 10.0,
        "clears_at": 5.0,
        "lasts_min": 5,
        "calm_min": 5,
    },
}


def write_rules(apps: Any, **_: Any) -> None:
    """Add the default rules that are missing. `apps` are the models as they are after the migrations that have run."""
    try:
        rules = apps.get_model("monitoring", "AlertRule").objects
    except LookupError:
        return  # of a version before these rules
    missing = RULES.keys() - set(rules.exclude(key="").values_list("key", flat=True))
    rules.bulk_create(
        (rules.model(key=key, measure=key, **RULES[key]) for key in RULES if key in missing), ignore_conflicts=True
    )
