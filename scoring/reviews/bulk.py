"""What many labels at once need of the database: to find rows by thousands of keys, and to insert thousands of rows.

Django writes each value into the statement's text, which took most of the time of a bulk call on PostgreSQL.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import psycopg
from django.db import connection
from django.db.models import CharField, UUIDField
from django.db.models.lookups import In

from scoring.models import Label

INSERT = """
INSERT INTO scoring_label
    (transaction_id, is_fraud, kind, verdict, sequence, source, event_time, amount, reference, identity, reason,
     created_at)
SELECT * FROM unnest(
    %b::uuid[], %b::bool[], %b::text[], %b::bool[], %b::bigint[], %b::text[], %b::timestamptz[], %b::float8[],
    %b::text[], %b::text[], %b::text[], %b::timestamptz[]
)
"""
COLUMNS = (
    *("transaction_id", "is_fraud", "kind", "verdict", "sequence", "source", "event_time", "amount", "reference"),
    *("identity", "reason", "created_at"),
)


@CharField.register_lookup
@UUIDField.register_lookup
class Among(In):
    """`IN`, with all values in one parameter on PostgreSQL."""

    lookup_name = "among"

    def as_postgresql(self, compiler: Any, connection: Any) -> tuple[str, list[Any]]:
        left, params = self.process_lhs(compiler, connection)
        return f"{left} = ANY(%s)", [*params, list(self.rhs)]


def insert(labels: Sequence[Label]) -> None:
    """Insert labels of clients, in this order. On PostgreSQL they do not get their keys.

    Raises:
        django.db.IntegrityError: the identity of one is stored.
    """
    if connection.vendor != "postgresql":
        Label.objects.bulk_create(labels)
    elif labels:
        columns = [list(column) for column in zip(*map(attrgetter(*COLUMNS), labels), strict=True)]
        connection.ensure_connection()
        with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
            cursor.execute(INSERT, columns)
