import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.management import CommandError
from django.core.management.commands import migrate
from django.db import OperationalError, connections
from psycopg.errors import LockNotAvailable

PAUSE_S = 1.0


class Command(migrate.Command):
    """Django's command, which never makes others wait for long.

    A change of a table waits for all transactions that use it, and whoever comes later waits behind it: one long report
    would stop all predict calls. So it waits for MIGRATE_LOCK_WAIT_MS, lets the others through, and tries again.
    """

    def handle(self, *args: Any, **options: Any) -> None:
        give_up = time.monotonic() + settings.MIGRATE_PATIENCE_S
        while True:
            try:
                with _short_waits(options["database"]):
                    super().handle(*args, **options)
                return
            except OperationalError as error:
                if not isinstance(error.__cause__, LockNotAvailable):
                    raise
                if time.monotonic() > give_up:
                    raise CommandError(
                        f"A table was in use for MIGRATE_PATIENCE_S, {settings.MIGRATE_PATIENCE_S} s. What was "
                        "migrated stays so. End long transactions, which pg_stat_activity shows, and run it again."
                    ) from error
            self.stdout.write("A table is in use by a long transaction; trying again.")
            time.sleep(PAUSE_S)


@contextmanager
def _short_waits(database: str) -> Iterator[None]:
    connection = connections[database]
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, false)", [f"{settings.MIGRATE_LOCK_WAIT_MS}ms"])
    try:
        yield
    finally:
        if connection.is_usable():
            with connection.cursor() as cursor:
                cursor.execute("RESET lock_timeout")
