from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('scoring', '0019_lists'),
    ]

    operations = [
        migrations.AddField(
            model_name='prediction',
            name='explanation',
            field=models.JSONField(null=True),
        ),
    ]
