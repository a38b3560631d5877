"""Sends a task's messages as Celery does, without what Celery works out anew for each of them.

That took several times as long as the sending itself. A test compares the messages.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgpack
import uuid_utils
from celery import Task
from kombu import Connection

from training import clock


class Sender:
    """Sends messages of a task to a queue, for one thread. It connects for the first one, and anew after an error."""

    def __init__(self, task: Task, queue: str) -> None:
        self._task, self._queue = task, queue
        self._headers: dict[str, Any] = {}
        self._connection: Connection | None = None
        self._channel: Any = None

    def send(self, args: Sequence[Any], *, expires_s: float) -> None:
        """Send a call of the task with these arguments. A worker that takes it after `expires_s` drops it.

        Raises:
            kombu.exceptions.OperationalError, redis.RedisError, OSError: the broker does not answer.
        """
        try:
            if self._channel is None:
                self._connect()
            self._channel.basic_publish(self._message(args, expires_s), exchange="", routing_key=self._queue)
        except Exception:
            self.close()
            raise

    def _message(self, args: Sequence[Any], expires_s: float) -> dict[str, Any]:
        key = str(uuid_utils.uuid4())
        expires = (clock.now() + timedelta(seconds=expires_s)).isoformat()
        properties = {
            "correlation_id": key,
            "reply_to": "",
            "delivery_mode": 2,
            "expiration": f"{expires_s * 1000:.0f}",
        }
        embedded = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
        message: dict[str, Any] = self._channel.prepare_message(
            msgpack.packb((args, {}, embedded)),
            priority=0,
            content_type="application/x-msgpack",
            content_encoding="binary",
            headers=self._headers | {"id": key, "root_id": key, "expires": expires},
            properties=properties,
        )
        return message

    def _connect(self) -> None:
        task = self._task
        self._connection = task.app.connection_for_write()
        self._channel = self._connection.channel()
        made = task.app.amqp.create_task_message(
            "",
            task.name,
            argsrepr="…",  # otherwise Celery formats the whole batch again, for logs and monitors
            time_limit=task.time_limit,
            soft_time_limit=task.soft_time_limit,
            ignore_result=task.ignore_result,
        )
        self._headers = made.headers

    def close(self) -> None:
        if self._connection is not None:
            self._connection.release()
        self._connection = self._channel = None
