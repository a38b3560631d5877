import django.db.models.deletion
from django.db import migrations, models


def keep_shared_tokens(apps, schema_editor):
    """The clients that are there already keep their tokens, and so their histories and the entries of lists."""
    apps.get_model("scoring", "Client").objects.update(own_histories=False)


class Migration(migrations.Migration):
    dependencies = [
        ("scoring", "0042_webhooks"),
    ]

    operations = [
        migrations.AddField(
            model_name="client",
            name="own_histories",
            field=models.BooleanField(db_default=True, default=True, editable=False),
        ),
        migrations.RunPython(keep_shared_tokens, migrations.RunPython.noop),
        migrations.AddField(
            model_name="listentry",
            name="client",
            field=models.ForeignKey(
                db_index=False,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="scoring.client",
            ),
        ),
    ]
