"""What the page of a policy shows: its document beside the live one, its changes, and what became of its rules."""

from datetime import timedelta
from typing import Any

from django.db.models import Sum
from django.utils import timezone

from scoring.models import PolicyVersion
from scoring.policies import capacity, versions
from scoring.policies.checking import FUNCTIONS
from scoring.policies.differences import differences
from scoring.policies.document import Document, PolicyInvalid
from scoring.policies.names import names_of
from training import registry
from training.core import figures


def shown(version: PolicyVersion) -> dict[str, Any]:
    """The context of the page, the same for everybody who may see it."""
    content, broken = content_of(version)
    now = versions.live(version.schema)
    champion = registry.champion_or_none(version.schema)
    return {
        "version": version,
        "content": content,
        "broken": broken,
        "revision": version.revision,
        "champion": champion,
        "champion_review": figures.threshold(champion.review_threshold) if champion else "",
        "champion_block": figures.threshold(champion.block_threshold) if champion else "",
        "against": now,
        "differences": differences(content_of(now)[0], content) if version.state != PolicyVersion.State.LIVE else [],
        "names": _names(version, content),
        "changes": _history(version),
        "counts": _counts(version),
        "load": _load(version, content),
        "backtests": version.backtests.all()[:5],
    }


def content_of(version: PolicyVersion | None) -> tuple[Document, str]:
    """The document of a version, and why it cannot be read, if it cannot."""
    try:
        return versions.content(version), ""
    except PolicyInvalid as error:
        return Document(), str(error)


def _names(version: PolicyVersion, content: Document) -> list[list[str]]:
    """What the editor completes: names and functions, with type and meaning."""
    schema = registry.declaration_in_force(version.schema)
    names = names_of(schema, content, versions.list_names(version.schema)).values()
    found = [[name.name, str(name.type), name.description] for name in names]
    found += [[f"{name}(", "function", ""] for name in FUNCTIONS if name[0] not in "_@"]
    return found


def _history(version: PolicyVersion) -> list[tuple[Any, list[Any]]]:
    """The changes of a version, the newest first, each with what it changed in the document."""
    changes = list(version.changes.all())
    found = []
    for change, before in zip(changes, [*changes[1:], None], strict=True):
        old = before.document if before else version.based_on.document if version.based_on else {}
        changed = [] if change.document == old else differences(_read(old), _read(change.document))
        found.append((change, changed))
    return found


def _counts(version: PolicyVersion) -> list[Any]:
    """What became of each rule in the last day."""
    found = version.rule_counts.filter(minute__gt=timezone.now() - timedelta(days=1)).values("rule").order_by("rule")
    sums = found.annotate(**{f"{name}_sum": Sum(name) for name in ("decided", "matched", "absent", "failed")})
    return list(sums)


def _load(version: PolicyVersion, content: Document) -> capacity.Load | None:
    """How many reviews the live policy opens; None of other versions."""
    if version.state != PolicyVersion.State.LIVE:
        return None
    return capacity.load(version.schema, content.capacity)


def _read(content: Any) -> Document:
    return content_of(PolicyVersion(document=content))[0]
