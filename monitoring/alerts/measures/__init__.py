"""All that rules can watch, by name."""

from functools import cache
from urllib.parse import urlencode

from django.urls import reverse

from monitoring.alerts.conditions import Direction
from monitoring.alerts.measures import drift, gauges, outcomes, segments, silence, traffic
from monitoring.alerts.measures.base import DAY, HOUR, MINUTE, Measure, Subject

ABOVE, BELOW = Direction.ABOVE, Direction.BELOW


def _dashboard(subject: Subject) -> str:
    choice = {"schema": subject.schema, "client": subject.client or "", "window": "24h"}
    return f"{reverse('dashboard')}?{urlencode({name: value for name, value in choice.items() if value})}"


def _drift(subject: Subject) -> str:
    return f"{reverse('dashboard_drift')}?{urlencode({'schema': subject.schema, 'window': '24h'})}"


def _outcomes(subject: Subject) -> str:
    return f"{reverse('dashboard_model')}?{urlencode({'schema': subject.schema})}"


def _reviews(subject: Subject) -> str:
    return reverse("admin:scoring_review_changelist")


def _models(_: Subject) -> str:
    return reverse("admin:training_modelversion_changelist")


def _pending(_: Subject) -> str:
    return reverse("admin:scoring_pending_changelist")


def _endpoints(_: Subject) -> str:
    return reverse("admin:scoring_webhookendpoint_changelist")


def _policy(_: Subject) -> str:
    return reverse("admin:scoring_policyversion_changelist")


def _rules(_: Subject) -> str:
    return reverse("admin:monitoring_alertrule_changelist")


