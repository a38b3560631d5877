"""Which of a transaction's labels holds, and what was known at a time.

Everything that learns from labels or counts them asks here: trainings, metrics, backtests, shadows, and the histories
that features are computed from. Of each source its latest word counts, by the time at which it was said. A word of None
(disputed, taken back) leaves the matter to the other sources. Of the words that are left, that of the highest source in
`ORDER` holds; between equals, the latest. The verdict after each label is stored with it, so what was known at a time
is in the label that had arrived last.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol, TypeVar
from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet

from scoring.models import Label
from scoring.reviews.models import LabelKind, LabelSource

# The outcome of a dispute and an analyst's word, who may correct each other, before a network's first suspicion; what
# the client reports of its own before a file whose origin nobody knows.
ORDER = (
    (LabelSource.CHARGEBACK, LabelSource.ANALYST),
    (LabelSource.NETWORK,),
    (LabelSource.CLIENT,),
    (LabelSource.IMPORT,),
)
RANKS: dict[str, int] = {source: rank for rank, sources in enumerate(ORDER) for source in sources}
# Friendly fraud is a cardholder who disputes a purchase of their own: no stranger used the card.
WORDS: dict[str, bool | None] = {
    LabelKind.FRAUD: True,
    LabelKind.CHARGEBACK_LOST: True,
    LabelKind.EARLY_FRAUD_WARNING: True,
    LabelKind.LEGITIMATE: False,
    LabelKind.FRIENDLY_FRAUD: False,
    LabelKind.CHARGEBACK_WON: False,
    LabelKind.DISPUTED: None,
    LabelKind.RETRACTED: None,
}


class Word(Protocol):
    """What one label says."""

    @property
    def source(self) -> str: ...
    @property
    def is_fraud(self) -> bool | None: ...
    @property
    def event_time(self) -> datetime: ...


W = TypeVar("W", bound=Word)


def holding(words: Iterable[W]) -> W | None:
    """The word that holds of these of one transaction, in the order of their arrival. None if none does."""
    words = list(words)
    if len(words) == 1:
        return words[0] if words[0].is_fraud is not None else None
    in_order = sorted(words, key=lambda word: word.event_time)  # stable: of equal times the later arrival is last
    latest = {word.source: word for word in in_order}
    judged = [word for word in in_order if latest[word.source] is word and word.is_fraud is not None]
    return min(reversed(judged), key=lambda word: RANKS[word.source], default=None)


def known(labels: QuerySet[Label], at: datetime | None = None) -> dict[UUID, bool | None]:
    """What was known at a time, or is known now, of the transactions that these labels are of: fraud, legitimate, or
    None where no word holds. Transactions without any label until then are not in it."""
    if at is not None:
        labels = labels.filter(created_at__lte=at)
    return dict(labels.order_by("created_at", "pk").values_list("transaction_id", "verdict"))


def newest(labels: QuerySet[Label]) -> QuerySet[Label]:
    """Those of these labels that are the newest of their transactions, whose verdict holds now."""
    later = Label.objects.filter(transaction=OuterRef("transaction")).filter(
        Q(created_at__gt=OuterRef("created_at")) | Q(created_at=OuterRef("created_at"), pk__gt=OuterRef("pk"))
    )
    return labels.filter(~Exists(later))
