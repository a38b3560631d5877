"""The time by which alerts are judged and told: that of the database, which all machines share.

So a scheduler or worker whose clock is wrong fires nothing and holds nothing up. SQLite is on the machine itself.
"""

from datetime import UTC, datetime

from django.db import connection
from django.utils import timezone


def now() -> datetime:
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        # The time of the statement: that of the transaction stands still in a long one.
        cursor.execute("SELECT clock_timestamp()")
        [found] = cursor.fetchone()
    return found.astimezone(UTC)
