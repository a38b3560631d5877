"""The reasons that analysts choose from when they decide on an alert. The team edits the list in the admin."""

from django.conf import settings
from django.core.validators import validate_slug
from django.db import models
from django.db.models import Q, QuerySet

from scoring.exceptions import ReasonMissing


class ReviewReason(models.Model):
    """A reason for a decision. Labels keep its code, so a reason that is not used any more is made inactive.

    `is_fraud` is the label that the reason is for, null for either. `position` orders the list.
    """

    code = models.CharField(max_length=32, unique=True, validators=[validate_slug], help_text="Labels keep the code.")
    meaning = models.CharField(max_length=200)
    is_fraud = models.BooleanField(
        "for", null=True, blank=True, choices=[(None, "Either"), (True, "Fraud"), (False, "Legitimate")]
    )
    needs_note = models.BooleanField(default=False, help_text="Whether the analyst has to write a note with it.")
    is_active = models.BooleanField(default=True, help_text="Whether analysts can choose it.")
    position = models.PositiveSmallIntegerField(
        default=0, help_text="The smallest is first. The first nine for a label are chosen by the keys 1 to 9."
    )

    class Meta:
        ordering = ["position", "code"]

    def __str__(self) -> str:
        return self.meaning

    @property
    def word(self) -> str:
        """The decision that it is for, as pages name it; empty for either."""
        return {True: "fraud", False: "legitimate", None: ""}[self.is_fraud]


def active() -> QuerySet[ReviewReason]:
    return ReviewReason.objects.filter(is_active=True)


def check(code: str, note: str, *, is_fraud: bool) -> None:
    """Check the reason and the note of a decision.

    Raises:
        ReasonMissing: the reason is not one for this decision, or needs a note; or a reason is needed.
    """
    if not code:
        if settings.REVIEW_REASON_REQUIRED:
            raise ReasonMissing("Choose a reason from the list. Nothing was changed.")
        return
    fits = active().filter(Q(is_fraud=is_fraud) | Q(is_fraud=None)) if "\0" not in code else active().none()
    reason = fits.filter(code=code).first()
    if reason is None:
        raise ReasonMissing("The reason is not one for this decision: choose another. Nothing was changed.")
    if reason.needs_note and not note.strip():
        raise ReasonMissing(f"Write a note: “{reason}” needs one. Nothing was changed.")
