"""The Prometheus metrics of `/metrics`: those that the processes measure, and those read from the database."""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import redis
from django.db import Error
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from monitoring import selectors
from scoring import metrics as scoring_metrics  # noqa: F401  # its metrics exist from its import on
from scoring.policies import capacity
from scoring.worker import workers
from training import registry

logger = logging.getLogger(__name__)

LAST_HOUR = timedelta(hours=1)


def exposition() -> bytes:
    """All metrics in Prometheus's text format.

    Measured metrics are those of this process, or of all web processes that share `PROMETHEUS_MULTIPROC_DIR`.
    """
    measured = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        measured = CollectorRegistry()
        MultiProcessCollector(measured)
    known = CollectorRegistry()
    known.register(DatabaseCollector())
    known.register(WorkerCollector())
    return generate_latest(measured) + generate_latest(known)


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
        labels = ["schema", "version"]
        loaded = GaugeMetricFamily(
            "fraudsite_worker_models", "Worker processes that score with a version.", labels=labels
        )
        refused = GaugeMetricFamily(
            "fraudsite_refused_models",
            "Worker processes that refuse a champion.",
            labels=labels,
        )
        try:
            at_work = workers.known()
        except redis.RedisError as error:
            logger.warning("The workers' status could not be read: %s", error)
            at_work = []
        scoring = Counter(pair for status in at_work for pair in status.versions.items())
        refusing = Counter(
            (schema, refusal.version) for status in at_work for schema, refusal in status.refused.items()
        )
        for family, counts in ((loaded, scoring), (refused, refusing)):
            for pair, count in counts.items():
                family.add_metric(pair, count)
            yield family


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

    champion = InfoMetricFamily("fraudsite_champion", "The model versions that decide, one per schema.")
    for version in registry.champions():
        champion.add_metric([], {"version": version.version, "schema": version.schema})
    yield champion
