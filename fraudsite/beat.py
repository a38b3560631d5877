from pathlib import Path
from typing import Any

from celery.beat import PersistentScheduler, ScheduleEntry, SchedulingError
from django.conf import settings
from prometheus_client import Counter, Gauge

SENT = Counter("fraudsite_beat_sent", "Messages that beat has sent.", ["task"])
FAILURES = Counter("fraudsite_beat_failures", "Messages that beat could not send.", ["task"])
TICK = Gauge("fraudsite_beat_tick_timestamp_seconds", "When beat last looked at its clock, in seconds since 1970.")


class Scheduler(PersistentScheduler):
    """Celery's scheduler, which also touches the file `VAR_DIR/beat-alive`, for health checks, and counts what it
    sends."""

    def tick(self, *args: Any, **options: Any) -> float:
        Path(settings.VAR_DIR, "beat-alive").touch()
        TICK.set_to_current_time()
        return super().tick(*args, **options)

    def apply_async(self, entry: ScheduleEntry, *args: Any, **options: Any) -> Any:
        try:
            sent = super().apply_async(entry, *args, **options)
        except SchedulingError:
            FAILURES.labels(entry.task).inc()
            raise
        SENT.labels(entry.task).inc()
        return sent
