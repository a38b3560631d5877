"""The Prometheus metrics of `/metrics`: those that the processes measure, and those read from the database."""

import logging
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import redis
from django.db import Error
from django.utils import timezone
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from monitoring import selectors
from monitoring.matured import report
from scoring import metrics as scoring_metrics  # noqa: F401  # its metrics exist from its import on
from scoring.policies import capacity
from scoring.streams import figures as streams
from scoring.telemetry import pool, port, tasks  # noqa: F401  # likewise
from scoring.webhooks import figures as webhooks
from scoring.worker import workers
from training import registry
from training.models import ModelVersion

logger = logging.getLogger(__name__)

LAST_HOUR = timedelta(hours=1)


def exposition() -> bytes:
    """All metrics in Prometheus's text format.

    Measured metrics are those of this process, or of all web processes that share `PROMETHEUS_MULTIPROC_DIR`.
    """
    known = CollectorRegistry()
    known.register(DatabaseCollector())
    known.register(WorkerCollector())
    known.register(StreamCollector())
    return generate_latest(port.measured()) + generate_latest(known)


class DatabaseCollector(Collector):
    """Reads the database at each scrape, at a cost that does not grow with the tables."""

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("fraudsite_database_up", "Whether the database answered this scrape.")
        try:
            yield from list(_of_database())
            up.add_metric([], 1)
        except Error as error:
            # The measured metrics are still sent: they matter most when something is wrong.
            logger.warning("The database did not answer a scrape: %s", error)
            up.add_metric([], 0)
        yield up


class WorkerCollector(Collector):
    """Reads the status that the worker processes publish; gives no values while Redis is away."""

    def collect(self) -> Iterator[Metric]:
        loaded = GaugeMetricFamily(
            "fraudsite_worker_models",
            "Worker processes that score with a version.",
            labels=["schema", "version", "queue"],
        )
        refused = GaugeMetricFamily(
            "fraudsite_refused_models",
            "Worker processes that refuse a champion.",
            labels=["schema", "version"],
        )
        depth = GaugeMetricFamily("fraudsite_queue_messages", "Messages that wait for a worker.", labels=["queue"])
        try:
            at_work, waiting = workers.known(), workers.waiting()
        except redis.RedisError as error:
            logger.warning("The workers' status could not be read: %s", error)
            at_work, waiting = [], {}
        for queue, messages in waiting.items():
            depth.add_metric([queue], messages)
        yield depth
        scoring = Counter((*pair, status.queue) for status in at_work for pair in status.versions.items())
        refusing = Counter(
            (schema, refusal.version) for status in at_work for schema, refusal in status.refused.items()
        )
        for family, counts in ((loaded, scoring), (refused, refusing)):
            for of, count in counts.items():
                family.add_metric(of, count)
            yield family


class StreamCollector(Collector):
    """Asks the Redis of the streams how far they are; gives no values while it is away."""

    def collect(self) -> Iterator[Metric]:
        entries = GaugeMetricFamily(
            "fraudsite_stream_entries",
            "Entries of a stream that were not read, or read and not answered, and those set aside.",
            labels=["stream", "state"],
        )
        try:
            standings = streams.standings()
        except redis.RedisError as error:
            logger.warning("The streams could not be looked at: %s", error)
            standings = {}
        for stream, standing in standings.items():
            for state, count in standing._asdict().items():
                if count is not None:
                    entries.add_metric([stream, state], count)
        yield entries


def _of_database() -> Iterator[Metric]:
    yield GaugeMetricFamily("fraudsite_open_reviews", "Reviews that wait for an analyst.", selectors.open_reviews())

    pending = GaugeMetricFamily(
        "fraudsite_pending_transactions",
        "Stored transactions without a score. set_aside: no further attempt is made.",
        labels=["state"],
    )
    unscored = selectors.unscored()
    pending.add_metric(["waiting"], unscored.waiting)
    pending.add_metric(["set_aside"], unscored.set_aside)
    yield pending

    last_hour = GaugeMetricFamily(
        "fraudsite_transactions_last_hour", "Transactions scored in the last 60 minutes.", labels=["decision"]
    )
    for decision, count in selectors.decisions(LAST_HOUR).items():
        last_hour.add_metric([decision], count)
    yield last_hour

    can = GaugeMetricFamily(
        "fraudsite_review_capacity", "Reviews a day that can be done, as the live policy says.", labels=["schema"]
    )
    opened = GaugeMetricFamily(
        "fraudsite_reviews_last_day",
        "Reviews opened in the last 24 hours, where the live policy says how many can be done.",
        labels=["schema"],
    )
    for schema, load in capacity.declared().items():
        can.add_metric([schema], load.capacity or 0.0)
        opened.add_metric([schema], load.day)
    yield from (can, opened)

    yield from _of_webhooks()
    champions = list(registry.champions())
    yield from _of_outcomes(champions)

    champion = InfoMetricFamily("fraudsite_champion", "The model versions that decide, one per schema.")
    for version in champions:
        champion.add_metric([], {"version": version.version, "schema": version.schema})
    yield champion


def _of_webhooks() -> Iterator[Metric]:
    deliveries = GaugeMetricFamily(
        "fraudsite_webhook_deliveries", "Webhooks that wait to be delivered, and those given up.", labels=["state"]
    )
    for state in ("pending", "dead"):
        deliveries.add_metric([state], webhooks.deliveries(state))
    yield deliveries
    yield GaugeMetricFamily(
        "fraudsite_webhook_oldest_pending_seconds",
        "For how long the webhook that waits longest has waited.",
        webhooks.oldest_pending_s(),
    )
    took = GaugeMetricFamily(
        "fraudsite_webhook_attempt_seconds", "How long the latest attempts to deliver took.", labels=["quantile"]
    )
    for quantile, seconds in webhooks.attempt_seconds():
        took.add_metric([f"{quantile:g}"], seconds)
    yield took


def _of_outcomes(champions: list[ModelVersion]) -> Iterator[Metric]:
    """What each champion's decisions of the last matured days came to; no value where it cannot be told."""
    labels = ["schema", "version"]
    precision = GaugeMetricFamily(
        "fraudsite_precision_matured", "Precision of alerts in the last 28 matured days.", labels=labels
    )
    recall = GaugeMetricFamily(
        "fraudsite_recall_matured",
        "Recall in the last 28 matured days; only where a random sample was judged.",
        labels=labels,
    )
    final = GaugeMetricFamily(
        "fraudsite_outcomes_final", "Share of the decisions of these days with a final outcome.", labels=labels
    )
    for version in champions:
        if figures := report.latest_matured(version.schema, version.version, timezone.now()):
            of = [version.schema, version.version]
            final.add_metric(of, figures.is_final)
            for family, share in ((precision, figures.precision), (recall, figures.recall)):
                if share.value is not None:
                    family.add_metric(of, share.value)
    yield from (precision, recall, final)
