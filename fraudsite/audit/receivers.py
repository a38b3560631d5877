"""Turns what Django's signals tell into entries of the audit trail: sign-ins, and rows that record an act.

Rows are saved in the transaction of their act, and so is the entry. The admin writes a `LogEntry` for every change.
"""

from collections.abc import Callable
from typing import Any

from axes.signals import user_locked_out
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db.models import Model
from django.db.models.signals import post_save
from django.http import HttpRequest

from fraudsite.audit import trail
from fraudsite.audit.models import Action
from scoring.acts import acted
from scoring.models import ApiKey, Label
from scoring.policies.models import PolicyChange
from training.models import StageChange


def connect() -> None:
    receivers: dict[type[Model], Callable[..., None]] = {
        LogEntry: _changed_in_the_admin,
        Label: _labelled,
        ApiKey: _key_saved,
        PolicyChange: _policy_changed,
        StageChange: _stage_changed,
    }
    for model, receiver in receivers.items():
        post_save.connect(receiver, sender=model, dispatch_uid=f"audit {model.__name__}")
    acted.connect(_acted, dispatch_uid="audit")
    user_logged_in.connect(_signed_in, dispatch_uid="audit")
    user_logged_out.connect(_signed_out, dispatch_uid="audit")
    user_login_failed.connect(_refused, dispatch_uid="audit")
    user_locked_out.connect(_locked_out, dispatch_uid="audit")


def kind_of(model: type[Model] | Model) -> str:
    return model._meta.label_lower


def _changed_in_the_admin(instance: LogEntry, created: bool, **_: Any) -> None:
    if not created:
        return
    action = {ADDITION: Action.ADDED, CHANGE: Action.CHANGED}.get(instance.action_flag, Action.DELETED)
    content = instance.content_type
    trail.record(
        action,
        kind=f"{content.app_label}.{content.model}" if content else "",
        object_id=instance.object_id or "",
        detail=f"{instance.object_repr}: {instance.get_change_message()}",
        person=instance.user.get_username(),
    )


def _labelled(instance: Label, created: bool, **_: Any) -> None:
    if not created:
        return
    by_analyst = instance.source == Label.Source.ANALYST
    said = [instance.kind, instance.source, instance.code, instance.reason]
    trail.record(
        Action.DECIDED if by_analyst else Action.LABELLED,
        kind="scoring.transaction",
        object_id=instance.transaction_id,
        detail=", ".join(part for part in said if part),
        person=instance.author.get_username() if instance.author else None,
    )


def _key_saved(instance: ApiKey, created: bool, **_: Any) -> None:
    if created:
        trail.record(
            Action.ADDED, kind=kind_of(instance), object_id=instance.pk, detail=f"{instance} of {instance.client}"
        )


def _policy_changed(instance: PolicyChange, created: bool, **_: Any) -> None:
    if created:
        detail = f"{instance.get_action_display()}: {instance.reason}".removesuffix(": ")
        version = instance.version
        trail.record(Action.CHANGED, kind=kind_of(version), object_id=version.pk, detail=detail, person=instance.by)


def _stage_changed(instance: StageChange, created: bool, **_: Any) -> None:
    if created:
        version = instance.version
        trail.record(
            Action.CHANGED, kind=kind_of(version), object_id=version.pk, detail=str(instance), person=instance.by
        )


def _acted(sender: type[Model], action: str, key: Any, detail: str, person: str | None, **_: Any) -> None:
    trail.record(action, kind=kind_of(sender), object_id=key, detail=detail, person=person)


def _signed_in(request: HttpRequest, user: Any, **_: Any) -> None:
    by_provider = getattr(user, "backend", "").endswith("SignOnBackend")
    trail.record(Action.SIGNED_IN, person=user.get_username(), detail="By single sign-on." if by_provider else "")


def _signed_out(request: HttpRequest, user: Any, **_: Any) -> None:
    if user:
        trail.record(Action.SIGNED_OUT, person=user.get_username())


def _refused(credentials: dict[str, Any], **_: Any) -> None:
    trail.record(Action.REFUSED, person=_known(credentials.get("username")))


def _locked_out(username: str, **_: Any) -> None:
    trail.record(Action.REFUSED, person=_known(username), detail="Locked out: too many wrong passwords.")


def _known(name: Any) -> str:
    """The name, if an account has it. People type passwords into the wrong field, so that others are not kept."""
    found = get_user_model().objects.filter(username=name).exists() if name and "\0" not in name else False
    return name if found else ""
