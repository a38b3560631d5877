"""Prometheus metrics of the pool of database connections that the threads of a web process share."""

import threading
import time
from typing import Any

from django.db import connection
from prometheus_client import Counter, Gauge

INTERVAL_S = 5.0

CONNECTIONS = Gauge(
    "fraudsite_database_pool_connections",
    "Connections of the web processes' pools.",
    ["state"],
    multiprocess_mode="livesum",
)
WAITING = Gauge("fraudsite_database_pool_waiting", "Threads that wait for a connection.", multiprocess_mode="livesum")
WAITS = Counter("fraudsite_database_pool_waits", "How often a thread had to wait for a connection.")
WAITED = Counter("fraudsite_database_pool_wait_seconds", "How long threads have waited for connections.")
TIMEOUTS = Counter("fraudsite_database_pool_timeouts", "How often a thread waited in vain.")


def follow() -> None:
    """Measure the pool of this process every few seconds from now on. Without a pool, do nothing."""
    if connection.vendor == "postgresql" and connection.settings_dict["OPTIONS"].get("pool"):
        threading.Thread(target=_follow, name="pool-metrics", daemon=True).start()


def _follow() -> None:
    while True:
        observe(connection.pool)  # type: ignore[attr-defined]  # which only the stubs of PostgreSQL's connections have
        time.sleep(INTERVAL_S)


def observe(pool: Any) -> None:
    """Add what a `psycopg_pool.ConnectionPool` tells of itself since the last time."""
    told = pool.pop_stats()
    idle = told.get("pool_available", 0)
    CONNECTIONS.labels("idle").set(idle)
    CONNECTIONS.labels("used").set(told.get("pool_size", 0) - idle)
    WAITING.set(told.get("requests_waiting", 0))
    WAITS.inc(told.get("requests_queued", 0))
    WAITED.inc(told.get("requests_wait_ms", 0) / 1000)
    TIMEOUTS.inc(told.get("requests_errors", 0))
