from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("scoring", "0015_backtests")]

    operations = [
        migrations.AlterModelOptions(
            name="transaction", options={"permissions": [("view_personal", "Can view personal values")]}
        ),
    ]
