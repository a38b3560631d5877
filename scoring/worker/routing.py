"""Which queue a new review goes to: the first active one, by position, whose expression is true of it.

A worker process holds the queues in memory and follows the database as it follows policies.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Self

from django.db import transaction
from django.db.models import F

from scoring.models import Prediction, Review, ReviewQueue
from scoring.policies import evidence
from scoring.policies.document import Document
from scoring.policies.expressions import Binder, Case, Expression
from scoring.policies.names import Name, Type, names_of
from training.core.schema import Schema

logger = logging.getLogger(__name__)

# What expressions of queues may use besides what rules may use.
OF_REVIEWS = (
    Name("schema", Type.TEXT, "The name of the schema"),
    Name("decision", Type.TEXT, "The decision that the client heard"),
    Name("segment", Type.TEXT, "The segment of the policy that held; empty if there is none"),
    Name("rules", Type.TEXTS, "The active rules that matched"),
    Name("expected_loss", Type.NUMBER, "The score times the amount"),
)


def routing_names(schema: Schema, document: Document, lists: Sequence[str]) -> dict[str, Name]:
    """The names that expressions of queues may use for a schema. Those of the schema come before others."""
    names = names_of(schema, document, lists)
    return names | {name.name: name for name in OF_REVIEWS if name.name not in names}


class Rows(NamedTuple):
    """What a router is made of: it is renewed when this changes."""

    schema: Schema
    document: Document
    lists: Sequence[str]
    queues: Sequence[tuple[int, str, str, int | None]]


class _Route(NamedTuple):
    """A queue as a router holds it. `expression` is None if the queue takes every review."""

    pk: int
    expression: Expression | None
    due: timedelta | None


class Router:
    """The queues of a schema's reviews. A queue whose expression has a name that the schema lacks takes none of them.

    `failed` counts, by queue, the reviews for which an expression could not be calculated; such a queue is passed over.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.failed: Counter[int] = Counter()
        names = routing_names(rows.schema, rows.document, rows.lists)
        self._routes = []
        for pk, name, source, due_minutes in rows.queues:
            try:
                expression = Expression(source) if source.strip() else None
            except ValueError as error:
                logger.error("The queue %s is left out: %s", name, error)
                continue
            if expression is None or names.keys() >= set(expression.names):
                due = None if due_minutes is None else timedelta(minutes=due_minutes)
                self._routes.append(_Route(pk, expression, due))
        used = {name for route in self._routes if route.expression for name in route.expression.names}
        self._binder = Binder(rows.schema, names, used, rows.document.constants)
        self._own = used - names_of(rows.schema, rows.document, rows.lists).keys()

    @classmethod
    def none(cls, schema: Schema) -> Self:
        """A router without queues."""
        return cls(Rows(schema, Document(), (), ()))

    def route(self, review: Review, prediction: Prediction, *, at: datetime) -> None:
        """Give a review, whose prediction and transaction are loaded, its queue and its due time, counted from `at`."""
        review.queue_id = review.due_at = None
        if not self._routes:
            return
        bound = self._bound(review, prediction)
        for route in self._routes:
            if route.expression is None or self._matches(route.pk, route.expression, bound):
                review.queue_id = route.pk
                review.due_at = None if route.due is None else at + route.due
                return

    def _bound(self, review: Review, prediction: Prediction) -> dict[str, Any]:
        row, schema, found = prediction.transaction, self.rows.schema, evidence.read(prediction.evidence)
        case = Case(
            [row.fields.get(name) for name in schema.feature_names], (), row.event_time.timestamp(), str(row.pk)
        )
        computed = prediction.derived or {}
        derived = [computed.get(feature.name) for feature in schema.derived]
        on = {*found.on, *(hit.list for hit in found.lists)}
        bound: dict[str, Any] = dict(self._binder.context(case, derived, prediction.fraud_score, on).bound)
        own: dict[str, Any] = {
            "schema": row.schema,
            "decision": str(review.decision),
            "segment": found.segment or "",
            "rules": found.active_rules,
            "expected_loss": review.expected_loss,
        }
        return bound | {name: own[name] for name in self._own}

    def _matches(self, pk: int, expression: Expression, bound: dict[str, Any]) -> bool:
        try:
            return expression.execute(bound) is True
        except Exception:  # the library raises errors of many types
            if all(name in bound for name in expression.names):  # an absent value just does not match
                self.failed[pk] += 1
            return False


def active_queues() -> list[tuple[int, str, str, int | None]]:
    """The queues that reviews are routed to. The supervisors' is one of them only if it has an expression."""
    asked = ReviewQueue.objects.filter(is_active=True).exclude(is_for_supervisors=True, expression="")
    return list(asked.order_by("position", "name").values_list("pk", "name", "expression", "due_minutes"))


def current(schema: Schema, document: Document, lists: Sequence[str], before: Router | None) -> Router:
    """The router of a schema, up to date: `before` itself if nothing changed."""
    rows = Rows(schema, document, tuple(lists), active_queues())
    if before and before.rows.schema is schema and before.rows.document is document and before.rows == rows:
        return before
    if before:
        count_failures(before)
    return Router(rows)


def count_failures(router: Router) -> None:
    """Add the failures to the queues in the database; they are kept for the next time if that fails.

    Raises:
        django.db.DatabaseError: the database does not answer.
    """
    failed = sorted((pk, number) for pk, number in router.failed.items() if number)
    if not failed:
        return
    with transaction.atomic():
        for pk, number in failed:
            ReviewQueue.objects.filter(pk=pk).update(failures=F("failures") + number)
    router.failed.subtract(dict(failed))
