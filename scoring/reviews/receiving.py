"""Takes labels from clients: finds their transactions, recognises repeats, and keeps those that are early."""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import BooleanField, Exists, ExpressionWrapper, OuterRef, Q, QuerySet
from django.utils import timezone

from scoring.exceptions import FieldError, LabelConflict, RequestRefused, SchemaNotAllowed, UnacceptableValues
from scoring.learning import archive
from scoring.models import Label, Transaction
from scoring.retention import periods
from scoring.reviews import bulk
from scoring.reviews.bulk import Statement, content_of
from scoring.reviews.incoming import Incoming
from scoring.reviews.models import WaitingLabel
from training.core.exceptions import StaleHistory

logger = logging.getLogger(__name__)

AT_ONCE = 1_000


class Found(NamedTuple):
    """A client's transaction: our id, the client's id or, if it has none, ours, its schema, whether it has a place in
    histories, and whether it is archived and about to be dropped."""

    key: UUID
    name: str
    schema: str
    in_histories: bool
    is_archived: bool

    def is_of(self, schemas: Sequence[str]) -> bool:
        """Whether its schema is one of these; none stands for all."""
        return not schemas or self.schema in schemas


class Receipt(NamedTuple):
    """What became of an incoming label: stored, or waiting for its transaction `until`. `repeated`: it was known."""

    transaction: UUID | None
    until: datetime | None
    repeated: bool


def receive(
    client_id: int, incoming: Sequence[Incoming], *, schemas: Sequence[str] = ()
) -> list[Receipt | RequestRefused]:
    """Store labels from a client, in this order. Returns of each what became of it; one that is refused does not keep
    the others from being stored. `schemas` are those whose transactions it may label; none stands for all.

    Raises:
        StaleHistory: nothing was stored; a schema's histories have to be rebuilt.
    """
    try:
        return _receive(client_id, incoming, schemas)
    except IntegrityError:  # one of the transactions was deleted a moment ago, as retention says; now that is found
        return _receive(client_id, incoming, schemas)


def _receive(client_id: int, incoming: Sequence[Incoming], schemas: Sequence[str]) -> list[Receipt | RequestRefused]:
    found = _find(client_id, incoming)
    is_lost = any(name.is_archived if name else one.id for one, name in zip(incoming, found, strict=True))
    forgotten = periods.forgotten_before(client_id) if is_lost else None
    answers: dict[int, Receipt | RequestRefused] = {}
    known: dict[int, Statement] = {}
    early: dict[int, WaitingLabel] = {}
    for place, (one, name) in enumerate(zip(incoming, found, strict=True)):
        if name and not name.is_of(schemas):
            answers[place] = SchemaNotAllowed(name.schema)
        elif name and name.is_archived:
            answers[place] = _deleted(one, forgotten)
        elif name:
            known[place] = _statement(client_id, one, name)
        elif one.transaction_id and settings.LABEL_WAIT_DAYS:
            early[place] = _waiting(client_id, one, one.transaction_id, schemas)
        else:
            answers[place] = _unknown(one, forgotten)
    for place in _used_by_waiting(known, {one.key: one.name for one in found if one}):
        answers[place] = LabelConflict()
        del known[place]
    stored = _add(list(known.values()))
    for (place, statement), (label, repeated) in zip(known.items(), stored, strict=True):
        same = not repeated or content_of(label) == content_of(statement)
        answers[place] = Receipt(label.transaction_id, None, repeated) if same else LabelConflict()
    answers |= zip(early, _keep(client_id, list(early.values())), strict=True)
    return [answers[place] for place in range(len(incoming))]


def identity_of(client_id: int, one: Incoming, name: str) -> str:
    """What tells a repeat: the client's reference or, without one, all that was said. `name` is the client's id of the
    transaction or, if it has none, ours."""
    said = one.reference or repr((name, one.kind, one.source, one.event_time.isoformat(), one.amount))
    return hashlib.blake2b(f"{client_id} {bool(one.reference)} {said}".encode(), digest_size=16).hexdigest()


def attach(*, limit: int) -> int:
    """Make labels of those whose transaction has arrived since, and delete those that have waited too long. Returns how
    many became labels."""
    arrived = Transaction.objects.filter(client=OuterRef("client"), transaction_id=OuterRef("transaction_id"))
    if last := archive.boundary().last:
        arrived = arrived.filter(pk__gt=last)
    # A label whose transaction came in time is kept, however late this run is.
    in_time = arrived.filter(received_at__lte=OuterRef("expires_at"))
    expired, _ = WaitingLabel.objects.filter(~Exists(in_time), expires_at__lte=timezone.now()).delete()
    if expired:
        logger.warning("%d labels were dropped: their transactions did not arrive in LABEL_WAIT_DAYS.", expired)
    attached = 0
    for client_id in WaitingLabel.objects.values_list("client", flat=True).distinct():
        while attached < limit:
            try:
                count = _attach(client_id, arrived)
            except StaleHistory as error:  # those of other clients do not wait for this
                logger.error("Labels that were early wait on: %s", error)
                break
            attached += count
            if count < AT_ONCE:
                break
    return attached


@transaction.atomic
def _attach(client_id: int, arrived: QuerySet[Transaction]) -> int:
    """Make labels of the next of a client whose transactions have arrived. Returns how many did not wait any longer.

    Raises:
        StaleHistory: nothing was changed; a schema's histories have to be rebuilt.
    """
    waiting = WaitingLabel.objects.select_for_update(skip_locked=True)
    rows = list(waiting.filter(Exists(arrived), client=client_id).order_by("pk")[:AT_ONCE])
    incoming = [_incoming(row) for row in rows]
    found = zip(rows, incoming, _find(client_id, incoming), strict=True)
    _add(
        [
            _statement(client_id, one, name)._replace(identity=row.identity)
            for row, one, name in found
            if name and name.is_of(row.schemas)
        ]
    )
    WaitingLabel.objects.filter(pk__in=[row.pk for row in rows]).delete()
    return len(rows)


