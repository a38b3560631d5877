from django.db import migrations


def keep_plain(apps, schema_editor):
    """PostgreSQL would try to compress each history at each write, which takes longer than writing it."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE scoring_history ALTER COLUMN events SET STORAGE EXTERNAL")


def keep_compressed(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE scoring_history ALTER COLUMN events SET STORAGE EXTENDED")


class Migration(migrations.Migration):

    dependencies = [
        ("scoring", "0003_histories"),
    ]

    operations = [
        migrations.RunPython(keep_plain, keep_compressed),
    ]
