from pathlib import Path
from typing import Any

from celery.beat import PersistentScheduler
from django.conf import settings


class Scheduler(PersistentScheduler):
    """Celery's scheduler, which also touches the file `VAR_DIR/beat-alive`, for health checks."""

    def tick(self, *args: Any, **options: Any) -> float:
        Path(settings.VAR_DIR, "beat-alive").touch()
        return super().tick(*args, **options)
