"""Takes labels from clients: finds their transactions, recognises repeats, and keeps those that are early."""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from scoring.exceptions import FieldError, LabelConflict, RequestRefused, UnacceptableValues
from scoring.models import Label, Transaction
from scoring.reviews import labelling
from scoring.reviews.incoming import Incoming
from scoring.reviews.labelling import Statement
from scoring.reviews.models import WaitingLabel

logger = logging.getLogger(__name__)

AT_ONCE = 1_000


class Receipt(NamedTuple):
    """What became of an incoming label: stored, or waiting for its transaction `until`. `repeated`: it was known."""

    transaction: UUID | None
    until: datetime | None
    repeated: bool


def receive(client_id: int, incoming: Sequence[Incoming]) -> list[Receipt | RequestRefused]:
    """Store labels from a client, in this order. Returns of each what became of it; one that is refused does not keep
    the others from being stored.

    Raises:
        StaleHistory: nothing was stored; a schema's histories have to be rebuilt.
    """
    found = _find(client_id, incoming)
    answers: dict[int, Receipt | RequestRefused] = {}
    known: dict[int, Statement] = {}
    early: dict[int, WaitingLabel] = {}
    for place, (one, name) in enumerate(zip(incoming, found, strict=True)):
        if name:
            known[place] = _statement(client_id, one, *name)
        elif one.transaction_id and settings.LABEL_WAIT_DAYS:
            early[place] = _waiting(client_id, one, one.transaction_id)
        else:
            answers[place] = _unknown(one)
    stored = _add(list(known.values()))
    for (place, statement), (label, repeated) in zip(known.items(), stored, strict=True):
        same = not repeated or _content(label) == _content(Label(**statement._asdict()))
        answers[place] = Receipt(label.transaction_id, None, repeated) if same else LabelConflict()
    answers |= zip(early, _keep(list(early.values())), strict=True)
    return [answers[place] for place in range(len(incoming))]


def identity_of(client_id: int, one: Incoming, name: str) -> str:
    """What tells a repeat: the client's reference or, without one, all that was said. `name` is the client's id of the
    transaction or, if it has none, ours."""
    said = one.reference or repr((name, one.kind, one.source, one.event_time.isoformat(), one.amount))
    return hashlib.blake2b(f"{client_id} {bool(one.reference)} {said}".encode(), digest_size=16).hexdigest()


def attach(*, limit: int) -> int:
    """Make labels of those whose transaction has arrived since, and delete those that have waited too long. Returns how
    many became labels."""
    expired, _ = WaitingLabel.objects.filter(expires_at__lte=timezone.now()).delete()
    if expired:
        logger.warning("%d labels were dropped: their transactions did not arrive in LABEL_WAIT_DAYS.", expired)
    arrived = Transaction.objects.filter(client=OuterRef("client"), transaction_id=OuterRef("transaction_id"))
    attached = 0
    for client_id in WaitingLabel.objects.values_list("client", flat=True).distinct():
        while attached < limit:
            with transaction.atomic():
                waiting = WaitingLabel.objects.select_for_update(skip_locked=True)
                rows = list(waiting.filter(Exists(arrived), client=client_id).order_by("pk")[:AT_ONCE])
                incoming = [_incoming(row) for row in rows]
                found = zip(rows, incoming, _find(client_id, incoming), strict=True)
                _add(
                    [
                        _statement(client_id, one, *name)._replace(identity=row.identity)
                        for row, one, name in found
                        if name
                    ]
                )
                WaitingLabel.objects.filter(pk__in=[row.pk for row in rows]).delete()
            attached += len(rows)
            if len(rows) < AT_ONCE:
                break
    return attached


def _find(client_id: int, incoming: Sequence[Incoming]) -> list[tuple[UUID, str] | None]:
    """Of each the client's transaction: our id, and the client's id or, if it has none, ours. None if there is none."""
    own = Transaction.objects.filter(client=client_id).values_list("pk", "transaction_id")
    ours = {key: (key, name or str(key)) for key, name in own.filter(pk__among={one.id for one in incoming if one.id})}
    names = {one.transaction_id for one in incoming if one.transaction_id}
    theirs = {name: (key, str(name)) for key, name in own.filter(transaction_id__among=names)}
    return [ours.get(one.id) if one.id else theirs.get(one.transaction_id) for one in incoming]


def _statement(client_id: int, one: Incoming, key: UUID, name: str) -> Statement:
    identity = identity_of(client_id, one, name)
    return Statement(key, one.kind, one.source, one.event_time, one.amount, one.reference, identity)


def _waiting(client_id: int, one: Incoming, name: str) -> WaitingLabel:
    return WaitingLabel(
        client_id=client_id,
        identity=identity_of(client_id, one, name),
        expires_at=timezone.now() + timedelta(days=settings.LABEL_WAIT_DAYS),
        **{key: value for key, value in one._asdict().items() if key != "id"},
    )


def _incoming(row: WaitingLabel) -> Incoming:
    return Incoming(None, row.transaction_id, row.kind, row.source, row.event_time, row.amount, row.reference)


def _unknown(one: Incoming) -> RequestRefused:
    remedy = "You have no transaction with this id. Send the id of one of our answers, or your own transaction_id."
    pointer = "/id" if one.id else "/transaction_id"
    return UnacceptableValues(errors=[FieldError(pointer, "unknown_transaction", remedy)])


def _add(statements: list[Statement]) -> list[tuple[Label, bool]]:
    try:
        return labelling.add_labels(statements=statements) if statements else []
    except IntegrityError:  # another call stored one of these references a moment ago; now it is found
        return labelling.add_labels(statements=statements)


def _keep(early: list[WaitingLabel]) -> Iterable[Receipt | RequestRefused]:
    """Keep labels whose transactions have not arrived. A repeat waits until the time that the first was told."""
    identities = [one.identity for one in early]
    # A reference that is used already, by a label or by one that waits, is no new one.
    used = {label.identity: label for label in Label.objects.filter(identity__in=identities)}
    before = {one.identity for one in WaitingLabel.objects.filter(identity__in=identities)}
    fresh = [one for one in early if one.identity not in used]
    WaitingLabel.objects.bulk_create(fresh, ignore_conflicts=True)
    kept = {one.identity: one for one in WaitingLabel.objects.filter(identity__in=identities)}
    for one in early:
        first = kept.get(one.identity)
        if first is None or (first.transaction_id, *_content(first)) != (one.transaction_id, *_content(one)):
            yield LabelConflict()
        else:
            yield Receipt(None, first.expires_at, one.identity in before)
            before.add(one.identity)


def _content(one: Label | WaitingLabel) -> tuple[object, ...]:
    return (one.kind, one.source, one.event_time, one.amount, one.transaction_id)
