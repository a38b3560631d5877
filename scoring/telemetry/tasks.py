"""What is measured and recorded of Celery's tasks, in the processes that run them."""

import time
from typing import Any

from celery.signals import task_failure, task_postrun, task_prerun, task_revoked
from prometheus_client import Counter, Histogram

from scoring.telemetry import tracing

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 3600.0)

TASKS = Histogram(
    "fraudsite_task_seconds", "How long runs of a task took, by how they ended.", ["task", "state"], buckets=BUCKETS_S
)
FAILURES = Counter("fraudsite_task_failures", "Runs of a task that failed, by their exception.", ["task", "kind"])
EXPIRED = Counter(
    "fraudsite_tasks_expired", "Messages that no worker took in time: another one has followed.", ["task"]
)


@task_prerun.connect
def _begin(task: Any, **_: Any) -> None:
    task.request.began = time.perf_counter()
    sent = task.request
    is_job = bool(getattr(sent, "celery_beat_task", False))
    sent.recording = tracing.task(task.name, getattr(sent, "traceparent", None) or "", is_job=is_job)
    sent.recording.__enter__()


@task_postrun.connect
def _end(task: Any, state: str | None = None, **_: Any) -> None:
    if (recording := getattr(task.request, "recording", None)) is not None:
        recording.__exit__(None, None, None)
    if (began := getattr(task.request, "began", None)) is not None:
        TASKS.labels(task.name, (state or "unknown").lower()).observe(time.perf_counter() - began)


@task_failure.connect
def _failed(sender: Any, exception: BaseException, **_: Any) -> None:
    FAILURES.labels(sender.name, type(exception).__name__).inc()


@task_revoked.connect
def _revoked(sender: Any, expired: bool = False, **_: Any) -> None:
    if expired:
        EXPIRED.labels(sender.name).inc()
