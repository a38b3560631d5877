"""Stored transactions, with what a policy needs to decide about them again."""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from django.db.models import Func, Q, QuerySet, TextField
from django.db.models.functions import Cast

from scoring.models import Label, Prediction
from scoring.policies.expressions import Case
from scoring.policies.names import HAS
from scoring.reviews import verdicts
from training.core.schema import EVENT_TIME, Schema
from training.models import ModelVersion

PAGE = 5_000


class Row(NamedTuple):
    """A stored transaction, the day of its decision, UTC, and its labels: True for fraud, None if unknown."""

    key: str
    day: str
    amount: float
    case: Case
    derived: Sequence[float | None]
    score: float
    decision: str
    then: bool | None
    now: bool | None


def rows_of(schema: Schema, since: datetime, until: datetime) -> QuerySet[Prediction]:
    """The stored predictions of a schema in a period: from `since`, before `until`."""
    versions = ModelVersion.objects.filter(schema=schema.name)
    return Prediction.objects.filter(
        model_version__in=list(versions), transaction__schema=schema.name, created_at__gte=since, created_at__lt=until
    )


class _Picked(Func):
    """The text of a JSON array: the values of a JSON object by these names, in order; null for a name that is None.

    The database picks them, as reading an object costs this process more than a policy takes to decide. PostgreSQL and
    SQLite understand the same text.
    """

    output_field = TextField()

    def __init__(self, column: Any, names: Sequence[str | None]) -> None:
        super().__init__(column)
        self.names = names

    def as_sql(self, compiler: Any, connection: Any, **_: Any) -> tuple[str, list[Any]]:  # type: ignore[override]
        [column] = self.get_source_expressions()
        sql, params = compiler.compile(column)
        parts, given = [], []
        for name in self.names:
            if name is None:
                parts.append("'null'")
            else:
                parts.append(f"COALESCE(CAST(({sql} -> %s) AS text), 'null')")
                given += [*params, name]
        joined = " || ',' || ".join(parts) or "''"
        return f"('[' || {joined} || ']')", given


class Reader:
    """Reads the stored transactions of a schema in pages, oldest first. `used` are the names that somebody asks for:
    the values of all others are None, and times 0 without `EVENT_TIME`. None for `used` reads them all."""

    def __init__(self, schema: Schema, since: datetime, until: datetime, used: Collection[str] | None = None) -> None:
        self.schema, self.since, self.until = schema, since, until
        self._values = [name if _is_in(name, used) or name == schema.amount else None for name in schema.feature_names]
        self._derived = [feature.name if _is_in(feature.name, used) else None for feature in schema.derived]
        self._has_moments = _is_in(EVENT_TIME, used)
        self._decode = msgspec.json.Decoder(list[Any]).decode

    def pages(self) -> Iterator[list[Row]]:
        found = rows_of(self.schema, self.since, self.until).order_by("created_at", "pk")
        # As texts, as Django takes longer to make objects of ids, times and JSON than a policy to decide.
        columns = found.annotate(
            key=Cast("pk", TextField()),
            at=Cast("created_at", TextField()),
            of_event=Cast("transaction__event_time", TextField()),
            fields=_Picked("transaction__fields", self._values),
            computed=_Picked("derived", self._derived),
            tokens=_Picked("transaction__tokens", self.schema.entity_names),
        ).values_list("key", "fraud_score", "decision", "at", "of_event", "fields", "computed", "tokens")
        after = Q()
        while page := list(columns.filter(after)[:PAGE]):
            rows = self._rows(page)
            yield rows
            key, moment = rows[-1].key, moment_of(page[-1][3])
            after = Q(created_at__gte=moment) & (Q(created_at__gt=moment) | Q(pk__gt=key))

    def _rows(self, page: list[tuple[Any, ...]]) -> list[Row]:
        then, now = self._labels(moment_of(page[0][3]), moment_of(page[-1][3]))
        decode, amount = self._decode, self.schema.amount_index
        derived, tokens = [None] * len(self._derived), [""] * len(self.schema.entities)
        rows = []
        for key, score, decision, at, of_event, fields, computed, of_entities in page:
            if len(key) == 32:  # SQLite has ids without dashes
                key = str(UUID(key))
            values = decode(fields)
            moments = (moment_of(of_event).timestamp(), moment_of(at).timestamp()) if self._has_moments else (0.0, 0.0)
            case = Case(values, decode(of_entities) if tokens else tokens, moments[0], key, moments[1])
            of_features = decode(computed) if derived else derived
            rows.append(
                Row(key, at[:10], values[amount], case, of_features, score, decision, then.get(key), now.get(key))
            )
        return rows

    def _labels(self, first: datetime, last: datetime) -> tuple[dict[str, bool | None], dict[str, bool | None]]:
        labels = Label.objects.filter(
            transaction__schema=self.schema.name,
            transaction__prediction__created_at__gte=first,
            transaction__prediction__created_at__lte=last,
        )
        then, now = verdicts.known(labels, at=self.until), verdicts.known(labels)
        return {str(key): verdict for key, verdict in then.items()}, {str(key): verdict for key, verdict in now.items()}


def _is_in(name: str, used: Collection[str] | None) -> bool:
    return used is None or name in used or f"{HAS}{name}" in used


def moment_of(text: str) -> datetime:
    """A time in a database's text, UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
