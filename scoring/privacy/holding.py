"""Gives out all that is held on an entity: a ZIP with JSON Lines, an object for each row, and the attached files."""

import base64
import json
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from django.contrib.auth.models import User
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Model, Q

from scoring.models import (
    Attachment,
    CardSnooze,
    Client,
    Fallback,
    FileHistory,
    History,
    Label,
    Pending,
    Prediction,
    Review,
    ReviewEvent,
    ReviewLink,
    SecondOpinion,
    ShadowScore,
    Transaction,
    WaitingLabel,
    WebhookDelivery,
)
from scoring.privacy import finding
from scoring.privacy.blanking import named_by, told_of
from scoring.privacy.finding import Held
from scoring.reviews import attachments

ROWS_NAME = "held.jsonl"
# From the keys of transactions to what belongs to them.
OF_TRANSACTIONS: tuple[tuple[type[Model], str], ...] = (
    (Prediction, "pk"),
    (Fallback, "pk"),
    (Pending, "pk"),
    (ShadowScore, "transaction"),
    (Label, "transaction"),
    (Review, "pk"),
    (ReviewLink, "review"),
    (ReviewEvent, "review"),
    (SecondOpinion, "pk"),
    (Attachment, "review"),
)
# Names of analysts are theirs, not the entity's.
OF_PEOPLE = {"author", "by", "removed_by"}


class Piece(NamedTuple):
    """A row that is held, and what it tells."""

    kind: str
    row: Model
    told: dict[str, Any]


def pieces(*, schema: str, entity: str, values: Sequence[str], client: Client | None) -> Iterator[Piece]:
    """Every row that is held on an entity. Memory holds those of one step of `ERASURE_STEP_ROWS` transactions.

    Raises:
        SchemaNotFound, NoSuchEntity, EntryRefused: as `finding.held_on`.
    """
    held = finding.held_on(schema, entity, values, client)
    yield from _elsewhere(schema, entity, held)
    last, _ = finding.window(after := None)
    while last is not None:
        rows = finding.transactions(schema, entity, held.tokens, after, last)
        yield from map(_piece, rows)
        if rows:
            yield from _of(rows)
        last, _ = finding.window(after := last)


def write(path: Path, found: Iterator[Piece], on_piece: Callable[[Piece], object]) -> Counter[str]:
    """Write what is held to a ZIP. Returns the number of rows by their kind. Interrupted, it leaves nothing behind."""
    unfinished = path.with_name(f".{path.name}.part")
    try:
        counts = _write(unfinished, found, on_piece)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)  # it holds personal data, and nobody would look for it
        raise
    return counts


def _write(path: Path, found: Iterator[Piece], on_piece: Callable[[Piece], object]) -> Counter[str]:
    counts: Counter[str] = Counter()
    files: list[Attachment] = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(ROWS_NAME, "w", force_zip64=True) as lines:
            for piece in found:
                line = {"table": piece.kind, **piece.told}
                lines.write(json.dumps(line, cls=DjangoJSONEncoder, ensure_ascii=False).encode() + b"\n")
                counts[piece.kind] += 1
                if isinstance(piece.row, Attachment) and piece.row.removed_at is None:
                    files.append(piece.row)
                on_piece(piece)
        for file in files:
            with attachments.store().open(file.stored) as content:
                archive.writestr(f"attachments/{file.pk}-{file.name}", content.read())
    return counts


def _elsewhere(schema: str, entity: str, held: Held) -> Iterator[Piece]:
    yield from map(_piece, finding.entries_of(schema, entity, held))
    for model, name in ((History, "token"), (FileHistory, "token"), (CardSnooze, "card")):
        yield from map(_piece, model._default_manager.filter(**{f"{name}__in": held.tokens}))


def _of(rows: Sequence[Transaction]) -> Iterator[Piece]:
    keys = [row.pk for row in rows]
    for model, name in OF_TRANSACTIONS:
        yield from map(_piece, model._default_manager.filter(**{f"{name}__in": keys}))
    others: tuple[tuple[type[Model], Q], ...] = (
        (WaitingLabel, named_by(rows)),
        (WebhookDelivery, Q(object__in=told_of(keys))),
    )
    for model, condition in others:
        yield from map(_piece, model._default_manager.filter(condition))


def _piece(row: Model) -> Piece:
    told = {
        field.attname: _written(getattr(row, field.attname))
        for field in row._meta.concrete_fields
        if field.related_model is not User and field.name not in OF_PEOPLE
    }
    return Piece(str(row._meta.verbose_name), row, told)


def _written(value: Any) -> Any:
    return base64.b64encode(bytes(value)).decode() if isinstance(value, bytes | memoryview) else value
