"""Has Celery judge by the clock of all machines whether a message has expired: see `training.clock`.

Celery itself holds the sender's clock against the worker's. A worker that is minutes ahead would drop every call, and
every message of beat.
"""

from datetime import datetime
from typing import Any

import celery
from celery.signals import before_task_publish
from celery.worker import request, state

from training import clock


class Request(request.Request):
    def maybe_expire(self) -> bool:
        if not self.expires or clock.now() <= self.expires:
            return False
        state.revoked.add(self.id)
        return True


class Task(celery.Task):
    Request = f"{__name__}:Request"


@before_task_publish.connect
def by_the_clock_of_all(headers: dict[str, Any], **_: Any) -> None:
    if expires := headers.get("expires"):
        headers["expires"] = clock.told(datetime.fromisoformat(expires)).isoformat()
