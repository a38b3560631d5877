import os
import sys
from typing import Any

from billiard import current_process
from celery import Celery
from celery.signals import (
    beat_init,
    before_task_publish,
    task_postrun,
    task_prerun,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_shutdown,
)
from django import db
from django.core.exceptions import ImproperlyConfigured

from fraudsite import broker, command_line, lifeline
from scoring.messages import clock, request_ids
from scoring.telemetry import logs, port, tracing

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fraudsite.settings")

sys.excepthook = command_line.excepthook
broker.install()
if "worker" in sys.argv[1:]:
    try:
        port.own_directory()
    except ImproperlyConfigured as error:
        sys.exit(str(error))  # before Celery, whose options name this module, tells all of the traceback
app = Celery("fraudsite", task_cls="fraudsite.expiring:Task")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@before_task_publish.connect
def send_request_ids(headers: dict[str, Any], **_: Any) -> None:
    """Send the ids of the current requests with a task, and the span that is recorded."""
    if ids := request_ids.current():
        headers["request_ids"] = list(ids)
    if span := tracing.carried():
        headers["traceparent"] = span


@task_prerun.connect
def take_request_ids(task: Any, **_: Any) -> None:
    logs.begin()
    request_ids.begin(getattr(task.request, "request_ids", None) or ())


@task_postrun.connect
def drop_request_ids(**_: Any) -> None:
    request_ids.begin(())
    logs.begin()


@task_prerun.connect
def close_old_connections(**_: Any) -> None:
    """Close database connections that are broken or too old, as Django does before a request."""
    db.close_old_connections()


@worker_init.connect
@worker_process_init.connect
@beat_init.connect
def follow_clock(**_: Any) -> None:
    clock.follow()


@worker_init.connect
@beat_init.connect
def serve_metrics(**_: Any) -> None:
    port.serve()


@worker_process_init.connect
def record_traces(**_: Any) -> None:
    tracing.start("worker")


@worker_process_shutdown.connect
@worker_shutdown.connect
def send_traces(**_: Any) -> None:
    tracing.stop()


@worker_process_init.connect
def follow_worker(**_: Any) -> None:
    """End the child processes of a worker with their parent. The main process follows nobody."""
    if current_process().name != "MainProcess":  # the solo pool sends this signal in the main process
        lifeline.follow_parent()
