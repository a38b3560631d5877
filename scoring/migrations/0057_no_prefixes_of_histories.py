from django.db import migrations


def drop_index_of_prefixes(apps, schema_editor):
    """Django indexes a textual key on PostgreSQL a second time, for searches by its beginning. No token is searched
    so, and each new history, and many a change of one, had to write both indexes."""
    if schema_editor.connection.vendor != "postgresql":
        return
    found = schema_editor.connection.introspection.get_constraints(schema_editor.connection.cursor(), "scoring_history")
    for name in found:
        if name.endswith("_like"):
            schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {schema_editor.quote_name(name)}")


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ("scoring", "0056_counts_by_client"),
    ]

    operations = [
        migrations.RunPython(drop_index_of_prefixes, migrations.RunPython.noop),
    ]
