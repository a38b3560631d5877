"""The declarations of computed features in a schema, and their checks."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.core.exceptions import SchemaInvalid, did_you_mean

if TYPE_CHECKING:
    from training.core.schema import Field, Schema

DAY_US = 86_400_000_000
# A worker holds the events of an entity in memory while it scores, and a time is an int64 of microseconds.
MOST_EVENTS = 100_000
MOST_MINOR = 1e14  # of an amount, so that sums of whole minor units are exact
MOST_DAYS = 36_500
# Stand for the name of a feature or an entity, or of a point, in `COMBINATIONS`.
VALUE, POINT = "a feature or an entity", "a point"
# Each aggregate, and what it can be computed of.
COMBINATIONS = {
    "count": ("events", "frauds", "streak"),
    "share": ("frauds", VALUE),
    "mean": ("amounts", "streak"),
    "median": ("amounts", "streak"),
    "min": ("amounts", "streak"),
    "max": ("amounts", "streak"),
    "sum": ("amounts", "streak"),
    "std": ("amounts",),
    "zscore": ("amounts",),
    "rank": ("amounts",),
    "distinct": (VALUE,),
    "distance": (POINT,),
    "speed": (POINT,),
    "since_first": ("events", "frauds", "streak"),
    "since_last": ("events", "frauds", "streak"),
}
OF_MONEY = ("mean", "median", "min", "max", "sum")  # these can be `relative`
# So many values and entities of a request, of 4 bytes each, can be kept with each event of a history.
MOST_VALUES = 8
MOST_INTEGER = 2**24  # stored datasets have float32, which is exact to here
CALENDAR = {"hour": (0, 23), "weekday": (0, 6)}
AGE_UNITS = {"days": 1.0, "years": 365.2425}


@dataclass(frozen=True)
class Entity:
    """Something that transactions have in common: a card, a terminal. Each request has its identifier, as a string.

    `history_limit` is how many of its latest events are kept. Events that come at most `late_days` late still have
    complete windows.

    An entity that is made `of` others, or of values of the request, has no identifier of its own. An `optional` entity
    may be missing; one that is made of others is missing if one of them is. A missing entity has no history.

    An entity belongs to the client that sent it: the same identifier from two clients is two entities, with a history
    each. A `shared` one is the same whoever sends it.
    """

    name: str
    description: str
    history_limit: int
    late_days: float = 1.0
    optional: bool = False
    of: tuple[str, ...] = ()
    shared: bool = False

    @property
    def may_be_missing(self) -> bool:
        return self.optional or bool(self.of)


@dataclass(frozen=True)
class Point:
    """A place: two values of a request, of the kinds latitude and longitude."""

    name: str
    latitude: str
    longitude: str


@dataclass(frozen=True)
class Calendar:
    """The `of` (hour 0 to 23, weekday 0 to 6 from Monday) of the event time. With `start` and `end` a flag: 1.0 if it
    lies between them, both included, else 0.0.

    It is in UTC, or on the clocks of `zone`: a time zone, a value of the request that is one, or a point. NaN if that
    is missing.
    """

    name: str
    of: str
    description: str
    start: int | None = None
    end: int | None = None
    zone: str = ""


@dataclass(frozen=True)
class Age:
    """The time from the beginning of a date of the request, `of`, to the event, in `unit`; NaN without the date."""

    name: str
    of: str
    unit: str
    description: str


@dataclass(frozen=True)
class Distance:
    """The great-circle distance in km `between` two points of the transaction; NaN without one of them."""

    name: str
    between: tuple[str, ...]
    description: str


@dataclass(frozen=True)
class Velocity:
    """An aggregate over the recent events of one of the event's entities; docs/features.md defines each term. It is NaN
    without the entity.

    `window_days` and `delay_days` bound the event times that count: (t - delay - window, t - delay]. `last` limits them
    to the latest ones (0: all), `labelled` to those whose label is known. `current` includes the event itself.
    `relative` divides the event's own amount by the aggregate. `empty` is the value if there is nothing to aggregate or
    the divisor is 0.

    `of` is a word of `COMBINATIONS`, or names a value of the request, another entity or a point. With `same`, which
    names such a value or entity, only those events count that have the same as the event itself. `smoothing` adds so
    many events to a share of frauds, of which the share `empty` are frauds.
    """

    name: str
    entity: str
    aggregate: str
    of: str
    window_days: float
    unit: str
    description: str
    delay_days: float = 0.0
    last: int = 0
    labelled: bool = False
    current: bool = False
    relative: bool = False
    empty: float = 0.0
    same: str = ""
    smoothing: float = 0.0

    @property
    def window_us(self) -> int:
        return round(self.window_days * DAY_US)

    @property
    def delay_us(self) -> int:
        return round(self.delay_days * DAY_US)

    @property
    def of_value(self) -> bool:
        """Whether `of` names a value of the request or an entity."""
        words = COMBINATIONS[self.aggregate]
        return VALUE in words and self.of not in words

    @property
    def of_point(self) -> bool:
        """Whether `of` names a point."""
        return POINT in COMBINATIONS[self.aggregate]

    @property
    def reads_labels(self) -> bool:
        return self.labelled or self.of in ("frauds", "streak")


Computed = Calendar | Age | Distance | Velocity


def may_be_missing(feature: "Field | Computed", schema: "Schema") -> bool:
    """Whether a value may be missing: one of the request, or a computed one without what it is computed of."""
    optional = {each.name for each in schema.features if each.optional}
    optional |= {each.name for each in schema.entities if each.optional}
    match feature:
        case Calendar():
            return not optional.isdisjoint(_made_of(schema, [feature.zone]))
        case Age():
            return feature.of in optional
        case Distance():
            return not optional.isdisjoint(_made_of(schema, feature.between))
        case Velocity():
            [entity] = [entity for entity in schema.entities if entity.name == feature.entity]
            return bool(optional.intersection((entity.name, *entity.of)))
        case _:
            return feature.optional


def _made_of(schema: "Schema", names: Iterable[str]) -> set[str]:
    """These names, with the latitude and the longitude in place of each point."""
    places = {point.name: (point.latitude, point.longitude) for point in schema.points}
    return {part for name in names for part in places.get(name, (name,))}


def check(schema: "Schema") -> None:
    """Check that the declared features can be computed.

    Raises:
        SchemaInvalid: a feature cannot; names it and the reason.
    """
    kinds = {field.name: field.kind for field in schema.features}
    _check_entities(schema.entities, {field.name for field in schema.features if not field.is_number})
    amount = schema.features[schema.amount_index]
    most = MOST_MINOR / 10**schema.amount_decimals
    if schema.velocity and max(-amount.lowest, amount.highest) > most:
        raise SchemaInvalid(f"{amount.name}: minimum and maximum of an amount that features sum lie within ±{most:g}")
    for point in schema.points:
        for kind, name in (("latitude", point.latitude), ("longitude", point.longitude)):
            if kinds.get(name) != kind:
                raise SchemaInvalid(f"Point {point.name}: {kind} names no feature of that kind: {name!r}.")
    for moment in schema.calendar:
        _check_calendar(moment)
        _check_zone(moment, kinds, {point.name for point in schema.points})
    for age in schema.ages:
        if kinds.get(age.of) != "date":
            raise SchemaInvalid(f"{age.name}: of names no feature of the kind date: {age.of!r}.")
        if age.unit not in AGE_UNITS:
            raise SchemaInvalid(f"{age.name}: unit is one of {', '.join(AGE_UNITS)}, not {age.unit!r}.")
    points = {point.name for point in schema.points}
    for distance in schema.distances:
        if len(distance.between) != 2 or not points.issuperset(distance.between):
            raise SchemaInvalid(f"{distance.name}: between names two points, not {list(distance.between)}.")
    known = {entity.name: entity for entity in schema.entities}
    fields = {field.name: field for field in schema.features}
    for feature in schema.velocity:
        fault = _fault(feature, known) or _fault_of_amounts(feature) or _fault_of_values(feature, fields, known, points)
        if fault:
            raise SchemaInvalid(f"{feature.name}: {fault}{'' if fault[-1] in '.?' else '.'}")
    for entity in schema.entities:
        if len(names := kept_values(schema, entity.name)) > MOST_VALUES:
            raise SchemaInvalid(
                f"Entity {entity.name}: its features read {len(names)} values, and a history keeps at most "
                f"{MOST_VALUES}: {', '.join(names)}. Leave out features, or declare them of another entity."
            )


def kept_values(schema: "Schema", entity: str) -> tuple[str, ...]:
    """The values of requests and other entities that this entity's features read of earlier events, and its history
    keeps, by name."""
    read: set[str] = set()
    for feature in schema.velocity:
        if feature.entity == entity:
            read |= {feature.same} if feature.same else set()
            read |= {feature.of} if feature.of_value or feature.of_point else set()
    return tuple(sorted(_made_of(schema, read)))


def compared_entities(schema: "Schema") -> tuple[str, ...]:
    """The entities that the features of others compare, by name."""
    read = set().union(*(kept_values(schema, entity.name) for entity in schema.entities))
    return tuple(sorted(read.intersection(schema.entity_names)))


def values_read(schema: "Schema") -> tuple[str, ...]:
    """The values of requests that computed features read, by name."""
    read = {age.of for age in schema.ages} | {moment.zone for moment in schema.calendar}
    read = _made_of(schema, read.union(*(distance.between for distance in schema.distances)))
    read = read.union(*(kept_values(schema, entity.name) for entity in schema.entities))
    return tuple(sorted(read.intersection(schema.feature_names)))


def _check_entities(entities: Iterable[Entity], texts: set[str]) -> None:
    sent = {entity.name for entity in entities if not entity.of}
    for entity in entities:
        if not 1 <= entity.history_limit <= MOST_EVENTS or not 0 <= entity.late_days <= MOST_DAYS:
            raise SchemaInvalid(
                f"Entity {entity.name}: history_limit is at least 1 and at most {MOST_EVENTS:,}, late_days at least 0 "
                f"and at most {MOST_DAYS:,}."
            )
        for part in entity.of:
            if part not in sent and part not in texts:
                hint = did_you_mean(part, {*sent, *texts})
                raise SchemaInvalid(f"Entity {entity.name}: of names entities and texts, not {part!r}.{hint}")


def _check_calendar(moment: Calendar) -> None:
    if moment.of not in CALENDAR:
        raise SchemaInvalid(f"{moment.name}: of is one of {', '.join(CALENDAR)}, not {moment.of!r}.")
    if moment.start is None and moment.end is None:
        return
    lowest, highest = CALENDAR[moment.of]
    if moment.start is None or moment.end is None or not lowest <= moment.start <= moment.end <= highest:
        raise SchemaInvalid(f"{moment.name}: start and end lie in {lowest} to {highest}, start not after end.")


def _check_zone(moment: Calendar, kinds: dict[str, str], points: set[str]) -> None:
    from training.core.schema.kinds.codes import timezones  # late, as the package imports this module

    zones = {name for name, kind in kinds.items() if kind == "timezone"} | points
    if not moment.zone or moment.zone in zones or moment.zone in timezones().values():
        return
    if kinds.get(moment.zone) == "country":
        hint = " A country can have several: declare a feature of the kind timezone."
    else:
        hint = did_you_mean(moment.zone, {*zones, *timezones().values()})
    raise SchemaInvalid(
        f"{moment.name}: zone names a point, a feature of the kind timezone, or a time zone such as Europe/Berlin, not "
        f"{moment.zone!r}.{hint}"
    )


def _fault(feature: Velocity, entities: dict[str, Entity]) -> str | None:
    if feature.entity not in entities:
        return f"there is no entity {feature.entity!r}"
    if feature.aggregate not in COMBINATIONS:
        return f"aggregate is one of {', '.join(COMBINATIONS)}, not {feature.aggregate!r}"
    words = COMBINATIONS[feature.aggregate]
    if feature.of not in words and not feature.of_value and not feature.of_point:
        return f"{feature.aggregate} is taken of {' or '.join(words)}, not of {feature.of!r}"
    if not (0 < feature.window_days <= MOST_DAYS and 0 <= feature.delay_days <= MOST_DAYS) or feature.window_us < 1:
        return f"window_days is more than 0, delay_days not less, and neither more than {MOST_DAYS:,}"
    if feature.last < 0:
        return "last is at least 0"
    if feature.last > entities[feature.entity].history_limit:
        return f"last is more than the history_limit of {feature.entity}"
    if feature.current and (feature.delay_us or feature.reads_labels):
        return "the event itself is not in a delayed window, nor is its label known: current must be false"
    if feature.current and feature.aggregate in ("since_last", "distance", "speed"):
        return f"{feature.aggregate} is always 0 if the event itself counts: current must be false"
    if not math.isfinite(feature.empty):
        return "empty is a finite number"
    return None


def _fault_of_amounts(feature: Velocity) -> str | None:
    if feature.relative and feature.aggregate not in OF_MONEY:
        return "relative compares amounts"
    if feature.last == 1 and feature.aggregate in ("std", "zscore"):
        return (
            f"{feature.aggregate} of one amount is always {'0' if feature.aggregate == 'std' else 'empty'}: raise last"
        )
    if not 0 <= feature.smoothing < math.inf:
        return "smoothing is a number of events, 0 or more"
    if feature.smoothing and (feature.aggregate, feature.of) != ("share", "frauds"):
        return "smoothing is for a share of frauds: leave it out"
    return None


def _fault_of_values(
    feature: Velocity, fields: dict[str, "Field"], entities: dict[str, Entity], points: set[str]
) -> str | None:
    known = {*fields, *entities} if feature.of_value else points
    if (feature.of_value or feature.of_point) and feature.of not in known:
        words = " or ".join(COMBINATIONS[feature.aggregate])
        return f"{feature.aggregate} is taken of {words}, not of {feature.of!r}.{did_you_mean(feature.of, known)}"
    if feature.same and feature.same not in {*fields, *entities}:
        return f"same names no feature or entity: {feature.same!r}.{did_you_mean(feature.same, {*fields, *entities})}"
    for option, name in (("of", feature.of if feature.of_value else ""), ("same", feature.same)):
        if name in fields and not _can_be_compared(fields[name]):
            return (
                f"{option} names a value that is equal or not: an entity, a category, a date, a boolean, or an integer "
                f"within ±{MOST_INTEGER:,}, not {name}, a {fields[name].kind}"
            )
        if name and _parts(name, entities) <= _parts(feature.entity, entities):
            return f"{option} names {name}, which is the same in all events of one {feature.entity}: change {option}"
    if feature.of_value and feature.same and _parts(feature.of, entities) <= _parts(feature.same, entities):
        return (
            f"{feature.aggregate} of {feature.of} among events with the same {feature.same} says nothing: change same"
        )
    if feature.of_value and feature.aggregate == "distinct" and feature.last == 1:
        return "distinct of the latest event says nothing: raise last, or take the share of it with last = 1"
    if feature.of_point and feature.last:
        return f"{feature.aggregate} is from the latest event with a point: leave out last"
    return None


def _parts(name: str, entities: dict[str, Entity]) -> set[str]:
    """What a value or an entity is made of."""
    return set(entities[name].of) if name in entities and entities[name].of else {name}


def _can_be_compared(field: "Field") -> bool:
    whole = field.kind in ("integer", "boolean") and field.lowest >= -MOST_INTEGER and field.highest <= MOST_INTEGER
    return field.is_category or field.kind == "date" or whole
