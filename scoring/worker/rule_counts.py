"""Adds the tallies of policies to the database: what became of each rule, by minute.

Counts are in memory for some seconds, which costs a call next to nothing. While the database is away they wait; a
worker that is killed loses its latest ones. What a rule matched exactly, the evidence of predictions tells.
"""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from django.db import Error, connection, transaction

from scoring.models import RuleCount
from scoring.policies.engine import Policy, Tally
from scoring.policies.expressions import Outcome

INTERVAL_S = 5.0
TABLE = RuleCount._meta.db_table
COLUMNS = ("decided", "matched", "absent", "failed")
ADD = (
    f"INSERT INTO {TABLE} (minute, policy_id, rule, {', '.join(COLUMNS)}) VALUES (%s, %s, %s, %s, %s, %s, %s) "  # noqa: S608
    "ON CONFLICT (minute, policy_id, rule) DO UPDATE SET "
    + ", ".join(f"{name} = {TABLE}.{name} + excluded.{name}" for name in COLUMNS)
)

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
    except Error:
        policy.tally.decided += taken.decided
        policy.tally.outcomes.update(taken.outcomes)
        raise


def _rows(policy: Policy, taken: Tally) -> list[tuple[Any, ...]]:
    minute = datetime.fromtimestamp(60 * (time.time() // 60), UTC)
    moment = RuleCount._meta.get_field("minute").get_db_prep_save(minute, connection)
    outcomes = (Outcome.MATCHED, Outcome.ABSENT, Outcome.FAILED)
    # Every process writes in the same order; otherwise two of them could deadlock.
    return [
        (moment, policy.pk, rule.name, taken.decided, *(taken.outcomes[rule.name, outcome] for outcome in outcomes))
        for rule in sorted(policy.document.evaluated_rules, key=lambda rule: rule.name)
    ]
