from django.db import migrations, models

from training import concurrently


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("scoring", "9000_later_column")]
    operations = [
        concurrently.AddIndex("transaction", models.Index(fields=["channel", "id"], name="transaction_channel"))
    ]
