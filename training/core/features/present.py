"""Features of the event itself: of its time and its values, without any history."""

from collections.abc import Mapping

import numpy as np

from training.core.features import zones
from training.core.features.aggregates import MICRODEGREES, MISSING, US_PER_HOUR
from training.core.features.declaration import AGE_UNITS, DAY_US, Age, Calendar, Distance
from training.core.features.earth import great_circles_km
from training.core.features.tokens import Tokens, as_values
from training.core.schema import Schema

THURSDAY = 3  # 1970-01-01 was one


def fill(schema: Schema, event_time: np.ndarray, given: np.ndarray | None, features: np.ndarray) -> None:
    """Fill the columns of calendar features, ages and distances. Shapes and units are those of `replay.Events`."""
    # These come first in `schema.derived`.
    before: tuple[Calendar | Age | Distance, ...] = (*schema.calendar, *schema.ages, *schema.distances)
    for column, feature in enumerate(before):
        if isinstance(feature, Calendar):
            features[:, column] = _calendar(schema, feature, event_time, given)
        elif isinstance(feature, Age):
            since = event_time - DAY_US * _value(schema, given, feature.of)
            features[:, column] = since / (AGE_UNITS[feature.unit] * DAY_US)
        else:
            points = {point.name: point for point in schema.points}
            ends = [points[name] for name in feature.between]
            names = [name for point in ends for name in (point.latitude, point.longitude)]
            features[:, column] = great_circles_km(*(_value(schema, given, name) for name in names))


def kept_values(
    schema: Schema, names: tuple[str, ...], given: np.ndarray | None, tokens: Mapping[str, Tokens], count: int
) -> np.ndarray:
    """The values and entities with these names of `count` events, as histories keep them: [count, len(names)] int32. A
    missing one is `MISSING`, a latitude or longitude is in microdegrees."""
    kept = np.empty((count, len(names)), np.int32)
    for column, name in enumerate(names if count else ()):
        if name in schema.entity_names:
            kept[:, column] = as_values(tokens[name])
            continue
        values = _value(schema, given, name)
        if schema.features[schema.place_of[name]].kind in ("latitude", "longitude"):
            values = np.rint(values * MICRODEGREES)
        kept[:, column] = np.where(np.isnan(values), MISSING, values)
    return kept


def _calendar(schema: Schema, feature: Calendar, event_time: np.ndarray, given: np.ndarray | None) -> np.ndarray:
    if feature.zone:
        hour, weekday = zones.hours_and_weekdays(event_time, _zones(schema, feature.zone, given, len(event_time)))
    else:
        hour, weekday = event_time // US_PER_HOUR % 24.0, (event_time // DAY_US + THURSDAY) % 7.0
    moment = hour if feature.of == "hour" else weekday
    if feature.start is None or feature.end is None:
        return moment
    return np.where(np.isnan(moment), np.nan, (moment >= feature.start) & (moment <= feature.end))


def _zones(schema: Schema, name: str, given: np.ndarray | None, count: int) -> list[str | None]:
    """The time zones of `count` events."""
    if point := next((point for point in schema.points if point.name == name), None):
        return zones.of_places(_value(schema, given, point.latitude), _value(schema, given, point.longitude))
    if name in schema.feature_names:
        return zones.of_codes(_value(schema, given, name))
    return [name] * count


def _value(schema: Schema, given: np.ndarray | None, name: str) -> np.ndarray:
    if given is None:
        raise ValueError(f"Features of {schema.name} read {name}: its events need what `Schema.encode` gives.")
    return np.ascontiguousarray(given[:, schema.place_of[name]])
