"""Formats rows for the pages of the admin: badges, meters, tables of values."""

from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from math import floor, log10
from typing import Any

from django.conf import settings
from django.db.models import Model
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from scoring import served
from scoring.messages.answers import Reason, answer_of
from scoring.models import Label, Pending, Prediction, Review, Transaction
from scoring.policies import evidence
from scoring.policies.document import State
from scoring.policies.evidence import Basis, MatchedRule
from scoring.policies.names import FRAUD_SCORE
from training.core.figures import at, score
from training.core.schema import EVENT_TIME, Schema

HIDDEN = "hidden"  # in place of a personal value
Hiding = Callable[[str], bool]
LABEL_COLUMNS = ("Time", "Label", "Kind", "Source", "By", "Reason")


def score_meter(prediction: Prediction) -> SafeString:
    return format_html(
        '<span class="score"><meter class="{}" value="{}"></meter> {}</span>',
        prediction.decision,
        f"{prediction.fraud_score:.4f}",  # the meter draws no more digits
        score(prediction.fraud_score),
    )


def money(transaction: Transaction) -> str:
    """The amount with its schema's decimals and currency; with all its digits if the schema is gone."""
    return amount_of(transaction.schema, transaction.amount)


def amount_of(schema: str, amount: float) -> str:
    if declared := served.now().schemas.get(schema):
        return f"{amount:,.{declared.amount_decimals}f} {declared.currency}".rstrip()
    text = f"{amount:,.2f}"
    return text if float(text.replace(",", "")) == amount else f"{amount:,}"


def decision_badge(decision: str) -> SafeString:
    return format_html('<span class="badge {}">{}</span>', decision, decision)


def fraud_badge(is_fraud: bool | None) -> SafeString | str:
    """The value of a label, in a colour; a dash if there is none."""
    if is_fraud is None:
        return "-"
    kind, word = ("fraud", "Fraud") if is_fraud else ("legitimate", "Legitimate")
    return format_html('<span class="badge {}">{}</span>', kind, word)


def label_badge(label: Label) -> SafeString:
    """The value of a label, or its kind if it leaves that open."""
    open_word = "disputed" if label.kind == Label.Kind.DISPUTED else "taken back"
    return format_html("{}", open_word if label.is_fraud is None else fraud_badge(label.is_fraud))


def reason_of(label: Label) -> str:
    """The code of a label's reason and what its author wrote, as far as there are any."""
    return ": ".join(part for part in (label.code, label.reason) if part)


def label_table(transaction: Transaction) -> SafeString | str:
    """All labels of a transaction, the latest first; empty if there are none."""
    labels = transaction.labels.select_related("author").order_by("-created_at", "-pk")
    rows = format_html_join(
        "",
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
        (
            (
                at(label.created_at),
                label_badge(label),
                label.get_kind_display() or "-",
                label.get_source_display(),
                label.author or "-",
                reason_of(label) or label.reference,
            )
            for label in labels
        ),
    )
    heads = format_html_join("", '<th scope="col">{}</th>', ((name,) for name in LABEL_COLUMNS))
    table = '<table class="labels"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>'
    return format_html(table, heads, rows) if rows else ""


def state_badge(review: Review) -> SafeString | str:
    return "Open" if review.state == Review.State.OPEN else fraud_badge(review.state == Review.State.FRAUD)


def answer_badge(transaction: Transaction) -> SafeString | str:
    """The decision in the client's answer, marked if it was made without a score; empty while there is no answer."""
    given = answer_of(transaction)
    if given is None:
        return ""
    note = format_html(' <span class="quiet">{}</span>', "without a score") if hasattr(transaction, "fallback") else ""
    return format_html("{}{}", decision_badge(given.decision), note)


def span(time: timedelta) -> str:
    """A duration in one or two units.

    >>> span(timedelta(seconds=50)), span(timedelta(hours=3, minutes=5)), span(timedelta(days=12, hours=1))
    ('1 min', '3 h 5 min', '12 days')
    """
    minutes = max(1, round(time.total_seconds() / 60))
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} days"
    return " ".join(f"{number} {unit}" for number, unit in ((hours, "h"), (minutes, "min")) if number)


def due_time(review: Review) -> SafeString | str:
    """In how long an open review is due, or for how long it is late; a dash if it has no due time."""
    if review.due_at is None or review.state != Review.State.OPEN:
        return "-"
    left = review.due_at - timezone.now()
    told = f"in {span(left)}" if left > timedelta(0) else f"{span(-left)} late"
    late = "late" if left <= timedelta(0) else ""
    return format_html('<span class="due {}" title="{}">{}</span>', late, at(review.due_at), told)


def waiting(pending: Pending) -> str:
    if pending.attempts >= settings.PENDING_ATTEMPTS_LIMIT:
        return f"has no score after {pending.attempts} attempts" + (f": {pending.fault}" if pending.fault else "")
    return "waits for its score" + (f": {pending.fault}" if pending.fault else "")


def reasons_in_words(prediction: Prediction, *, personal: bool) -> SafeString:
    """For a line of a list: the lists and active rules that decided, and the reasons of the score. The strongest reason
    is told in its sentence, the others by their names; their sentences are shown under the mouse. Those of personal
    values are told if `personal`."""
    hides = hiding(prediction.transaction.schema, personal=personal)
    found = evidence.read(prediction.evidence)
    tags = [("list", hit.list) for hit in found.lists] + [("rule", name) for name in found.active_rules]
    shown = [format_html('<span class="tag" title="A {}">{}</span>', *tag) for tag in tags]
    for place, reason in enumerate(prediction.reasons):
        sentence = told(reason, hides)
        name, added = reason["feature"], f"{reason['contribution']:+.2f}"
        words = sentence if place == 0 and sentence not in ("", HIDDEN) else added
        shown.append(format_html('<span class="reason" title="{}"><b>{}</b> {}</span>', sentence or added, name, words))
    return format_html_join(" ", "{}", ((each,) for each in shown))


