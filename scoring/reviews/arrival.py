"""What a new label gets when it arrives: its time, the verdict that holds from then on, and its place in the histories.

The caller has locked the transactions, so that of two labels that arrive at once the second knows of the first.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from django.utils import timezone

from scoring.reviews.verdicts import Word, holding
from scoring.worker import storage
from scoring.worker.rows import Placed, tokens_of
from training import registry

MICROSECOND = timedelta(microseconds=1)


class Arrived(Word, Protocol):
    """What is read of a label that arrived before."""

    @property
    def created_at(self) -> datetime: ...
    @property
    def verdict(self) -> bool | None: ...


class Arriving(Word, Protocol):
    """A new label: its time, verdict and sequence are written."""

    created_at: datetime
    verdict: bool | None
    sequence: int | None


def get_ready() -> None:
    """Load what the histories need. Call it before a lock is held: it takes a second the first time."""
    from scoring.worker import histories  # noqa: F401


def arrive(new: Sequence[tuple[Placed, Arriving]], given: dict[UUID, list[Any]]) -> None:
    """Give new labels of locked transactions, in this order, their time of arrival, their verdict and, where it differs
    from the one before, their place in the histories. `given` are the labels of each, in order, each an `Arrived`; the
    new ones are added.

    Raises:
        StaleHistory: a schema's histories have to be rebuilt.
    """
    now = timezone.now()
    changed: dict[str, list[tuple[Placed, Arriving]]] = {}
    for row, label in new:
        earlier = given.setdefault(row.pk, [])
        label.created_at = max(now, earlier[-1].created_at + MICROSECOND) if earlier else now
        before = earlier[-1].verdict if earlier else None
        earlier.append(label)
        held = holding(earlier)
        label.verdict = held.is_fraud if held else None
        # A transaction without a sequence is in no history: its schema has none, or it still waits for its score.
        if label.verdict is not before and row.sequence is not None:
            changed.setdefault(row.schema, []).append((row, label))
    for name in sorted(changed):
        _go_to_histories(name, changed[name])


def _go_to_histories(name: str, changed: Sequence[tuple[Placed, Arriving]]) -> None:
    from scoring.worker import histories

    schema = registry.declaration_in_force(name)
    rows, labels = [row for row, _ in changed], [label for _, label in changed]
    locked = histories.lock(schema, [tokens_of(schema, row) for row in rows])
    sequences = locked.labels_arrive(rows, [label.verdict for label in labels])
    for label, sequence in zip(labels, sequences, strict=True):
        label.sequence = sequence
    storage.save_histories(locked.changed())
