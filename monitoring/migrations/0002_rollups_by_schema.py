from django.db import migrations, models


class Migration(migrations.Migration):
    """Rollups by schema. The old ones are dropped: the next run of `update_rollups` counts all minutes anew."""

    dependencies = [("monitoring", "0001_initial")]

    operations = [
        migrations.DeleteModel(name="TrafficRollup"),
        migrations.CreateModel(
            name="TrafficRollup",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("schema", models.CharField(max_length=32)),
                ("minute", models.DateTimeField()),
                ("transactions", models.PositiveIntegerField()),
                ("reviewed", models.PositiveIntegerField(help_text="Decisions to review.")),
                ("blocked", models.PositiveIntegerField(help_text="Decisions to block.")),
                ("latency_sum_ms", models.FloatField()),
                ("latency_histogram", models.JSONField(help_text="Counts per bin of LATENCY_EDGES_MS.")),
                ("score_histogram", models.JSONField(help_text="Counts per bin of 20 equal bins of [0, 1].")),
            ],
            options={
                "ordering": ["-minute"],
                "constraints": [
                    models.UniqueConstraint(fields=("minute", "schema"), name="one_rollup_per_minute_and_schema")
                ],
            },
        ),
    ]
