"""Takes the person out of stored transactions: what training needs of them is kept, and tells of nobody."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model, Q
from django.utils import timezone

from scoring import linked
from scoring.lists.keys import declared
from scoring.models import (
    Attachment,
    Fallback,
    Label,
    Pending,
    Prediction,
    Review,
    ReviewEvent,
    ReviewLink,
    SecondOpinion,
    Transaction,
    WaitingLabel,
    WebhookDelivery,
)
from scoring.retention import partitions
from scoring.reviews import attachments
from training.core.exceptions import SchemaNotFound

ERASED = "(erased)"


def found(rows: Sequence[Transaction]) -> Counter[str]:
    """How much there is of these transactions, by its kind."""
    keys = [row.pk for row in rows]
    return Counter(
        {
            "transactions": len(rows),
            "predictions": Prediction.objects.filter(pk__in=keys).count(),
            "fallbacks": Fallback.objects.filter(pk__in=keys).count(),
            "reviews": Review.objects.filter(pk__in=keys).count(),
            "labels": Label.objects.filter(transaction__in=keys).count(),
            "notes": ReviewEvent.objects.filter(review__in=keys).exclude(note="").count(),
            "attachments": Attachment.objects.filter(review__in=keys, removed_at=None).count(),
            "waiting labels": WaitingLabel.objects.filter(named_by(rows)).count(),
        }
    )


def blank(rows: Sequence[Transaction]) -> Counter[str]:
    """Erase the person from these transactions, in the database transaction of the caller. Returns what was found."""
    if not rows:
        return Counter()
    counts = found(rows)
    keys = [row.pk for row in rows]
    # Who scores a pending transaction locks these rows first, too.
    list(Pending.objects.select_for_update().filter(pk__in=keys).order_by("pk"))
    WaitingLabel.objects.filter(named_by(rows)).delete()
    WebhookDelivery.objects.filter(object__in=told_of(keys)).exclude(state=WebhookDelivery.State.PENDING).delete()
    # Locked, as labels and pending transactions that arrive meanwhile change a row, too.
    locked = list(Transaction.objects.select_for_update().filter(pk__in=keys).order_by("pk"))
    for row in locked:
        row.fields = _without_person(row.schema, row.fields)
    Transaction.objects.bulk_update(locked, ["fields"], batch_size=500)
    partitions.forget([(row.client_id, row.transaction_id) for row in locked if row.transaction_id is not None])
    nothing = dict.fromkeys(("tokens", "sequence", "transaction_id", "request_id", "trace_id"))
    Transaction.objects.filter(pk__in=keys).update(body_sha256="", **nothing)
    _blank_predictions({row.pk: row.schema for row in locked})
    Pending.objects.filter(pk__in=keys).update(fault="", request_id="")
    _blank_labels(keys)
    _blank_reviews(keys)
    return counts


def named_by(rows: Sequence[Transaction]) -> Q:
    """The condition on labels that wait for transactions of these names. None would be no condition at all."""
    names: dict[int, list[str]] = {}
    for row in rows:
        if row.transaction_id is not None:
            names.setdefault(row.client_id, []).append(row.transaction_id)
    condition = Q(pk__in=[])
    for client, of_client in names.items():
        condition |= Q(client=client, transaction_id__in=of_client)
    return condition


def told_of(keys: Sequence[Any]) -> list[str]:
    """Those of which webhooks told: alerts, and transactions that were answered without a score."""
    told = {*Review.objects.filter(pk__in=keys).values_list("pk", flat=True)}
    told |= {*Fallback.objects.filter(pk__in=keys).values_list("pk", flat=True)}
    return [str(key) for key in told]


def _without_person(schema_name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The values that a model reads, and other numbers, unless they are personal. What an earlier declaration had may
    have been personal."""
    kept = telling_of_nobody(schema_name)
    return {name: value if name in kept else None for name, value in fields.items()}


def telling_of_nobody(schema_name: str) -> frozenset[str]:
    """The names of values, sent or computed, that tell of nobody."""
    try:
        schema = declared(schema_name)
    except SchemaNotFound:
        return frozenset()
    values = {
        field.name
        for field in schema.features
        if (field.is_input or field.is_number) and field.kind not in linked.TELLING_KINDS
    }
    return frozenset((values | {feature.name for feature in schema.derived}) - schema.personal_names)


def _blank_predictions(schemas: Mapping[Any, str]) -> None:
    """`schemas` are those of the predictions, by their keys."""
    rows = list(Prediction.objects.filter(pk__in=schemas).only("reasons", "evidence", "derived"))
    for row in rows:
        row.reasons = [{name: told for name, told in reason.items() if name != "text"} for reason in row.reasons]
        row.evidence = _without_values(row.evidence)
        row.derived = row.derived and _without_person(schemas[row.pk], row.derived)
    Prediction.objects.bulk_update(rows, ["reasons"], batch_size=500)
    # Of those that have one: written in bulk, nothing would become a null of JSON.
    for name in ("evidence", "derived"):
        Prediction.objects.bulk_update([row for row in rows if getattr(row, name)], [name], batch_size=500)


def _without_values(evidence: dict[str, Any] | None) -> dict[str, Any] | None:
    """Without the values that rules read."""
    if not evidence or "rules" not in evidence:
        return evidence
    rules = [{name: told for name, told in rule.items() if name != "values"} for rule in evidence["rules"]]
    return evidence | {"rules": rules}


def _blank_labels(keys: Sequence[Any]) -> None:
    labels = Label.objects.filter(transaction__in=keys)
    _blank_log(Label, list(labels.values_list("pk", flat=True)))
    labels.update(reference="", identity=None, reason="", sequence=None, review_before=None)


def _blank_reviews(keys: Sequence[Any]) -> None:
    reviews = list(Review.objects.filter(pk__in=keys).values_list("pk", flat=True))
    for model in (Transaction, Prediction, Review, Pending):
        _blank_log(model, keys)
    if not reviews:
        return
    ReviewLink.objects.filter(review__in=reviews).delete()
    Review.objects.filter(pk__in=reviews).update(card="")
    ReviewEvent.objects.filter(review__in=reviews).update(note="")
    SecondOpinion.objects.filter(pk__in=reviews).update(note="", settled_because="")
    files = Attachment.objects.filter(review__in=reviews)
    for stored in files.filter(removed_at=None).values_list("stored", flat=True):
        attachments.store().delete(stored)  # before the commit: what is repeated finds nothing, and goes on
    files.filter(removed_at=None).update(removed_at=timezone.now())
    _blank_log(Attachment, list(files.values_list("pk", flat=True)))
    files.update(name=ERASED, sha256="", removed_because="")


def _blank_log(model: type[Model], keys: Sequence[Any]) -> None:
    """The admin's own log repeats names of rows, and what people wrote."""
    if keys:
        kind = ContentType.objects.get_for_model(model)
        entries = LogEntry.objects.filter(content_type=kind, object_id__in=[str(key) for key in keys])
        entries.update(object_repr=ERASED, change_message="")
