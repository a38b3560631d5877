"""A stream in Redis as one consumer of its group sees it.

Redis keeps for the group which entries were delivered to whom, how often, and not yet acknowledged. What was delivered
to a consumer that has died is claimed by another one after `STREAM_CLAIM_S`.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import redis
from django.conf import settings

from scoring.messages import connections
from scoring.streams.answers import Answer
from scoring.streams.entries import Entry


def answers_of(stream: str) -> str:
    """The stream of the answers to a stream."""
    return f"{stream}:answers"


def dead_of(stream: str) -> str:
    """The stream of the entries that were set aside."""
    return f"{stream}:dead"


def connect(url: str = "") -> redis.Redis:
    """A connection without attempts of its own: a second XREADGROUP would read other entries."""
    return connections.connect(url or settings.STREAM_REDIS_URL, retry=None)


class Group:
    """A consumer's place in the group of a stream. Every method raises `redis.RedisError` if Redis is away."""

    def __init__(self, stream: str, consumer: str, url: str = "") -> None:
        self.stream = stream
        self._consumer = consumer
        self._group = settings.STREAM_GROUP
        self._url = url

    @cached_property
    def _redis(self) -> Any:  # the stubs of redis-py cannot tell answers from awaitables
        return connect(self._url)

    def begin(self) -> None:
        """Make the group if there is none. It begins with the first entry of the stream."""
        try:
            self._redis.xgroup_create(self.stream, self._group, "0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def read_new(self, most: int) -> list[Entry]:
        """The next entries that nobody has, in their order; none if none comes within `STREAM_BLOCK_MS`."""
        return self._read(">", most, settings.STREAM_BLOCK_MS)

    def read_own(self, after: str) -> Entry | None:
        """The next entry that this consumer had and did not acknowledge. One that the stream has lost is passed over,
        with a warning by `lost`."""
        found = self._read(after, 1, None)
        return found[0] if found else None

    def claim(self) -> tuple[Entry | None, int]:
        """Take over the first entry that another consumer has had for too long. Also gives how many such entries the
        stream had lost, as it was trimmed before they were acknowledged."""
        idle_ms = int(settings.STREAM_CLAIM_S * 1000)
        _, found, lost = self._redis.xautoclaim(self.stream, self._group, self._consumer, idle_ms, "0-0", count=1)
        return (_entry(*found[0]) if found else None), len(lost)

    def attempts(self, entry: Entry) -> int:
        """How often an entry was delivered."""
        found = self._redis.xpending_range(self.stream, self._group, entry.id, entry.id, 1)
        return found[0]["times_delivered"] if found else 1

    def forgive(self, entries: Sequence[Entry], attempts: int) -> None:
        """Count the latest delivery of entries not as an attempt."""
        keys = [entry.id for entry in entries]
        self._redis.xclaim(self.stream, self._group, self._consumer, 0, keys, retrycount=attempts - 1, justid=True)

    def acknowledge(self, answers: Sequence[Answer], dead: Sequence[Entry] = ()) -> None:
        """Write answers, and what is set aside, and acknowledge the entries: all of it or nothing."""
        with self._redis.pipeline(transaction=True) as pipeline:
            for entry in dead:
                fields = entry.fields | {b"entry": entry.id.encode()}
                pipeline.xadd(dead_of(self.stream), fields, maxlen=settings.STREAM_ANSWERS_MAXLEN)
            for answer in answers:
                pipeline.xadd(answers_of(self.stream), answer.fields(), maxlen=settings.STREAM_ANSWERS_MAXLEN)
            pipeline.xack(self.stream, self._group, *(answer.entry.id for answer in answers))
            pipeline.execute()

    def drop(self, entry: Entry) -> None:
        """Acknowledge an entry without an answer: the stream has lost its content."""
        self._redis.xack(self.stream, self._group, entry.id)

    def trim(self) -> None:
        """Remove the entries that were added longer ago than `STREAM_KEEP_S`, and that every group of the stream has
        acknowledged."""
        if not settings.STREAM_KEEP_S:
            return
        seconds, _ = self._redis.time()
        firsts = [f"{int((seconds - settings.STREAM_KEEP_S) * 1000)}-0"]
        for group in self._redis.xinfo_groups(self.stream):  # asked first: what is delivered later lies behind it
            waiting = self._redis.xpending(self.stream, group["name"])
            firsts.append((waiting["min"] if waiting["pending"] else group["last-delivered-id"]).decode())
        first = min(firsts, key=lambda key: tuple(map(int, key.split("-"))))
        self._redis.xtrim(self.stream, minid=first, limit=0)

    def _read(self, after: str, count: int, block_ms: int | None) -> list[Entry]:
        found = self._redis.xreadgroup(self._group, self._consumer, {self.stream: after}, count=count, block=block_ms)
        return [_entry(*each) for _, entries in found for each in entries]


def _entry(key: bytes, fields: dict[bytes, bytes] | None) -> Entry:
    return Entry(key.decode(), fields or {})
