"""The versions of policies: drafting, editing, approving, making live and rolling back."""

from collections.abc import Collection
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from scoring.lists import changes as lists
from scoring.policies import checking, document
from scoring.policies.document import Document, PolicyInvalid
from scoring.policies.models import PolicyChange, PolicyVersion
from scoring.webhooks import events
from scoring.webhooks.types import EventType
from training import registry
from training.core.exceptions import FraudsiteError

State, Action = PolicyVersion.State, PolicyChange.Action


class PolicyFaults(PolicyInvalid):
    """The policy has faults, each of which is named. `faults` are of `checking.Fault`."""

    def __init__(self, faults: list[checking.Fault]) -> None:
        super().__init__("The policy has faults: " + " ".join(f"{fault.where}: {fault.message}" for fault in faults))
        self.faults = faults


class EditedMeanwhile(FraudsiteError):
    """Somebody else has changed the policy since you opened it. Nothing was saved: compare, and save again."""


class WrongState(FraudsiteError):
    """A policy in this state does not allow that."""


class NeedsApproval(FraudsiteError):
    """A second person has to approve the policy before it goes live (POLICY_APPROVAL_REQUIRED)."""


def live(schema: str) -> PolicyVersion | None:
    """The version that decides about a schema's transactions; None if the model's thresholds alone decide."""
    return PolicyVersion.objects.filter(schema=schema, state=State.LIVE).first()


def content(version: PolicyVersion | None) -> Document:
    """The document of a version; the empty one if there is none.

    Raises:
        PolicyInvalid: it is not a document of this release.
    """
    return document.read(version.document) if version else Document()


def faults(version: PolicyVersion) -> list[checking.Fault]:
    """The faults that keep a version from going live."""
    return checking.faults(content(version), registry.declaration_in_force(version.schema), list_names(version.schema))


def list_names(schema: str) -> Collection[str]:
    """The names of a schema's lists."""
    return lists.names(schema)


@transaction.atomic
def draft(*, schema: str, by: str, reason: str = "", content: Document | None = None) -> PolicyVersion:
    """Start a draft: with this content, or else with that of the live version.

    Raises:
        SchemaNotFound: there is no such schema.
    """
    registry.declaration_in_force(schema)
    now = _wait_for_my_turn(schema)
    number = 1 + (PolicyVersion.objects.filter(schema=schema).aggregate(last=Max("number"))["last"] or 0)
    written = document.written(content) if content else now.document if now else document.written(Document())
    version = PolicyVersion.objects.create(schema=schema, number=number, document=written, based_on=now)
    _record(version, Action.DRAFT, by, reason)
    return version


@transaction.atomic
def edit(version: PolicyVersion, content: Document, *, revision: int, by: str, reason: str = "") -> None:
    """Change a draft. `revision` is the one that the author has seen. A draft may have faults.

    Raises:
        EditedMeanwhile: it has another revision now.
        WrongState: it is no draft.
    """
    _lock(version)
    _need(version, {State.DRAFT}, "Start a new draft from it to change it.")
    if version.revision != revision:
        raise EditedMeanwhile
    version.document = document.written(content)
    version.revision += 1
    version.save(update_fields=["document", "revision"])
    _record(version, Action.EDIT, by, reason)


@transaction.atomic
def propose(version: PolicyVersion, *, by: str, reason: str = "") -> None:
    """Ask for a draft's approval. Nobody edits it meanwhile.

    Raises:
        PolicyFaults: it may not go live.
        WrongState: it is no draft.
    """
    _lock(version)
    _need(version, {State.DRAFT})
    _check(version)
    _move(version, State.PROPOSED, Action.PROPOSE, by, reason)


@transaction.atomic
def send_back(version: PolicyVersion, *, by: str, reason: str = "") -> None:
    """Make a draft again of a proposed version.

    Raises:
        WrongState: it is not proposed.
    """
    _lock(version)
    _need(version, {State.PROPOSED})
    _move(version, State.DRAFT, Action.RETURN, by, reason)


@transaction.atomic
def discard(version: PolicyVersion, *, by: str, reason: str = "") -> None:
    """Give a draft up.

    Raises:
        WrongState: it is neither a draft nor proposed.
    """
    _lock(version)
    _need(version, {State.DRAFT, State.PROPOSED})
    _move(version, State.DISCARDED, Action.DISCARD, by, reason)


