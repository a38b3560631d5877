"""How histories are stored, for those who read and label them without the compiled code that writes them."""

from typing import TYPE_CHECKING

import numpy as np

from training.core.features.declaration import kept_values

if TYPE_CHECKING:
    from training.core.schema import Schema

# The sizes in a stored history: see `kernel.Histories`.
VERSION_BYTES, EVENT_BYTES, VALUE_BYTES = 8, 25, 4


def event_bytes(schema: "Schema", entity: str) -> int:
    """How many bytes an event takes in a stored history of this entity."""
    return EVENT_BYTES + VALUE_BYTES * len(kept_values(schema, entity))


def keys_in(schema: "Schema", entity: str, history: bytes) -> list[int]:
    """The keys of the events in a stored history, the oldest event first.

    A history that was kept under another declaration may give keys that no event has.
    """
    size = event_bytes(schema, entity)
    count = max(0, len(history) - VERSION_BYTES) // size
    events = np.frombuffer(history, np.uint8, count * size, VERSION_BYTES if count else 0).reshape(count, size)
    keys: list[int] = np.ascontiguousarray(events[:, :8]).view("<i8").ravel().tolist()
    return keys


def set_label(history: bytearray, event_bytes: int, key: int, label: int) -> None:
    """Give the event of this key, if there is one in a stored history, a label (int8): what `kernel.replay` does with a
    label that arrives."""
    count = (len(history) - VERSION_BYTES) // event_bytes
    if count:
        keys = np.ndarray(count, "<i8", history, VERSION_BYTES, (event_bytes,))
        for place in np.flatnonzero(keys == key).tolist():
            history[VERSION_BYTES + place * event_bytes + EVENT_BYTES - 1] = label & 0xFF