@cache
def all_of_them() -> dict[str, Measure]:
    """The measures by name, in the order in which pages list them."""
    gauge = gauges.reading
    minute, few, ten = MINUTE, traffic.FEW_MINUTES, drift.TEN_MINUTES
    found = [
        Measure(
            "client_silence",
            "Silence of a client",
            "How many transactions should have come from the client since its last one.",
            "expected transactions",
            ABOVE,
            few,
            silence.client_silence,
            _dashboard,
            is_by_client=True,
        ),
        Measure(
            "silence",
            "Silence of a schema",
            "How many transactions of the schema should have come since the last one.",
            "expected transactions",
            ABOVE,
            few,
            silence.silence,
            _dashboard,
        ),
        Measure(
            "transactions",
            "Transactions of an hour",
            "Scored transactions of an hour, compared with the same hour of earlier weeks.",
            "",
            BELOW,
            HOUR,
            traffic.transactions,
            _dashboard,
            is_seasonal=True,
        ),
        Measure(
            "alert_rate",
            "Share of alerts",
            "Alerts among the transactions of an hour, compared with the same hour of earlier weeks.",
            "share",
            ABOVE,
            HOUR,
            traffic.alert_rate,
            _dashboard,
            is_seasonal=True,
        ),
        Measure(
            "client_alert_rate",
            "Share of alerts of a client",
            "Alerts among a client's transactions of an hour, compared with the same hour of earlier weeks.",
            "share",
            ABOVE,
            HOUR,
            traffic.client_alert_rate,
            _dashboard,
            is_seasonal=True,
            is_by_client=True,
        ),
        Measure(
            "segment_fraud_hour",
            "Expected fraud in a segment, by the hour",
            "The mean score of a segment's transactions of an hour, compared with the same hour of earlier weeks.",
            "share",
            ABOVE,
            HOUR,
            segments.expected_fraud,
            _policy,
            is_seasonal=True,
        ),
        Measure(
            "segment_fraud_day",
            "Expected fraud in a segment, of 24 hours",
            "The mean score of a segment's transactions of 24 hours, compared with the same ones of earlier weeks.",
            "share",
            ABOVE,
            HOUR,
            segments.expected_fraud,
            _policy,
            window=24,
            is_seasonal=True,
        ),
        Measure(
            "feature_drift",
            "Drift of features",
            "The largest population stability index of the champion's features, without those of the clock.",
            "psi",
            ABOVE,
            ten,
            drift.features,
            _drift,
        ),
        Measure(
            "score_drift",
            "Drift of the score",
            "The population stability index of the champion's score.",
            "psi",
            ABOVE,
            ten,
            drift.score,
            _drift,
        ),
        Measure(
            "unseen_values",
            "New values of a category",
            "By how much the share of values that no training row had lies above that of the training rows, at least.",
            "share",
            ABOVE,
            ten,
            drift.unseen,
            _drift,
        ),
        Measure(
            "missing_values",
            "Missing values",
            "By how much the share of missing values lies above that of the training rows, at least.",
            "share",
            ABOVE,
            ten,
            drift.missing,
            _drift,
        ),
        Measure(
            "precision",
            "Precision of alerts, at best",
            "The upper end of the 95 % interval of the precision of the champion's last 28 matured days.",
            "share",
            BELOW,
            DAY,
            outcomes.precision_at_best,
            _outcomes,
        ),
        Measure(
            "latency_p99",
            "Latency, 99th percentile",
            "From the arrival of a request to just before its commit; 99 of 100 are faster, in five minutes.",
            "ms",
            ABOVE,
            few,
            traffic.latency_p99,
            _dashboard,
        ),
        Measure(
            "unscored",
            "Answers without a score",
            "The share of answers of five minutes that rules gave, as no worker could score in time.",
            "share",
            ABOVE,
            few,
            traffic.unscored_rate,
            _dashboard,
        ),
        Measure(
            "refused_by_us",
            "Calls refused by us",
            "The share of calls of five minutes that got 429 or 5xx, of all schemas together.",
            "share",
            ABOVE,
            few,
            traffic.refused_by_us,
            _dashboard,
            is_by_schema=False,
        ),
        Measure(
            "refused_by_fault",
            "Calls refused for a fault of theirs",
            "The share of calls of five minutes that got another 4xx, of all schemas together.",
            "share",
            ABOVE,
            few,
            traffic.refused_by_fault,
            _dashboard,
            is_by_schema=False,
        ),
        Measure(
            "review_age",
            "Age of the oldest review",
            "How long the oldest review that could be done has been open.",
            "h",
            ABOVE,
            minute,
            gauge("review_age"),
            _reviews,
        ),
        Measure(
            "set_aside",
            "Transactions set aside",
            "Stored transactions without a score that are not tried any more.",
            "",
            ABOVE,
            minute,
            gauge("set_aside"),
            _pending,
            is_by_schema=False,
        ),
        Measure(
            "workers",
            "Workers",
            "Worker processes that score what somebody waits for.",
            "",
            BELOW,
            minute,
            gauge("workers"),
            _models,
            is_by_schema=False,
        ),
        Measure(
            "workers_lost",
            "Workers lost",
            "How many fewer worker processes there are than within the last hour.",
            "",
            ABOVE,
            minute,
            gauge("workers_lost"),
            _models,
            is_by_schema=False,
        ),
        Measure(
            "models_refused",
            "Champion refused",
            "Worker processes that refuse the champion's bundle and go on with the model before.",
            "",
            ABOVE,
            minute,
            gauge("models_refused"),
            _models,
        ),
        Measure(
            "webhooks_dead",
            "Webhooks given up",
            "Deliveries of webhooks that were given up in the last hour.",
            "",
            ABOVE,
            minute,
            gauge("webhooks_dead"),
            _endpoints,
            is_by_schema=False,
        ),
        Measure(
            "webhook_wait",
            "Wait of webhooks",
            "How long the webhook that waits longest has waited, of active endpoints.",
            "min",
            ABOVE,
            minute,
            gauge("webhook_wait"),
            _endpoints,
            is_by_schema=False,
        ),
        Measure(
            "disk_free",
            "Free disk",
            "The share of the disk that is free where VAR_DIR is, on each machine that evaluates.",
            "share",
            BELOW,
            minute,
            gauge("disk_free"),
            _rules,
            is_by_schema=False,
        ),
        Measure(
            "counting_behind",
            "Counting is behind",
            "For how long the roll-ups have not been complete.",
            "min",
            ABOVE,
            minute,
            gauge("counting_behind"),
            _dashboard,
            is_by_schema=False,
        ),
    ]
    return {measure.name: measure for measure in found}
