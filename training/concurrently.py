"""Migrations of big tables under load: indexes that are built while rows are written."""

from typing import Any

from django.db import migrations

PARTITIONED = "SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass(%s)"
PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass(%s)"
VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)"


class AddIndex(migrations.AddIndex):
    """Adds an index without a lock that would stop writers. On SQLite, which has one writer anyway, as Django does.

    PostgreSQL builds no index so in a transaction: its migration has `atomic = False`, and nothing else in it. It can
    be run again: an index that is there is kept, and one that an interrupted run has left half built is built anew.
    """

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        model, connection = to_state.apps.get_model(app_label, self.model_name), schema_editor.connection
        with connection.cursor() as cursor:
            if connection.vendor != "postgresql":
                if self.index.name not in connection.introspection.get_constraints(cursor, model._meta.db_table):
                    schema_editor.add_index(model, self.index)
                return
            cursor.execute(VALID, [self.index.name])
            found = cursor.fetchone()
            if found == (True,):
                return
            # It waits for transactions that began before, however long they take; meanwhile nobody waits for it.
            cursor.execute("SHOW lock_timeout")
            (lock_timeout,) = cursor.fetchone()
            cursor.execute("SET lock_timeout = 0")
            if found:
                schema_editor.remove_index(model, self.index, concurrently=True)
            cursor.execute(PARTITIONED, [model._meta.db_table])
            if cursor.fetchone() == (True,):
                self._add_to_partitions(model, schema_editor)
            else:
                schema_editor.add_index(model, self.index, concurrently=True)
            cursor.execute("SELECT set_config('lock_timeout', %s, false)", [lock_timeout])

    def _add_to_partitions(self, model: Any, schema_editor: Any) -> None:
        """PostgreSQL builds no index of a partitioned table so, but one of each partition. The table's own takes those
        that are there."""
        table = model._meta.db_table
        statement = str(self.index.create_sql(model, schema_editor))
        named, of_table = f'INDEX "{self.index.name}" ON "{table}"', f'ON "{table}"'
        assert named in statement, statement  # noqa: S101
        with schema_editor.connection.cursor() as cursor:
            cursor.execute(PARTITIONS, [table])
            for number, (partition,) in enumerate(cursor.fetchall()):
                own = f'INDEX CONCURRENTLY IF NOT EXISTS "{self.index.name[:50]}_{number}"'
                cursor.execute(statement.replace(named, f"{own} {of_table}").replace(of_table, f"ON {partition}", 1))
            cursor.execute(statement)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        model = from_state.apps.get_model(app_label, self.model_name)
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.remove_index(model, self.index, concurrently=True)
        else:
            schema_editor.remove_index(model, self.index)
