"""The declarations of computed features in a schema, and their checks."""

from collections.abc import Iterable
from dataclasses import dataclass

from training.core.exceptions import SchemaInvalid

DAY_US = 86_400_000_000
# Each aggregate, and what it can be computed of.
COMBINATIONS = {
    "count": ("events", "frauds", "streak"),
    "share": ("frauds",),
    "mean": ("amounts", "streak"),
    "median": ("amounts", "streak"),
    "min": ("amounts", "streak"),
    "max": ("amounts", "streak"),
    "since_first": ("events", "frauds", "streak"),
    "since_last": ("events", "frauds", "streak"),
}
OF_MONEY = ("mean", "median", "min", "max")
CALENDAR = {"hour": (0, 23), "weekday": (0, 6)}


@dataclass(frozen=True)
class Entity:
    """Something that transactions have in common: a card, a terminal. Each request has its identifier, as a string.

    `history_limit` is how many of its latest events are kept. Events that come at most `late_days` late still have
    complete windows.
    """

    name: str
    description: str
    history_limit: int
    late_days: float = 1.0


@dataclass(frozen=True)
class Calendar:
    """A flag: 1.0 if the `of` (hour 0 to 23, weekday 0 to 6 from Monday) of the event time in UTC lies in
    `start` to `end`, both included, else 0.0."""

    name: str
    of: str
    start: int
    end: int
    description: str


@dataclass(frozen=True)
class Velocity:
    """An aggregate over the recent events of one of the event's entities; docs/features.md defines each term.

    `window_days` and `delay_days` bound the event times that count: (t - delay - window, t - delay]. `last` limits them
    to the latest ones (0: all), `labelled` to those whose label is known. `current` includes the event itself.
    `relative` divides the event's own amount by the aggregate. `empty` is the value if there is nothing to aggregate or
    the divisor is 0.
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

    @property
    def window_us(self) -> int:
        return round(self.window_days * DAY_US)

    @property
    def delay_us(self) -> int:
        return round(self.delay_days * DAY_US)

    @property
    def reads_labels(self) -> bool:
        return self.labelled or self.of in ("frauds", "streak")


def check(entities: Iterable[Entity], calendar: Iterable[Calendar], velocity: Iterable[Velocity]) -> None:
    """Check that the declared features can be computed.

    Raises:
        SchemaInvalid: a feature cannot; names it and the reason.
    """
    for entity in entities:
        if entity.history_limit < 1 or entity.late_days < 0:
            raise SchemaInvalid(f"Entity {entity.name}: history_limit is at least 1, late_days at least 0.")
    for flag in calendar:
        if flag.of not in CALENDAR:
            raise SchemaInvalid(f"{flag.name}: of is one of {', '.join(CALENDAR)}, not {flag.of!r}.")
        lowest, highest = CALENDAR[flag.of]
        if not lowest <= flag.start <= flag.end <= highest:
            raise SchemaInvalid(f"{flag.name}: start and end lie in {lowest} to {highest}, start not after end.")
    known = {entity.name: entity for entity in entities}
    for feature in velocity:
        if fault := _fault(feature, known):
            raise SchemaInvalid(f"{feature.name}: {fault}.")


def _fault(feature: Velocity, entities: dict[str, Entity]) -> str | None:
    if feature.entity not in entities:
        return f"there is no entity {feature.entity!r}"
    if feature.aggregate not in COMBINATIONS:
        return f"aggregate is one of {', '.join(COMBINATIONS)}, not {feature.aggregate!r}"
    if feature.of not in COMBINATIONS[feature.aggregate]:
        return f"{feature.aggregate} is taken of {' or '.join(COMBINATIONS[feature.aggregate])}, not of {feature.of!r}"
    if feature.window_us < 1 or feature.delay_us < 0 or feature.last < 0:
        return "window_days is more than 0, delay_days and last not less"
    if feature.last > entities[feature.entity].history_limit:
        return f"last is more than the history_limit of {feature.entity}"
    if feature.relative and feature.aggregate not in OF_MONEY:
        return "relative compares amounts"
    if feature.current and (feature.delay_us or feature.reads_labels):
        return "the event itself is not in a delayed window, nor is its label known: current must be false"
    if feature.current and feature.aggregate == "since_last":
        return "since_last is always 0 if the event itself counts: current must be false"
    return None
