from django.db import migrations, models

from scoring.tests.later_release.migrations import NEWEST


class Migration(migrations.Migration):
    dependencies = [("scoring", NEWEST)]
    operations = [migrations.AddField("transaction", "channel", models.CharField(max_length=32, null=True))]
