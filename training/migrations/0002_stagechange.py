import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

STAGES = [("candidate", "Candidate"), ("shadow", "Shadow"), ("champion", "Champion"), ("retired", "Retired")]
BY = "upgrade"


def write_what_is_known(apps, schema_editor):
    """The registrations, and of each version its latest promotion: earlier ones were not kept."""
    ModelVersion = apps.get_model("training", "ModelVersion")
    StageChange = apps.get_model("training", "StageChange")
    for version in ModelVersion.objects.order_by("created_at"):
        StageChange.objects.create(
            version=version, action="register", after="candidate", by=BY, at=version.created_at
        )
    champions = {}
    for version in ModelVersion.objects.exclude(promoted_at=None).order_by("promoted_at"):
        common = {"action": "promote", "by": BY, "at": version.promoted_at}
        if version.schema in champions:
            StageChange.objects.create(
                version=champions[version.schema], before="champion", after="retired", **common
            )
        StageChange.objects.create(version=version, before="candidate", after="champion", **common)
        champions[version.schema] = version


class Migration(migrations.Migration):
    dependencies = [("training", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="StageChange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "action",
                    models.CharField(
                        choices=[
                            ("register", "Registered"),
                            ("promote", "Promoted"),
                            ("roll_back", "Rolled back"),
                            ("shadow", "Made shadow"),
                            ("retire", "Retired"),
                        ],
                        max_length=16,
                    ),
                ),
                ("before", models.CharField(blank=True, choices=STAGES, max_length=16)),
                ("after", models.CharField(choices=STAGES, max_length=16)),
                ("by", models.CharField(max_length=150)),
                ("reason", models.TextField(blank=True)),
                ("evidence", models.TextField(blank=True)),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "version",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="changes",
                        to="training.modelversion",
                    ),
                ),
            ],
            options={"ordering": ["-at", "-pk"]},
        ),
        migrations.RunPython(write_what_is_known, migrations.RunPython.noop),
    ]