def _find(client_id: int, incoming: Sequence[Incoming]) -> list[Found | None]:
    """Of each the client's transaction; None if there is none."""
    in_histories = ExpressionWrapper(Q(sequence__isnull=False), BooleanField())
    own = Transaction.objects.filter(client=client_id)
    boundary = archive.boundary()
    own_rows = own.values_list("pk", "transaction_id", "schema", in_histories)
    ours: dict[UUID, Found] = {}
    theirs: dict[str, Found] = {}
    if wanted := {one.id for one in incoming if one.id}:
        for key, name, schema, has_place in own_rows.filter(pk__among=wanted):
            ours[key] = Found(key, name or str(key), schema, has_place, boundary.is_behind(key))
    if names := {one.transaction_id for one in incoming if one.transaction_id}:
        for key, name, schema, has_place in own_rows.filter(transaction_id__among=names):
            theirs[name] = Found(key, name, schema, has_place, boundary.is_behind(key))
    return [ours.get(one.id) if one.id else theirs.get(one.transaction_id or "") for one in incoming]


def _statement(client_id: int, one: Incoming, found: Found) -> Statement:
    identity = identity_of(client_id, one, found.name)
    said = (one.kind, one.source, one.event_time, one.amount, one.reference)
    return Statement(found.key, *said, identity, client_id, found.schema, found.in_histories)


def _waiting(client_id: int, one: Incoming, name: str, schemas: Sequence[str]) -> WaitingLabel:
    return WaitingLabel(
        client_id=client_id,
        schemas=list(schemas),
        identity=identity_of(client_id, one, name),
        expires_at=timezone.now() + timedelta(days=settings.LABEL_WAIT_DAYS),
        **{key: value for key, value in one._asdict().items() if key != "id"},
    )


def _used_by_waiting(known: Mapping[int, Statement], names: Mapping[UUID, str]) -> list[int]:
    """The places of statements whose reference is that of a label that waits and says something else: were they stored,
    that label would count as known when its transaction comes, and be lost. `names` are those of transactions."""
    identities = {statement.identity for statement in known.values() if statement.reference}
    if not identities:
        return []
    waiting = {row.identity: row for row in WaitingLabel.objects.filter(identity__among=identities)}
    return [
        place
        for place, statement in known.items()
        if (row := waiting.get(statement.identity))
        and content_of(row) != (*content_of(statement)[:-1], names[statement.transaction_id])
    ]


def _incoming(row: WaitingLabel) -> Incoming:
    return Incoming(None, row.transaction_id, row.kind, row.source, row.event_time, row.amount, row.reference)


def _unknown(one: Incoming, forgotten: datetime | None) -> RequestRefused:
    if one.id and forgotten and periods.is_before(one.id, forgotten):
        return _deleted(one, forgotten)
    remedy = "You have no transaction with this id. Send the id of one of our answers, or your own transaction_id."
    pointer = "/id" if one.id else "/transaction_id"
    return UnacceptableValues(errors=[FieldError(pointer, "unknown_transaction", remedy)])


def _deleted(one: Incoming, forgotten: datetime | None) -> RequestRefused:
    before = f" that were received before {forgotten:%Y-%m-%d} (UTC)" if forgotten else " that are so old"
    told = f"Transactions{before} are deleted, and take no labels."
    return UnacceptableValues(errors=[FieldError("/id" if one.id else "/transaction_id", "deleted_transaction", told)])


def _add(statements: list[Statement]) -> list[tuple[Any, bool]]:
    try:
        return bulk.add_labels(statements=statements) if statements else []
    except IntegrityError:  # another call stored one of these references a moment ago; now it is found
        return bulk.add_labels(statements=statements)


def _keep(client_id: int, early: list[WaitingLabel]) -> Iterable[Receipt | RequestRefused]:
    """Keep labels whose transactions have not arrived, as many as may wait. A repeat waits until the time that the
    first was told."""
    if not early:
        return
    identities = {one.identity: one for one in early}
    # A reference that is used already, by a label or by one that waits, is no new one.
    used = set(Label.objects.filter(identity__among=identities).values_list("identity", flat=True))
    waiting = WaitingLabel.objects.filter(identity__among=identities)
    before = set(waiting.values_list("identity", flat=True))
    fresh = [identity for identity in identities if identity not in used | before]
    refused = set(fresh[_room(client_id) :] if fresh else ())
    new = [one for identity, one in identities.items() if identity not in used | before | refused]
    WaitingLabel.objects.bulk_create(new, ignore_conflicts=True)
    kept = {one.identity: one for one in waiting.all()}
    for one in early:
        first = kept.get(one.identity)
        if first is None and one.identity in refused:
            yield _too_many()
        elif first is None or content_of(first) != content_of(one):
            yield LabelConflict()
        else:
            yield Receipt(None, first.expires_at, one.identity in before)
            before.add(one.identity)


def _room(client_id: int) -> int:
    """How many more labels of a client may wait."""
    return max(0, settings.LABEL_WAITING_LIMIT - WaitingLabel.objects.filter(client=client_id).count())


def _too_many() -> RequestRefused:
    remedy = (
        f"There is no such transaction, and {settings.LABEL_WAITING_LIMIT:,} labels of yours wait for theirs already. "
        "Send the transaction first, then the label."
    )
    return UnacceptableValues(errors=[FieldError("/transaction_id", "too_many_waiting", remedy)])
