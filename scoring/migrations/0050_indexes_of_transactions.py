from django.db import migrations, models

from training import concurrently


class Migration(migrations.Migration):
    """The indexes of transactions that 0041 and 0047 declare. Where an earlier release has built them, they are kept."""

    atomic = False

    dependencies = [
        ('scoring', '0049_batch_files'),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(database_operations=[
            concurrently.AddIndex(
                model_name='transaction',
                index=models.Index(fields=['client', 'received_at', 'id'], name='transaction_of_client'),
            ),
            concurrently.AddIndex(
                model_name='transaction',
                index=models.Index(condition=models.Q(('request_id__isnull', False)), fields=['request_id'], name='transaction_request'),
            ),
            concurrently.AddIndex(
                model_name='transaction',
                index=models.Index(condition=models.Q(('trace_id__isnull', False)), fields=['trace_id'], name='transaction_trace'),
            ),
        ]),
    ]
