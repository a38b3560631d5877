"""What changes from one policy to another, for people."""

from typing import Any, NamedTuple

import msgspec

from scoring.policies.document import Document


class Difference(NamedTuple):
    """One part of a policy that differs; None if a side does not have it."""

    part: str
    before: str | None
    after: str | None


def differences(before: Document, after: Document) -> list[Difference]:
    """The parts in which two policies differ. Rules and segments are compared by name, and by place."""
    old, new = _flat(before), _flat(after)
    return [
        Difference(part, old.get(part), new.get(part))
        for part in [*new, *(part for part in old if part not in new)]
        if old.get(part) != new.get(part)
    ]


def _flat(document: Document) -> dict[str, str]:
    """A policy as texts by the path of each part."""
    parts: dict[str, str] = {}
    for name in ("review", "block", "challenge"):
        value = getattr(document, name)
        parts[f"{name} threshold"] = "that of the model" if value is None and name != "challenge" else _text(value)
    parts["appetite"] = document.appetite
    parts["reviews a day"] = _text(document.capacity)
    for index, segment in enumerate(document.segments):
        parts |= _fields(f"segment {segment.name}", msgspec.to_builtins(segment))
        parts[f"segment {segment.name}: place"] = str(index + 1)
    for rule in document.rules:
        parts |= _fields(f"rule {rule.name}", msgspec.to_builtins(rule))
    for name, value in document.constants.items():
        parts[f"constant {name}"] = _text(value)
    if document.control.share:
        parts |= _fields("control group", msgspec.to_builtins(document.control))
    return parts


def _fields(what: str, fields: dict[str, Any]) -> dict[str, str]:
    return {f"{what}: {name}": _text(value) for name, value in fields.items() if name != "name"}


def _text(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
