from datetime import UTC, timedelta

from django.db import migrations, models
from django.utils import timezone

SPANS = [(1, "Minute"), (15, "Quarter of an hour"), (60, "Hour"), (480, "Third of a day"), (1440, "Day")]


def begin(apps, schema_editor):
    """Have the next run add up the spans that are new, today first."""
    tomorrow = (timezone.now() + timedelta(days=1)).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    apps.get_model("monitoring", "RollupProgress").objects.filter(counted_until__isnull=False).update(
        merged_from=tomorrow
    )


def delete(apps, schema_editor):
    for name in ("TrafficRollup", "RefusalRollup", "RuleRollup", "ReviewRollup"):
        apps.get_model("monitoring", name).objects.filter(span__in=(15, 480)).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("monitoring", "0010_rollups_by_client"),
    ]

    operations = [
        migrations.AddField(
            model_name="rollupprogress",
            name="merged_from",
            field=models.DateTimeField(null=True),
        ),
        *(
            migrations.AlterField(
                model_name=model, name="span", field=models.PositiveSmallIntegerField(choices=SPANS)
            )
            for model in ("trafficrollup", "refusalrollup", "rulerollup", "reviewrollup")
        ),
        migrations.RunPython(begin, delete),
    ]
