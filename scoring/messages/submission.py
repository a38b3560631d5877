"""The message that carries a transaction from a web process to a worker."""

import msgspec

from training.core.schema.values import Value


class Submission(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A valid transaction on its way to a worker.

    `features` are the values as they are stored, in the schema's order. `received_at`, `event_time` and `deadline` are
    seconds since the epoch, UTC; after the deadline no client waits for the score. `body_sha256` is the same for bodies
    with the same content, however they are spaced or ordered. `tokens` are those of the entities, in the schema's
    order; that of a missing one is empty. `request_id` is for the logs. `declaration` is the hash of the declaration of
    the schema that it was checked against; empty in messages of older versions.
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
