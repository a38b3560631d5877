from argparse import ArgumentParser
from typing import Any

from django.core.management import BaseCommand, CommandError
from django.db import connection

# In this order. The owner of the tables makes links, by a trigger.
GRANTS = """
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role};
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {role};
REVOKE ALL ON {schema}.audit_entry, {schema}.audit_link FROM {role};
GRANT SELECT, INSERT ON {schema}.audit_entry TO {role};
GRANT SELECT ON {schema}.audit_link TO {role};
"""
CAN_MORE = """
SELECT rolsuper OR pg_has_role(rolname, (SELECT tableowner FROM pg_tables
    WHERE schemaname = current_schema AND tablename = 'audit_entry'), 'MEMBER')
FROM pg_roles WHERE rolname = %s
"""


class Command(BaseCommand):
    help = "Gives a role of PostgreSQL what the application needs. It can add to the audit trail, not change it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("role", metavar="ROLE")

    def handle(self, *, role: str, **_: Any) -> None:
        if connection.vendor != "postgresql":
            raise CommandError("Roles are PostgreSQL's. On SQLite, triggers alone keep the audit trail.")
        with connection.cursor() as cursor:
            cursor.execute(CAN_MORE, [role])
            found = cursor.fetchone()
            if found is None:
                raise CommandError(f"There is no role {role}: CREATE ROLE {role} LOGIN PASSWORD '…' makes it.")
            if found[0]:
                raise CommandError(f"{role} owns the tables, or may do what their owner may. Name another role.")
            cursor.execute("SELECT current_schema")
            quote = connection.ops.quote_name
            cursor.execute(GRANTS.format(schema=quote(cursor.fetchone()[0]), role=quote(role)))
        self.stdout.write(f"{role} can run the application. It cannot change the audit trail.")
