"""The time on the clocks of a place.

The zones of places are those of the package tzfpy, and the rules of a zone those of the package tzdata. They are the
same on every machine, while those of an operating system change with its updates.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from zoneinfo import ZoneInfo

import numpy as np

from training.core.features.aggregates import US_PER_SECOND
from training.core.schema.kinds.categories import code_of
from training.core.schema.kinds.codes import timezones

WEEK_S = 7 * 86_400
FIRST_S, LAST_S = (int(moment.replace(tzinfo=UTC).timestamp()) for moment in (datetime.min, datetime.max))


@cache
def rules_of(zone: str) -> ZoneInfo:
    with resources.files("tzdata").joinpath("zoneinfo", *zone.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, zone)


def of_places(latitudes: np.ndarray, longitudes: np.ndarray) -> list[str | None]:
    """The zones of points in degrees, [n] each; None without one of the two. At sea they are whole hours from UTC."""
    from tzfpy import get_tz  # loads 40 MB of borders

    # It has no zone for NaN.
    return [get_tz(*point) or None for point in zip(longitudes.tolist(), latitudes.tolist(), strict=True)]


def of_codes(codes: np.ndarray) -> list[str | None]:
    """The zones with these `code_of`, [n] float64; None for NaN."""
    known = _by_code()
    return [known.get(code) for code in codes.tolist()]


@cache
def _by_code() -> dict[float, str]:
    return {code_of(zone): zone for zone in timezones().values()}


def hours_and_weekdays(event_time: np.ndarray, zones: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray]:
    """The hours (0 to 23) and the weekdays (0 to 6 from Monday) on the clocks of `zones` [n], [n] float64 each; NaN
    without a zone. `event_time` [n] int64 is in microseconds since 1970 UTC."""
    seconds = event_time // US_PER_SECOND
    # At the ends of the calendar some clocks are beyond it. A week apart they show the same.
    seconds = seconds + WEEK_S * (seconds < FIRST_S + WEEK_S) - WEEK_S * (seconds > LAST_S - WEEK_S)
    clocks = [
        datetime.fromtimestamp(second, rules_of(zone)) if zone else None
        for second, zone in zip(seconds.tolist(), zones, strict=True)
    ]
    return (
        np.array([clock.hour if clock else np.nan for clock in clocks], np.float64),
        np.array([clock.weekday() if clock else np.nan for clock in clocks], np.float64),
    )
