"""What a line of the list and the page of a review say of it besides its score and its decision."""

from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from scoring.models import Review
from training.core.figures import at


def told_of(review: Review) -> list[tuple[str, str]]:
    """The marks of a review but for its due time, each with its class for the style sheet."""
    now = timezone.now()
    found = []
    if review.is_sample:
        found.append(("quiet", "random sample"))
    if review.decided_by_default:
        found.append(("late", "not decided in time: closed by default"))
    if review.state != Review.State.OPEN:
        return found
    if review.snoozed_until and review.snoozed_until > now:
        found.append(("quiet", f"snoozed until {at(review.snoozed_until)}"))
    if of_card := getattr(review, "card_snoozed_until", None):
        found.append(("quiet", f"card snoozed until {at(of_card)}"))
    if review.is_claimed:
        found.append(("quiet", f"{review.claimed_by} is at it"))
    elif review.is_assigned:
        found.append(("quiet", f"handed to {review.assigned_to}"))
    return found


def marks(review: Review) -> SafeString:
    return format_html_join("", ' <span class="{}">{}</span>', told_of(review))


def marks_with_due(review: Review) -> SafeString:
    """The marks, and before them when an open review is due. Times are compared by this machine's clock."""
    if review.due_at is None or review.state != Review.State.OPEN:
        return marks(review)
    is_late = review.due_at <= timezone.now()
    told = f"late since {at(review.due_at)}" if is_late else f"due {at(review.due_at)}"
    return format_html('<span class="{}">{}</span>{}', "late" if is_late else "quiet", told, marks(review))
