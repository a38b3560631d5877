import os
import sys
from typing import Any

from celery import Celery
from celery.signals import task_prerun
from django import db

from fraudsite import broker, command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fraudsite.settings")

sys.excepthook = command_line.excepthook
broker.install()
app = Celery("fraudsite")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@task_prerun.connect
def close_old_connections(**_: Any) -> None:
    """What Django does before a request: close database connections that are broken or too old."""
    db.close_old_connections()