@transaction.atomic
def activate(version: PolicyVersion, *, by: str, reason: str = "") -> None:
    """Make a draft or proposed version the live one. All workers follow within `MODEL_REFRESH_S`.

    If approvals are required, it has to be proposed, and `by` must not be one of its authors: this is the approval.

    Raises:
        PolicyFaults: it may not go live.
        NeedsApproval: somebody else has to do this.
        WrongState: it is or was live, or is discarded.
        EditedMeanwhile: another version went live since it was drafted, so that its changes would be lost.
    """
    before = _wait_for_my_turn(version.schema)
    _lock(version)
    _need(version, {State.DRAFT, State.PROPOSED}, "Roll back to a version that was live.")
    if version.based_on_id != (before.pk if before else None):
        raise EditedMeanwhile(
            f"{before or 'No policy'} is live now, and this draft began with {version.based_on or 'no policy'}."
            " Compare the two, and start a draft from the live one."
        )
    _check(version)
    if settings.POLICY_APPROVAL_REQUIRED:
        authors = set(version.changes.filter(action__in=[Action.DRAFT, Action.EDIT]).values_list("by", flat=True))
        if version.state != State.PROPOSED or by in authors:
            raise NeedsApproval
        _record(version, Action.APPROVE, by, reason)
    _go_live(version, before, Action.ACTIVATE, by, reason)


@transaction.atomic
def roll_back(*, schema: str, by: str, reason: str = "") -> PolicyVersion | None:
    """Make the version before the live one live again. Returns it; None if no policy is live now, as before the first.

    Raises:
        WrongState: no version is live.
        PolicyFaults: the earlier version does not fit the schema any more.
    """
    now = _wait_for_my_turn(schema)
    if now is None:
        raise WrongState(f"{schema} has no live policy.")
    earlier = now.based_on
    if earlier is None:
        _move(now, State.RETIRED, Action.RETIRE, by, reason)
        _tell(schema, None, now, Action.ROLL_BACK)
        return None
    _check(earlier)
    _go_live(earlier, now, Action.ROLL_BACK, by, reason)
    return earlier


def _go_live(version: PolicyVersion, before: PolicyVersion | None, action: str, by: str, reason: str) -> None:
    if before:
        _move(before, State.RETIRED, Action.RETIRE, by, f"{version} is live.")
    version.live_at = timezone.now()
    version.save(update_fields=["live_at"])
    _move(version, State.LIVE, action, by, reason)
    _tell(version.schema, version, before, action)


def _tell(schema: str, version: PolicyVersion | None, before: PolicyVersion | None, action: str) -> None:
    data = {
        "schema": schema,
        "policy_version": version.number if version else None,
        "previous_policy_version": before.number if before else None,
        "action": str(action),
    }
    events.record(EventType.POLICY_CHANGED, object=f"policy:{schema}", schema=schema, data=data)


def _check(version: PolicyVersion) -> None:
    if found := faults(version):
        raise PolicyFaults(found)


def _wait_for_my_turn(schema: str) -> PolicyVersion | None:
    """Lock the schema's versions, so that changes of what is live wait for each other. Returns the live one."""
    rows = PolicyVersion.objects.filter(schema=schema).select_for_update().order_by("pk")
    return next((row for row in rows if row.state == State.LIVE), None)


def _lock(version: PolicyVersion) -> None:
    PolicyVersion.objects.select_for_update().get(pk=version.pk)
    version.refresh_from_db()


def _need(version: PolicyVersion, states: set[Any], remedy: str = "") -> None:
    if version.state not in states:
        raise WrongState(f"{version} is {version.get_state_display().lower()}. {remedy}".strip())


def _move(version: PolicyVersion, state: str, action: str, by: str, reason: str) -> None:
    version.state = state
    version.save(update_fields=["state"])
    _record(version, action, by, reason)


def _record(version: PolicyVersion, action: str, by: str, reason: str) -> None:
    # PostgreSQL stores no NUL.
    version.changes.create(action=action, document=version.document, by=by, reason=reason.replace("\0", ""))
