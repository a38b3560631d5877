"""The events of the installation that `training` causes, which knows nothing of webhooks: it saves a row, and this
listens, in the transaction of the row."""

from typing import Any

from django.db.models.signals import post_save

from scoring.webhooks import events
from scoring.webhooks.types import EventType
from training.models import Stage, StageChange


def connect() -> None:
    post_save.connect(_stage_changed, sender=StageChange, dispatch_uid="webhooks StageChange")


def _stage_changed(instance: StageChange, created: bool, **_: Any) -> None:
    if not created or instance.after != Stage.CHAMPION or instance.before == Stage.CHAMPION:
        return
    version = instance.version
    events.record(
        EventType.MODEL_PROMOTED,
        object=f"model:{version.schema}",
        schema=version.schema,
        data={
            "schema": version.schema,
            "model_version": version.pk,
            "action": instance.action,
        },
    )
