"""What Fraudsite stands on: the database, Redis and the store."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import redis
from django.conf import settings
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor

from fraudsite.doctor.findings import Finding, error, ok, said, warning
from scoring.worker import workers
from training import store
from training.core.exceptions import StoreUnavailable

POSTGRESQL = 15
# Older ones have known vulnerabilities: docs/operators.md, Redis.
REDIS, VALKEY = (8, 2, 3), (8, 1, 5)
CONTENT = b"written by manage.py doctor"


def database() -> Iterator[Finding]:
    began = time.time()
    try:
        with connection.cursor() as cursor:
            if connection.vendor == "sqlite":
                cursor.execute("SELECT 1")
                yield warning("database", "It is SQLite.", "Use PostgreSQL for real traffic: set DATABASE_URL.")
            else:
                cursor.execute(
                    "SELECT extract(epoch FROM clock_timestamp())::float8, current_setting('server_version_num')::int,"
                    " current_setting('fsync'), current_setting('synchronous_commit'),"
                    " current_setting('max_connections')::int, (SELECT count(*) FROM pg_stat_activity)"
                )
                yield from _postgresql(began, *cursor.fetchone())
    except Error as fault:
        yield error("database", f"It does not answer: {said(fault)}", "Start it, or mend DATABASE_URL.")
        return
    yield from _migrations()


def _postgresql(
    began: float, now: float, version: int, fsync: str, commit: str, limit: int, used: int
) -> Iterator[Finding]:
    if version // 10_000 < POSTGRESQL:
        words = f"It is PostgreSQL {version // 10_000}."
        yield error("database", words, f"Upgrade it to {POSTGRESQL} or later.")
    else:
        yield ok("database", f"PostgreSQL {version // 10_000} answers.")
    if fsync != "on" or commit in ("off", "local"):
        remedy = "Set both to on: an answer means that the row survives a power cut."
        yield error("database", f"fsync is {fsync} and synchronous_commit is {commit}.", remedy)
    if used > 0.8 * limit:
        remedy = "Raise max_connections, or lower DATABASE_POOL_SIZE."
        yield warning("database", f"{used} of {limit} connections are in use.", remedy)
    yield _clock("of the database", began, now)


def _migrations() -> Iterator[Finding]:
    executor = MigrationExecutor(connection)
    waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if waiting:
        first = f"{waiting[0][0].app_label}.{waiting[0][0].name}"
        yield error("migrations", f"{len(waiting)} are not applied, the first is {first}.", "Run `manage.py migrate`.")
    else:
        yield ok("migrations", "All are applied.")


def broker() -> Iterator[Finding]:
    began = time.time()
    try:
        with workers.connect() as client:
            seconds, microseconds = client.time()
            server, policy = client.info("server"), client.config_get("maxmemory-policy")
            is_persistent = client.config_get("appendonly").get("appendonly") == "yes"
    except redis.RedisError as fault:
        yield error("redis", f"It does not answer: {fault}", "Start it, or mend REDIS_URL.")
        return
    name, wanted = ("Valkey", VALKEY) if "valkey_version" in server else ("Redis", REDIS)
    version = str(server.get("valkey_version") or server["redis_version"])
    if tuple(map(int, version.split("."))) < wanted:
        remedy = f"Upgrade it to {'.'.join(map(str, wanted))} or later: older ones have known vulnerabilities."
        yield warning("redis", f"It is {name} {version}.", remedy)
    else:
        yield ok("redis", f"{name} {version} answers.")
    if policy.get("maxmemory-policy") != "noeviction":
        words = f"maxmemory-policy is {policy.get('maxmemory-policy')}."
        yield error("redis", words, "Set it to noeviction: a broker that evicts loses messages.")
    if not is_persistent:
        yield warning("redis", "appendonly is off.", "Set it to yes: then a restart loses fewer messages.")
    yield _clock("of Redis", began, seconds + microseconds / 1e6)


def _clock(whose: str, began: float, there: float) -> Finding:
    """Compare a server's clock with this machine's. The answer was made between `began` and now."""
    ended = time.time()
    apart = max(began - there, there - ended, 0.0)
    here = datetime.fromtimestamp(ended, UTC)
    if apart > settings.DOCTOR_CLOCK_SKEW_S:
        words = f"The clock {whose} is {apart:,.1f} s from this machine's, {here:%Y-%m-%d %H:%M:%S} UTC."
        return error("clock", words, "Have NTP set the clocks of all machines.")
    return ok("clock", f"The clock {whose} is within {max(apart, ended - began):.1f} s of this machine's.")


def files() -> Iterator[Finding]:
    name = f"doctor/{uuid4()}"
    try:
        store.write(name, CONTENT)
        try:
            found = store.read(name)
        finally:
            store.delete(name)
    except (StoreUnavailable, FileNotFoundError) as fault:
        yield error("store", f"It cannot be used: {fault}", "Mend STORAGE_URL, its rights or its disk.")
        return
    if found != CONTENT:
        yield error("store", "It gives back something else than was written.", "Look for what changes its files.")
    else:
        yield ok("store", "A file was written, read and deleted.")
