"""The message that carries a transaction from a web process to a worker."""

from typing import Self

import msgspec

from scoring.messages import request_ids
from training.core.exchange.rates import EPOCH, MICROSECOND, Converted
from training.core.schema.values import Value


class Conversion(msgspec.Struct, frozen=True):
    """How an amount was converted: `sent` in `currency` is `amount` in `base`. `rate` is how many units of the currency
    one unit of the base buys, since `rate_from`; `rate_stale` says that this was longer ago than RATES_MAX_AGE_DAYS."""

    sent: float
    currency: str
    amount: float
    base: str
    rate: str
    rate_from: str
    rate_stale: bool

    @classmethod
    def of(cls, converted: Converted, base: str) -> Self | None:
        """None for an amount that was sent in the base currency."""
        if converted.since_us is None:
            return None
        since = EPOCH + converted.since_us * MICROSECOND
        return cls(
            sent=converted.sent,
            currency=converted.currency,
            amount=converted.amount,
            base=base,
            rate=converted.rate,
            rate_from=since.isoformat(),
            rate_stale=converted.stale,
        )


class Submission(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A valid transaction on its way to a worker.

    `features` are the values as they are stored, in the schema's order. `received_at`, `event_time` and `deadline` are
    seconds since the epoch, UTC; after the deadline no client waits for the score. `body_sha256` is the same for bodies
    with the same content, however they are spaced or ordered. `tokens` are those of the entities, in the schema's
    order; that of a missing one is empty. `request_id` and `trace_id` name the request that it came with, empty if
    nothing does. `declaration` is the hash of the declaration of the schema that it was checked against; empty in
    messages of older versions. `span` is the `traceparent` of the request's span, if that is recorded. The amount
    among the features is in the schema's currency; `conversion` tells what was sent, if that was another.
    """

    id: str
    client_id: int
    schema: str
    transaction_id: str | None
    features: list[Value]
    event_time: float
    received_at: float
    deadline: float
    body_sha256: str
    tokens: tuple[str, ...] = ()
    request_id: str = ""
    declaration: str = ""
    conversion: Conversion | None = None
    trace_id: str = ""
    span: str = ""

    @property
    def request(self) -> str:
        """What names its request in the logs."""
        return request_ids.name_of(self.request_id, self.trace_id)