def told(reason: Reason, hides: Hiding) -> str:
    """The sentence of a reason, unless it is of a personal value that is hidden."""
    return HIDDEN if hides(reason["feature"]) else reason.get("text", "")


def hiding(schema: str, *, personal: bool) -> Hiding:
    """Says of a name whether its value is hidden: if it is personal, tells something personal, or if nobody knows, as
    it is not declared any more."""
    if personal:
        return lambda name: False
    declared = served.now().schemas.get(schema)
    open_names = _declared(declared).keys() - declared.personal_names if declared else frozenset()
    return lambda name: name not in open_names


# Names in rules that are no values of a request.
OF_POLICIES = {FRAUD_SCORE, EVENT_TIME}
BASES = {
    Basis.SCORE: "the score",
    Basis.RULE: "rules",
    Basis.LIST: "lists",
    Basis.CONTROL: "the control group, which lets it through",
}


def decided_by(prediction: Prediction, *, personal: bool) -> SafeString:
    """What made the decision: the policy version, and the lists, rules and segment that had a say. Personal values in
    rules are shown if `personal`."""
    hides = hiding(prediction.transaction.schema, personal=personal)
    found = evidence.read(prediction.evidence)
    lines = [format_html("By {}", BASES[found.basis])]
    if policy := prediction.policy:
        lines = [format_html("By {} of {}", BASES[found.basis], link(policy, str(policy)))]
    lines += [format_html("List <b>{}</b>: {}", hit.list, decision_badge(hit.action)) for hit in found.lists]
    lines += [_matched(matched, hides) for matched in found.rules]
    if found.segment:
        lines.append(format_html("Thresholds of the segment <b>{}</b>", found.segment))
    lines += [format_html("<b>{}</b> could not be calculated", name) for name in found.failed]
    return format_html(
        '<ul class="decided-by">{}</ul>', format_html_join("", "<li>{}</li>", ((line,) for line in lines))
    )


def _matched(matched: MatchedRule, hides: Hiding) -> SafeString:
    values = ", ".join(
        f"{name} {HIDDEN if name not in OF_POLICIES and hides(name) else number(value)}"
        for name, value in sorted(matched.values.items())
    )
    shadow = format_html(' <span class="quiet">{}</span>', "a shadow rule, without effect")
    return format_html(
        "Rule <b>{}</b>: {}{} <span>{}</span>",
        matched.rule,
        decision_badge(matched.action),
        shadow if matched.state == State.SHADOW else "",
        values,
    )


def field_table(transaction: Transaction, *, personal: bool) -> SafeString:
    """The fields that were sent, then the computed ones; those that raised the score most are highlighted. Personal
    values are shown if `personal`.

    The first digits of a token are shown: enough to recognise it in another transaction.
    """
    prediction = transaction.prediction if hasattr(transaction, "prediction") else None
    raised = {reason["feature"] for reason in prediction.reasons} if prediction else set()
    sent = transaction.fields | {name: f"{token[:8]}…" for name, token in (transaction.tokens or {}).items()}
    derived = (prediction.derived if prediction else None) or {}
    schema = served.now().schemas.get(transaction.schema)
    declared = _declared(schema) if schema else {}
    hides = hiding(transaction.schema, personal=personal)
    tables = [(kind, values) for kind, values in (("", sent), ("derived", derived)) if values]
    return format_html_join(
        "", '<dl class="fields {}">{}</dl>', ((kind, _cells(it, raised, declared, hides)) for kind, it in tables)
    )


@lru_cache
def _declared(schema: Schema) -> dict[str, tuple[str, str]]:
    """The unit and description of everything that a schema declares, by name."""
    parts = (*schema.features, *schema.entities, *schema.derived)
    return {part.name: (getattr(part, "unit", ""), part.description) for part in parts}


def _cells(values: dict[str, Any], raised: set[str], declared: dict[str, tuple[str, str]], hides: Hiding) -> SafeString:
    cells = []
    in_order = {name: values[name] for name in declared if name in values} | values  # PostgreSQL keeps no order
    for name, value in in_order.items():
        unit, description = declared.get(name, ("", ""))
        title = f"{description} ({unit})" if unit not in ("", "1") else description
        shown = HIDDEN if hides(name) else "missing" if value is None else number(value)
        cells.append(("raised" if name in raised else "", title, name, shown))
    return format_html_join("", '<div class="{}" title="{}"><dt>{}</dt><dd>{}</dd></div>', cells)


def number(value: Any) -> str:
    """Format a number with about six digits, with separators and without an exponent.

    >>> number(5184000.0), number(85.54712345), number(0.0123456789), number(-1e-9)
    ('5,184,000', '85.5471', '0.012346', '0')
    """
    if not isinstance(value, float):
        return str(value)
    decimals = min(6, max(0, 5 - floor(log10(abs(value))))) if value else 0
    text = f"{value:,.{decimals}f}"
    text = text.rstrip("0").rstrip(".") if decimals else text
    return "0" if text == "-0" else text


def link(obj: Model, text: str) -> SafeString:
    return format_html(
        '<a href="{}">{}</a>', reverse(f"admin:scoring_{obj._meta.model_name}_change", args=[obj.pk]), text
    )
