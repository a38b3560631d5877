"""The page of one rule across the versions of a policy: what was changed by whom and why, and what it matched."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import Sum
from django.db.models.functions import TruncDate
from django.utils import timezone

from scoring.policies import document
from scoring.policies.differences import Difference, differences
from scoring.policies.document import Document, PolicyInvalid, Rule
from scoring.policies.models import PolicyChange, RuleCount

# The latest changes of a schema's policies that are searched for those of the rule.
CHANGES_READ = 1_000


@dataclass
class RuleChange:
    """A change of a rule: one that a version's author made, or one that came into force with a version."""

    change: PolicyChange
    changed: list[Difference]


def changes_of(schema: str, name: str) -> list[RuleChange]:
    """The changes of a rule, the newest first, out of the schema's latest `CHANGES_READ`."""
    found = PolicyChange.objects.filter(version__schema=schema).select_related("version__based_on")
    latest = list(found.order_by("-at", "-pk")[:CHANGES_READ])
    return [*_changes(latest[::-1], name)][::-1]


def _changes(changes: list[PolicyChange], name: str) -> Iterator[RuleChange]:
    written: dict[int, Document] = {}
    in_force = Document()
    for change in changes:
        version, after = change.version, _of_rule(change.document, name)
        match change.action:
            case PolicyChange.Action.DRAFT | PolicyChange.Action.EDIT:
                based_on = version.based_on
                before = written.get(version.pk) or _of_rule(based_on.document if based_on else {}, name)
                written[version.pk] = after
            case PolicyChange.Action.ACTIVATE | PolicyChange.Action.ROLL_BACK:
                before, in_force = in_force, after
            case _:
                continue
        if changed := differences(before, after):
            yield RuleChange(change, [part._replace(part=part.part.split(": ", 1)[-1]) for part in changed])


def _of_rule(content: Any, name: str) -> Document:
    """The part of a policy that is one rule; empty if it cannot be read."""
    try:
        return Document(rules=[rule for rule in document.read(content).rules if rule.name == name])
    except PolicyInvalid:
        return Document()


def rule_in(content: Document, name: str) -> Rule | None:
    return next((rule for rule in content.rules if rule.name == name), None)


def days_of(schema: str, name: str) -> list[dict[str, Any]]:
    """What became of a rule on each day, UTC, for as long as counts are kept, the newest first. `share` is that of the
    day with the most matches, in percent."""
    since = timezone.now() - timedelta(days=settings.COUNTS_RETENTION_DAYS)
    counts = RuleCount.objects.filter(policy__schema=schema, rule=name, minute__gte=since)
    days: Any = counts.annotate(day=TruncDate("minute")).values("day").order_by("-day")
    sums = list(days.annotate(**{f"{part}_sum": Sum(part) for part in ("decided", "matched", "absent", "failed")}))
    most = max([1, *(day["matched_sum"] for day in sums)])
    return [day | {"share": round(100 * day["matched_sum"] / most, 2)} for day in sums]
