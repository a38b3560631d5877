import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("training", "0004_verdict")]

    operations = [
        migrations.CreateModel(
            name="SchemaVersion",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("schema", models.CharField(max_length=32)),
                ("hash", models.CharField(max_length=64)),
                ("text", models.TextField()),
                ("first_seen_at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={"verbose_name": "schema", "ordering": ["schema", "-first_seen_at", "-pk"]},
        ),
        migrations.AddConstraint(
            model_name="schemaversion",
            constraint=models.UniqueConstraint(fields=("schema", "hash"), name="one_row_per_declaration"),
        ),
    ]
