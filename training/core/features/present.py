"""Features of the event itself: of its time and its values, without any history."""

from collections.abc import Mapping

import numpy as np

from training.core.features.aggregates import MICRODEGREES, MISSING, US_PER_HOUR
from training.core.features.declaration import AGE_UNITS, DAY_US, Age, Calendar, Distance
from training.core.features.earth import great_circles_km
from training.core.features.tokens import Tokens, as_values
from training.core.schema import Schema

THURSDAY = 3  # 1970-01-01 was one


def fill(schema: Schema, event_time: np.ndarray, given: np.ndarray | None, features: np.ndarray) -> None:
    """Fill the columns of calendar features, ages and distances. Shapes and units are those of `replay.Events`."""
    for column, feature in enumerate(schema.derived):
        if isinstance(feature, Calendar):
            features[:, column] = _calendar(feature, event_time)
        elif isinstance(feature, Age):
            since = event_time - DAY_US * _value(schema, given, feature.of)
            features[:, column] = since / (AGE_UNITS[feature.unit] * DAY_US)
        elif isinstance(feature, Distance):
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
        if schema.features[schema.feature_names.index(name)].kind in ("latitude", "longitude"):
            values = np.rint(values * MICRODEGREES)
        kept[:, column] = np.where(np.isnan(values), MISSING, values)
    return kept


def _calendar(feature: Calendar, event_time: np.ndarray) -> np.ndarray:
    moment = event_time // US_PER_HOUR % 24 if feature.of == "hour" else (event_time // DAY_US + THURSDAY) % 7
    if feature.start is None or feature.end is None:
        return moment
    return (moment >= feature.start) & (moment <= feature.end)


def _value(schema: Schema, given: np.ndarray | None, name: str) -> np.ndarray:
    if given is None:
        raise ValueError(f"Features of {schema.name} read {name}: its events need what `Schema.encode` gives.")
    return np.ascontiguousarray(given[:, schema.feature_names.index(name)])
