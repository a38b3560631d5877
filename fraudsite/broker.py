"""Kombu's Redis transport, without a new Redis client for each command, by the clock of all machines, and for a Redis
that does not answer for a while."""

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis

from training import clock


class QoS(redis.QoS):
    """Has a message done with even if Redis does not hear of it: it would stay among those that the worker has in hand,
    of which it may have few, and the worker would never take another. Redis delivers such a message once more."""

    def ack(self, delivery_tag: str) -> None:
        try:
            super().ack(delivery_tag)
        finally:
            self._quick_ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        try:
            super().reject(delivery_tag, requeue=requeue)
        finally:
            self._quick_ack(delivery_tag)


class KeepsClient:
    """A channel that keeps its client: with redis 8, making one takes longer than most commands (0.1 ms; a batch has
    five)."""

    _kept: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[misc]
        if self._kept is None or self._kept.connection_pool is not self.pool:  # type: ignore[attr-defined]
            self._kept = super()._create_client()  # type: ignore[misc]
        return self._kept


class Channel(KeepsClient, redis.Channel):
    QoS = QoS


class SentinelChannel(KeepsClient, redis.SentinelChannel):
    QoS = QoS


class Transport(redis.Transport):
    Channel = Channel


class SentinelTransport(redis.SentinelTransport):
    Channel = SentinelChannel


def install() -> None:
    """Have kombu use them for addresses that begin with `redis://`, `rediss://` or `sentinel://`."""
    TRANSPORT_ALIASES["sentinel"] = f"{__name__}:SentinelTransport"
    TRANSPORT_ALIASES["redis"] = TRANSPORT_ALIASES["rediss"] = f"{__name__}:Transport"
    # When a message was taken is written by one worker, and judged by all: one whose clock is minutes ahead would have
    # all that the others are working on delivered again.
    redis.time = clock.seconds
