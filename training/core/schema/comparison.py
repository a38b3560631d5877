"""Compares two declarations of a schema: what differs, and whether a model of one scores transactions of the other."""

from collections.abc import Iterable
from dataclasses import MISSING, fields
from typing import Any

from training.core.features.declaration import Entity, values_read
from training.core.schema import LISTS, Field, Schema

# What a model does not notice of a field: `_is_wider` looks at the bounds, and `max_values` and `description` matter to
# a training.
HARMLESS_OF_FIELDS = {"description", "max_values", "model", "minimum", "maximum", "optional", "future"}
# What of a schema matters to a training and to the checks of a request, and not to a model at work.
HARMLESS = {"title", "label", "label_delay_days", "past_days", "card", "file", "source"}
HARMLESS |= {"event_time_unit", "event_time_format", *(part for part, _ in LISTS.values())}


def differences(before: Schema, after: Schema) -> list[str]:
    """What differs between two declarations, a sentence each, without the forms of raw files."""
    found = [
        f"{part.name}: {_shown(old)} → {_shown(new)}"
        for part in fields(Schema)
        if part.name not in ("file", "source", *(name for name, _ in LISTS.values()))
        and (old := getattr(before, part.name)) != (new := getattr(after, part.name))
    ]
    for word, (part, _) in LISTS.items():
        olds, news = ({each.name: each for each in getattr(schema, part)} for schema in (before, after))
        called = "field" if word == "feature" else word
        found += [f"{called} {name}: removed" for name in olds if name not in news]
        found += [f"{called} {name}: new{_manner(each)}" for name, each in news.items() if name not in olds]
        for name in olds:
            if name in news and olds[name] != news[name]:
                found.append(f"{called} {name}: {', '.join(_parts(olds[name], news[name]))}")
        if [name for name in olds if name in news] != [name for name in news if name in olds]:
            found.append(f"{called}s: in another order")
    return found


def obstacles(model: Schema, now: Schema) -> list[str]:
    """Why a model of one declaration cannot score transactions that were checked against another, a sentence each.

    Empty if it can: they have all that the model and its histories read, in the same form and inside the same bounds.
    """
    found = [
        f"{part.name}: {_shown(getattr(model, part.name))} → {_shown(getattr(now, part.name))}"
        for part in fields(Schema)
        if part.name not in HARMLESS and getattr(model, part.name) != getattr(now, part.name)
    ]
    read = {*values_read(model), model.amount, *(field.name for field in model.features if field.is_input)}
    news = {field.name: field for field in now.features}
    for field in model.features:
        if field.name in read:
            found += [f"field {field.name}: {reason}" for reason in _obstacles_of(field, news.get(field.name))]
    entities = {entity.name: entity for entity in now.entities}
    for entity in model.entities:
        found += [
            f"entity {entity.name}: {reason}" for reason in _obstacles_of_entity(entity, entities.get(entity.name))
        ]
    return found


def stale_histories(before: Schema, after: Schema) -> list[str]:
    """The entities whose histories have to be rebuilt when a model of `after` takes over from one of `before`."""
    from training.core.features.replay import version  # numba takes a second to load

    kept = {entity.name: version(before, entity.name) for entity in before.entities}
    return [
        entity.name
        for entity in after.entities
        if kept.get(entity.name) and version(after, entity.name) not in (b"", kept[entity.name])
    ]


def _obstacles_of(field: Field, now: Field | None) -> Iterable[str]:
    if now is None:
        yield "removed"
        return
    yield from _parts(field, now, without=HARMLESS_OF_FIELDS)
    if now.optional and not field.optional:
        yield "may be missing now"
    if now.kind == field.kind and (now.lowest < field.lowest or now.highest > field.highest):
        yield f"its range is wider, {_range(field)} → {_range(now)}"
    if now.future and not field.future:
        yield "may lie in the future now"


def _obstacles_of_entity(entity: Entity, now: Entity | None) -> Iterable[str]:
    if now is None:
        yield "removed"
        return
    if entity.of != now.of:
        yield f"of {_shown(entity.of)} → {_shown(now.of)}"
    if now.optional and not entity.optional:
        yield "may be missing now"


def _range(field: Field) -> str:
    return f"{field.lowest:g} to {field.highest:g}"


def _manner(part: Any) -> str:
    return ", optional" if getattr(part, "optional", False) else ""


def _parts(before: Any, after: Any, *, without: Iterable[str] = ()) -> list[str]:
    """What differs between two declarations of one field, entity or computed feature."""
    return [
        f"{part.name} {_shown(old)} → {_shown(new)}"
        for part in fields(before)
        if part.name not in without
        and (old := getattr(before, part.name)) != (new := getattr(after, part.name, MISSING))
    ]


def _shown(value: Any) -> str:
    match value:
        case None | "":
            return "none"
        case bool():
            return "yes" if value else "no"
        case tuple():
            return " × ".join(map(str, value)) or "none"
        case float():
            return f"{value:g}"
    return str(value)
