"""For how long rows are kept, and since when all of them are there."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import Max

from scoring.clients.models import Client
from scoring.retention.models import Forgotten

TIME_ORDERED = 7  # the version of UUIDs that begin with their time: RFC 9562, section 5.7


def cutoff(days: int | None, now: datetime) -> datetime | None:
    """The midnight (UTC) before which rows are to be deleted; None if they are kept for ever, for 0 days.

    Whole days are deleted, so that what is counted by the day is complete or gone."""
    if not days:
        return None
    return (now.astimezone(UTC) - timedelta(days=days)).replace(hour=0, minute=0, second=0, microsecond=0)


def of_transactions(client: Client, now: datetime) -> datetime | None:
    """The time before which a client's transactions are to be deleted; None if they are kept for ever."""
    own = client.keep_transactions_days
    return cutoff(settings.TRANSACTION_RETENTION_DAYS if own is None else own, now)


def complete_since() -> datetime | None:
    """The time since which no decision was deleted, of any client; None if none ever was. What is counted by reading
    rows of before would come out too small: such counts have to stay as they are."""
    return Forgotten.objects.aggregate(latest=Max("decided_before"))["latest"]


def forgotten_before(client_id: int) -> datetime | None:
    """The time before which a client's transactions are deleted; None if none are."""
    return Forgotten.objects.filter(client=client_id).values_list("before", flat=True).first()


def is_before(key: UUID, moment: datetime) -> bool:
    """Whether an id of ours was drawn before a time: it begins with its own."""
    return key.version == TIME_ORDERED and datetime.fromtimestamp((key.int >> 80) / 1000, UTC) < moment


def check(days: int | None) -> None:
    """Refuse a time to keep a client's transactions that is too short.

    Raises:
        ValidationError: says how long it has to be.
    """
    if days and days < settings.LABEL_MATURITY_DAYS:
        raise ValidationError(
            f"Keep them for at least {settings.LABEL_MATURITY_DAYS:g} days (LABEL_MATURITY_DAYS): until then the "
            "outcomes of decisions are counted, for all clients together."
        )
