"""What `/metrics` tells Prometheus: what the processes have measured, and what the database knows at this moment."""

import logging
import os
from collections.abc import Iterator
from datetime import timedelta

from django.db import Error
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from monitoring import selectors
from scoring import metrics as scoring_metrics  # noqa: F401  # its metrics exist from its import on

logger = logging.getLogger(__name__)

LAST_HOUR = timedelta(hours=1)


def exposition() -> bytes:
    """All metrics as Prometheus's text.

    What is measured belongs to this process, or to all web processes together where they share
    `PROMETHEUS_MULTIPROC_DIR`.
    """
    measured = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        measured = CollectorRegistry()
        MultiProcessCollector(measured)
    known = CollectorRegistry()
    known.register(DatabaseCollector())
    return generate_latest(measured) + generate_latest(known)


class DatabaseCollector(Collector):
    """Reads the database at each scrape, at a cost that does not grow with the tables."""

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("fraudsite_database_up", "Whether the database answered this scrape.")
        try:
            yield from list(_of_database())
            up.add_metric([], 1)
        except Error as error:
            # What the process has measured is wanted most when something is wrong.
            logger.warning("The database did not answer a scrape: %s", error)
            up.add_metric([], 0)
        yield up


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

    champion = InfoMetricFamily("fraudsite_champion", "The model version that decides.")
    if version := selectors.champion():
        champion.add_metric([], {"version": version.version, "schema": version.schema})
    yield champion
