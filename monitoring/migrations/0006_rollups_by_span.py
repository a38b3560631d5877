from django.db import migrations, models


class Migration(migrations.Migration):
    """Roll-ups by the minute, the hour and the day, and by client, version, policy, decision and answer.

    The old ones had no client, so they cannot be carried over: they are dropped, and `update_rollups` counts all
    rows anew, today's first and then the days before. Until that is done, pages tell from when on figures are complete.
    """

    dependencies = [("monitoring", "0005_label_free_estimates")]

    operations = [
        migrations.DeleteModel(name="TrafficRollup"),
        migrations.CreateModel(
            name='RollupProgress',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('turn', models.PositiveBigIntegerField(default=0)),
                ('counted_from', models.DateTimeField(null=True)),
                ('counted_until', models.DateTimeField(null=True)),
                ('whole', models.BooleanField(default=False)),
            ],
        ),
        migrations.CreateModel(
            name='RefusalRollup',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('span', models.PositiveSmallIntegerField(choices=[(1, 'Minute'), (60, 'Hour'), (1440, 'Day')])),
                ('start', models.DateTimeField()),
                ('status', models.PositiveSmallIntegerField()),
                ('kind', models.CharField(max_length=64)),
                ('count', models.PositiveBigIntegerField()),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('span', 'start', 'status', 'kind'), name='one_refusal_rollup_of_each_kind')],
            },
        ),
        migrations.CreateModel(
            name='RuleRollup',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('span', models.PositiveSmallIntegerField(choices=[(1, 'Minute'), (60, 'Hour'), (1440, 'Day')])),
                ('start', models.DateTimeField()),
                ('schema', models.CharField(max_length=32)),
                ('policy', models.PositiveIntegerField(help_text='The number of the policy.')),
                ('rule', models.CharField(max_length=64)),
                ('decided', models.PositiveBigIntegerField()),
                ('matched', models.PositiveBigIntegerField()),
                ('absent', models.PositiveBigIntegerField()),
                ('failed', models.PositiveBigIntegerField()),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('span', 'start', 'schema', 'policy', 'rule'), name='one_rule_rollup_of_each_kind')],
            },
        ),
        migrations.CreateModel(
            name='TrafficRollup',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('span', models.PositiveSmallIntegerField(choices=[(1, 'Minute'), (60, 'Hour'), (1440, 'Day')])),
                ('start', models.DateTimeField()),
                ('client', models.PositiveBigIntegerField()),
                ('schema', models.CharField(max_length=32)),
                ('version', models.CharField(blank=True, max_length=64)),
                ('policy', models.PositiveIntegerField(default=0)),
                ('decision', models.CharField(max_length=12)),
                ('answer', models.CharField(max_length=9)),
                ('transactions', models.PositiveBigIntegerField()),
                ('amount', models.FloatField()),
                ('histograms', models.BinaryField()),
            ],
            options={
                'indexes': [models.Index(fields=['span', 'client', 'start'], name='traffic_rollup_read')],
                'constraints': [models.UniqueConstraint(fields=('span', 'start', 'client', 'schema', 'version', 'policy', 'decision', 'answer'), name='one_traffic_rollup_of_each_kind')],
            },
        ),
    ]
