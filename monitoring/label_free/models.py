from django.db import models

from training.models import ModelVersion


class LabelFreeEstimate(models.Model):
    """What was expected of a model version's decisions of a day, UTC, before their labels came.

    It is made again while the day goes on, and kept as it is once the day is over, so that it can be held against what
    came true. `alerts` is how many there were; `caught` and `missed` are draws of the frauds among alerts and among the
    others, see `monitoring.label_free.estimator.Expected`.

    `factors` tells by what the odds of fraud were multiplied, for each part of the decisions of which outcomes were
    known: `{"review": [median, low, high]}`. What is not in it was taken as calibrated. `is_late` if the day was over
    for so long that labels had come.
    """

    day = models.DateField()
    schema = models.CharField(max_length=32)
    model_version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="+", db_index=False)
    made_at = models.DateTimeField()
    is_late = models.BooleanField(default=False)
    alerts = models.PositiveIntegerField()
    caught = models.JSONField()
    missed = models.JSONField()
    factors = models.JSONField(default=dict)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["schema", "day", "model_version"], name="one_estimate_per_day_and_version")
        ]

    def __str__(self) -> str:
        return f"{self.day}, {self.model_version_id}: {self.alerts} alerts"
