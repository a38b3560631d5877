from django.db import migrations


def keep_in_line(apps, schema_editor):
    """Most histories of more than 2 kB are shorter than a page. Out of line, each change of one writes chunks and their
    index as well. This holds for what is written from now on."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE scoring_history SET (toast_tuple_target = 8160)")


def undo(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE scoring_history RESET (toast_tuple_target)")


class Migration(migrations.Migration):

    dependencies = [
        ("scoring", "0057_no_prefixes_of_histories"),
    ]

    operations = [
        migrations.RunPython(keep_in_line, undo),
    ]
