from django.db import migrations, models
from django.db.models import F

MODELS = ("OutcomeCount", "ScoreOutcome", "LabelDelay")


def count_again(apps, schema_editor):
    apps.get_model("monitoring", "OutcomeDay").objects.update(marked=F("marked") + 1)


def delete_of_clients(apps, schema_editor):
    for name in MODELS:
        apps.get_model("monitoring", name).objects.exclude(client=0).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("monitoring", "0011_quarters_and_thirds"),
    ]

    operations = [
        *(
            migrations.AddField(
                model_name=name.lower(),
                name="client",
                field=models.PositiveBigIntegerField(db_default=0, default=0),
            )
            for name in MODELS
        ),
        migrations.RemoveConstraint(model_name="outcomecount", name="one_outcome_count_of_each_kind"),
        migrations.AddConstraint(
            model_name="outcomecount",
            constraint=models.UniqueConstraint(
                fields=(
                    *("schema", "by", "day", "model_version", "policy"),
                    *("name", "decision", "propensity", "let_through", "client"),
                ),
                name="one_outcome_count_by_client",
            ),
        ),
        migrations.RemoveConstraint(model_name="scoreoutcome", name="one_score_outcome_of_each_kind"),
        migrations.AddConstraint(
            model_name="scoreoutcome",
            constraint=models.UniqueConstraint(
                fields=("schema", "day", "model_version", "decision", "propensity", "let_through", "client"),
                name="one_score_outcome_by_client",
            ),
        ),
        migrations.RemoveConstraint(model_name="labeldelay", name="one_label_delay_per_day_and_source"),
        migrations.AddConstraint(
            model_name="labeldelay",
            constraint=models.UniqueConstraint(
                fields=("schema", "day", "source", "client"), name="one_label_delay_by_client"
            ),
        ),
        migrations.RunPython(count_again, delete_of_clients),
    ]
