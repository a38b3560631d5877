"""Giving second opinions, and settling those that disagree with the first decision."""

from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from scoring.exceptions import LabelledMeanwhile
from scoring.models import Label, SecondOpinion
from scoring.reviews import labelling, reasons, second_opinions
from training.core.exceptions import FraudsiteError


class OpinionRefused(FraudsiteError):
    """Somebody else was faster, or the review is open again. Nothing was changed."""


def give(*, review: UUID, is_fraud: bool, by: User, code: str = "", note: str = "") -> bool:
    """Give a second opinion. It changes no label. Returns whether it agrees with the first decision.

    Raises:
        ReasonMissing, OpinionRefused: nothing was changed.
    """
    reasons.check(code, note, is_fraud=is_fraud)
    note = labelling.checked(note, needed=False)
    with transaction.atomic():
        row = second_opinions.waiting_for(by).select_for_update(of=("self",)).filter(pk=review).first()
        if row is None:
            raise OpinionRefused
        agrees = row.first_is_fraud is is_fraud
        row.state = SecondOpinion.State.AGREED if agrees else SecondOpinion.State.DISAGREED
        row.second, row.is_fraud, row.code, row.note, row.given_at = by, is_fraud, code, note, timezone.now()
        row.save()
    return agrees


def settle(*, review: UUID, is_fraud: bool, by: User, because: str) -> None:
    """Settle a disagreement, for a reason. If the analysts' label is another, it is corrected.

    Raises:
        ReasonMissing, OpinionRefused: nothing was changed.
        StaleHistory: nothing was changed; the schema's histories have to be rebuilt.
    """
    because = labelling.checked(because, needed=True)
    with transaction.atomic():
        row = second_opinions.disagreements(by).select_for_update(of=("self",)).filter(pk=review).first()
        if row is None:
            raise OpinionRefused
        row.state = SecondOpinion.State.SETTLED
        row.settled_by, row.settled_is_fraud = by, is_fraud
        row.settled_because, row.settled_at = because, timezone.now()
        row.save()
        try:
            source = Label.Source.ANALYST
            labelling.add_label(transaction_id=review, is_fraud=is_fraud, source=source, author=by, reason=because)
        except LabelledMeanwhile:
            pass  # the analysts' label is this one already
