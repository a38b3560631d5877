"""Puts the panels on the page of a case. One that fails, or takes longer than `CASE_PANEL_TIMEOUT_MS`, says so in its
place, and the others stand."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe

from scoring.lists.keys import declared
from scoring.models import Label, Review, ReviewLink
from scoring.pages.display import (
    amount_of,
    answer_badge,
    decided_by,
    field_table,
    label_badge,
    label_table,
    link,
    reason_of,
    score_meter,
    state_badge,
)
from scoring.pages.explanation import reason_table
from scoring.reviews import second_opinions
from scoring.reviews.case import links, places, similar, story, timeline
from scoring.reviews.case.past import Line, has_history, is_personal, told_apart, transactions_of
from scoring.tenancy import restriction
from training.core.exceptions import SchemaNotFound
from training.core.figures import at, short
from training.core.schema import Schema

logger = logging.getLogger(__name__)

TEMPLATES = "admin/scoring/review/case"
NOTES_SHOWN = 8
ENTITIES_DRAWN = 2
UNSEEN = mark_safe('<p class="quiet">You see them once you have given your opinion.</p>')
SECOND_OPINION = mark_safe('<span class="quiet" title="You may give the second opinion on it.">second opinion</span>')
DECIDED_LATER = mark_safe('<span class="quiet" title="After this alert was decided.">decided later</span>')


class Case:
    """A case on its page, as its viewer may see it. Each public property is the content of a panel.

    What a viewer is asked a second opinion on shows neither label nor decision, here and on the pages of other cases,
    and here nothing that came after it was decided.
    """

    def __init__(self, review: Review, *, viewer: User, personal: bool) -> None:
        self.review, self.viewer, self.personal = review, viewer, personal
        self.row = review.prediction.transaction

    @cached_property
    def schema(self) -> Schema | None:
        """Its declaration; None if that is gone, and so whatever is told of its parts."""
        try:
            return declared(self.row.schema)
        except SchemaNotFound:
            return None

    @cached_property
    def before(self) -> datetime | None:
        """If the viewer may give a second opinion on this case: when it was decided. The panels tell what was known
        before that time. None for everybody else."""
        return second_opinions.decided_at(self.viewer, self.review.pk)

    @property
    def is_blind(self) -> bool:
        return self.before is not None

    @property
    def story(self) -> SafeString:
        return self._panel("story", self._story)

    @property
    def why(self) -> SafeString:
        return self._panel("why", lambda: {"table": reason_table(self.review.prediction, personal=self.personal)})

    @property
    def timelines(self) -> SafeString:
        return self._panel("timelines", self._timelines)

    @property
    def map(self) -> SafeString:
        return self._panel("map", self._map)

    @property
    def links(self) -> SafeString:
        return self._panel("links", self._links)

    @property
    def similar(self) -> SafeString:
        return self._panel("similar", self._similar)

    @property
    def notes(self) -> SafeString:
        return self._panel("notes", self._notes)

    @property
    def values(self) -> SafeString:
        return self._panel("values", lambda: {"table": field_table(self.row, personal=self.personal)})

    def _panel(self, name: str, content: Callable[[], dict[str, Any]]) -> SafeString:
        try:
            with bounded():
                return render_to_string(f"{TEMPLATES}/{name}.html", content())
        except Exception:  # whatever is wrong with a panel, the analyst needs the others
            logger.exception("The panel %s of the case %s failed.", name, self.review.pk)
            return render_to_string(f"{TEMPLATES}/failed.html", {"name": name})

    def _story(self) -> dict[str, Any]:
        prediction = self.review.prediction
        return {
            "sentences": story.told(self.schema, self.row, personal=self.personal),
            "meter": score_meter(prediction),
            "decision": answer_badge(self.row),
            "decided_by": decided_by(prediction, personal=self.personal),
            "client": self.row.client,
            "transaction": link(self.row, str(self.row)),
            "opened": at(self.review.opened_at),
            "review": self.review,
            "state": "" if self.is_blind or self.review.state == Review.State.OPEN else state_badge(self.review),
            "closed": "" if self.is_blind else self.review.closed_at and at(self.review.closed_at),
        }

    @property
    def card(self) -> str:
        """The entity that pays: the one that is blocked after a fraud, or the first that is sent; empty without any."""
        if self.schema is None:
            return ""
        sent = [entity.name for entity in self.schema.entities if not entity.of]
        return self.schema.card or (sent[0] if sent else "")

    @cached_property
    def of_card(self) -> Line:
        token = (self.row.tokens or {}).get(self.card)
        return self._line(self.schema, self.card, token) if self.schema and token else Line([])

    def _timelines(self) -> dict[str, Any]:
        if self.schema is None:
            return {}
        schema, entities = self.schema, self._entities(self.schema)
        drawn = []
        for name, token in entities[:ENTITIES_DRAWN]:
            line = self.of_card if name == self.card else self._line(schema, name, token)
            since = line.complete_since
            drawn.append(
                {
                    "name": name,
                    "address": self._address(name, token),
                    "rows": line.rows,
                    "known": has_history(schema, name),
                    "since": at(since) if since and line.rows and line.rows[0].event_time < since else "",
                    "more": line.more,
                    "drawing": timeline.draw(self.row.schema, line.rows, self.row.pk),
                }
            )
        others = [(name, self._address(name, token)) for name, token in entities[ENTITIES_DRAWN:]]
        return {"drawn": drawn, "others": others}

    def _line(self, schema: Schema, name: str, token: str) -> Line:
        """The transactions of an entity around this one; if its history does not go back so far, older alerts."""
        around: dict[str, Any] = {"viewer": self.viewer, "at": self.row.event_time, "before": self.before}
        line = transactions_of(schema, name, token, **around)
        if any(past.pk == self.row.pk for past in line.rows):
            return line
        return transactions_of(schema, name, token, until=self.row, **around)

    def _entities(self, schema: Schema) -> list[tuple[str, str]]:
        """The entities of the transaction that have a time line, the card first, and their tokens."""
        tokens = self.row.tokens or {}
        names = [entity.name for entity in told_apart(schema) if entity.name in tokens]
        names = [name for name in names if self.personal or not is_personal(schema, name)]
        return [(name, tokens[name]) for name in sorted(names, key=lambda name: name != self.card)]

    def _address(self, name: str, token: str) -> str:
        return reverse("admin:scoring_transaction_entity", args=[self.row.schema, name, token])

    def _map(self) -> dict[str, Any]:
        if self.schema is None or not self.schema.points:
            return {}
        past = self.of_card.rows
        return {"drawing": places.draw(self.schema, self.row, past, personal=self.personal)}

    def _links(self) -> dict[str, Any]:
        if self.schema is None:
            return {}
        found = links.find(
            self.schema, self.review, personal=self.personal, clients=restriction.clients_of(self.viewer)
        )
        tokens = self.row.tokens or {}
        hidden = second_opinions.hidden_among(self.viewer, [review.pk for _, review in found.alerts])
        shared = [(each, self._address(each.name, each.key) if each.name in tokens else "") for each in found.shared]
        alerts = [
            {
                "linked": linked,
                "review": link(review, short(review.opened_at)),
                "amount": amount_of(self.row.schema, review.prediction.transaction.amount),
                "state": SECOND_OPINION if review.pk in hidden else self._state(review),
                "by": ", ".join(linked.by),
            }
            for linked, review in found.alerts
            if self.before is None or review.opened_at < self.before
        ]
        return {"found": found, "shared": shared, "alerts": alerts, "limit": settings.CASE_LINKS_LIMIT}

    def _state(self, review: Review) -> SafeString | str:
        """What became of another review, as far as the viewer may know here."""
        is_later = self.before and review.closed_at and review.closed_at >= self.before
        return DECIDED_LATER if is_later else state_badge(review)

    def _similar(self) -> dict[str, Any]:
        found = similar.find(self.review, self.viewer, self.before)
        words = _last_words(self._labels().filter(transaction__in=[each.review.pk for each in found]))
        cases = [
            {
                "case": each,
                "review": link(each.review, short(each.review.opened_at)),
                "amount": amount_of(self.row.schema, each.review.prediction.transaction.amount),
                "state": state_badge(each.review),
                "label": words.get(each.review.pk, ""),
            }
            for each in found
        ]
        return {"cases": cases, "explained": bool(self.review.prediction.explanation)}

    def _labels(self) -> QuerySet[Label]:
        """The labels that the viewer may see here."""
        labels = second_opinions.labels_shown_to(self.viewer, Label.objects.all())
        return labels.filter(created_at__lt=self.before) if self.before else labels

    def _notes(self) -> dict[str, Any]:
        """The labels of this transaction, and what was said of others of the card: frauds, and what people wrote."""
        others = {past.pk for past in self.of_card.rows} - {self.row.pk}
        if token := (self.row.tokens or {}).get(self.card):
            alerts = ReviewLink.objects.filter(key=token).exclude(review=self.review.pk).order_by("-review")
            others |= set(alerts.values_list("review", flat=True)[: settings.CASE_TIMELINE_ROWS])
        said = self._labels().filter(transaction__in=others).select_related("author", "transaction")
        said = restriction.visible(said, self.viewer)
        said = said.filter(Q(is_fraud=True) | Q(source=Label.Source.ANALYST) | ~Q(reason=""))
        earlier = [
            {
                "at": short(label.created_at),
                "transaction": link(label.transaction, amount_of(self.row.schema, label.transaction.amount)),
                "badge": label_badge(label),
                "who": label.author or label.get_source_display(),
                "reason": reason_of(label),
            }
            for label in said.order_by("-created_at")[:NOTES_SHOWN]
        ]
        labels = UNSEEN if self.is_blind else label_table(self.row)
        return {"labels": labels, "earlier": earlier, "card": self.card}


def _last_words(labels: QuerySet[Label]) -> dict[UUID, str]:
    """What the latest of these labels of each transaction says, and its reason."""
    return {
        label.transaction_id: ", ".join(
            part
            for part in (
                f"{label.get_kind_display() or label.get_is_fraud_display()} by {label.get_source_display().lower()}",
                reason_of(label),
            )
            if part
        )
        for label in labels.order_by("created_at", "pk")
    }


@contextmanager
def bounded() -> Iterator[None]:
    """Let the queries inside take at most `CASE_PANEL_TIMEOUT_MS` each, where the database can end them, and undo
    whatever fails there."""
    if connection.vendor != "postgresql":
        yield  # a transaction of SQLite's would wait for workers that write
        return
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(settings.CASE_PANEL_TIMEOUT_MS)])
        yield
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout TO DEFAULT")
