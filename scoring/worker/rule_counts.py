"""Adds the tallies of policies to the database: what became of each rule, by minute.

Counts are in memory for some seconds, which costs a call next to nothing. While the database is away they wait; a
worker that is killed loses its latest ones. What a rule matched exactly, the evidence of predictions tells.
"""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from django.db import Error, connection, transaction

from scoring.models import RuleCount, RuleOfClientCount
from scoring.policies.engine import Policy, Tally
from scoring.policies.expressions import Outcome
from training import clock

INTERVAL_S = 5.0
TABLE = RuleCount._meta.db_table
COLUMNS = ("decided", "matched", "absent", "failed")
ADD = (
    f"INSERT INTO {TABLE} (minute, policy_id, rule, {', '.join(COLUMNS)}) VALUES (%s, %s, %s, %s, %s, %s, %s) "  # noqa: S608
    "ON CONFLICT (minute, policy_id, rule) DO UPDATE SET "
    + ", ".join(f"{name} = {TABLE}.{name} + excluded.{name}" for name in COLUMNS)
)
OF_CLIENTS = RuleOfClientCount._meta.db_table
ADD_OF_CLIENT = (
    f"INSERT INTO {OF_CLIENTS} (minute, client, policy_id, rule, {', '.join(COLUMNS)}) "  # noqa: S608
    "VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (minute, client, policy_id, rule) DO UPDATE SET "
    + ", ".join(f"{name} = {OF_CLIENTS}.{name} + excluded.{name}" for name in COLUMNS)
)
OUTCOMES = (Outcome.MATCHED, Outcome.ABSENT, Outcome.FAILED)

_flushed_at = 0.0


def flush_in_time(policies: Iterable[Policy]) -> None:
    """Flush the tallies of these policies, if the last time was `INTERVAL_S` ago."""
    global _flushed_at
    if time.monotonic() - _flushed_at >= INTERVAL_S:
        _flushed_at = time.monotonic()
        for policy in policies:
            flush(policy)


def flush(policy: Policy) -> None:
    """Add the tally of a policy to the database; if that fails, it is kept for the next time.

    Raises:
        django.db.DatabaseError: the database does not answer.
    """
    if policy.pk is None or not policy.tally.decided:
        return
    taken = policy.tally.take()
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.executemany(ADD, _rows(policy, taken))
            cursor.executemany(ADD_OF_CLIENT, _rows_of_clients(policy, taken))
    except Error:
        policy.tally.give_back(taken)
        raise


def _rows(policy: Policy, taken: Tally) -> list[tuple[Any, ...]]:
    moment, of_all, decided = _minute(), taken.of_all(), taken.decided.total()
    # Every process writes in the same order; otherwise two of them could deadlock.
    return [
        (moment, policy.pk, rule.name, decided, *(of_all[rule.name, outcome] for outcome in OUTCOMES))
        for rule in sorted(policy.document.evaluated_rules, key=lambda rule: rule.name)
    ]


def _rows_of_clients(policy: Policy, taken: Tally) -> list[tuple[Any, ...]]:
    moment = _minute()
    rows = [(moment, client, policy.pk, "", number, 0, 0, 0) for client, number in taken.decided.items()]
    for client, rule in {(client, rule) for client, rule, _ in taken.outcomes}:
        counts = (taken.outcomes[client, rule, outcome] for outcome in OUTCOMES)
        rows.append((moment, client, policy.pk, rule, 0, *counts))
    return sorted(rows)


def _minute() -> Any:
    minute = datetime.fromtimestamp(60 * (clock.seconds() // 60), UTC)
    return RuleCount._meta.get_field("minute").get_db_prep_save(minute, connection)
