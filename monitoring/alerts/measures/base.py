"""What a measure is: series of one figure by subject, the page that shows it, and how its values are written."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isnan
from typing import NamedTuple

import numpy as np

from monitoring.alerts import baseline
from monitoring.alerts.conditions import Direction
from monitoring.alerts.series import Kind, Series

EPOCH = datetime.fromtimestamp(0, UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MANY = 100


class Subject(NamedTuple):
    """What an alert is about: a schema, a client's key, a part such as a segment; whichever apply."""

    schema: str = ""
    client: int | None = None
    part: str = ""

    @property
    def key(self) -> str:
        """How rows name it."""
        return f"{self.schema}:{self.client or ''}:{self.part}"

    @classmethod
    def of(cls, key: str) -> "Subject":
        schema, client, part = key.split(":", 2)
        return cls(schema, int(client) if client else None, part)


class Scope(NamedTuple):
    """Of a rule: the schema and the client's key that it is about; empty and None are all."""

    schema: str = ""
    client: int | None = None

    def has(self, subject: Subject) -> bool:
        return self.schema in ("", subject.schema) and self.client in (None, subject.client)


SeriesBySubject = Mapping[Subject, Series]


@dataclass(frozen=True)
class Measure:
    """A figure that rules can watch.

    `read(scope, since, until)` gives the series of each subject, whose steps end at `until` at the latest. `says` is
    what the figure is, in one sentence, and `page` the address of the page that shows it. Each step of a measure with a
    `window` is added up with the `window - 1` before it. The values of a seasonal one are compared with the usual.
    """

    name: str
    title: str
    says: str
    unit: str
    direction: Direction
    step: timedelta
    read: Callable[[Scope, datetime, datetime], SeriesBySubject]
    page: Callable[[Subject], str]
    window: int = 1
    is_seasonal: bool = False
    is_by_client: bool = False
    is_by_schema: bool = True

    def series(self, scope: Scope, since: datetime, until: datetime) -> SeriesBySubject:
        """The series of the steps that end after `since`, with what comes before them and is needed to judge them."""
        before = baseline.WEEK * (baseline.WEEKS + 1) if self.is_seasonal else timedelta()
        first = start_of(since, self.step) - before - (self.window - 1) * self.step
        found = self.read(scope, first, until)
        return {subject: series.rolled(self.window) for subject, series in found.items() if len(series)}

    def shown(self, value: float | None) -> str:
        """A value as people read it."""
        return written(value, self.unit)

    def level(self, value: float) -> str:
        """A level of a rule as people read it: from where on it fires."""
        sign = "≥" if self.direction is Direction.ABOVE else "≤"
        return f"{sign} {f'{value:+.3g} deviations from the usual' if self.is_seasonal else self.shown(value)}"


def written(value: float | None, unit: str) -> str:
    """A value with its unit.

    >>> written(0.0123, "share"), written(1234.6, "ms"), written(26.0, "h"), written(None, "share")
    ('1.23 %', '1,235 ms', '26 h', 'unknown')
    """
    if value is None or isnan(value):
        return "unknown"
    if unit == "share":
        return f"{100 * value:.3g} %"
    if unit == "psi":
        return f"{value:.3f}"
    digits = 0 if abs(value) >= MANY else 1
    return f"{value:,.{digits}f}".removesuffix(".0") + f" {unit}".rstrip()


def start_of(moment: datetime, step: timedelta) -> datetime:
    """The beginning of the step that a moment is in; steps are counted from 1970 on, in UTC."""
    return moment - (moment - EPOCH) % step


def filled(
    rows: Iterable[tuple[Subject, datetime, float, float]],
    since: datetime,
    until: datetime,
    step: timedelta,
    kind: Kind,
    empty: float = np.nan,
) -> dict[Subject, Series]:
    """Series of whole steps from `since` to `until` of rows with a subject, a moment, a value and samples. Rows of one
    step are added; of a level, the last one holds. Steps without a row have the value `empty`."""
    since = start_of(since, step)
    length = max(0, (until - since) // step)
    found: dict[Subject, tuple[np.ndarray, np.ndarray]] = {}
    for subject, moment, value, samples in rows:
        index = (moment - since) // step
        if not 0 <= index < length:
            continue
        if subject not in found:
            found[subject] = np.full(length, np.nan), np.zeros(length)
        values, counts = found[subject]
        add = kind is not Kind.LEVEL and not np.isnan(values[index])
        values[index] = values[index] + value if add else value
        counts[index] += samples
    return {
        subject: Series(since, step, np.where(np.isnan(values), empty, values), samples, kind)
        for subject, (values, samples) in found.items()
    }
