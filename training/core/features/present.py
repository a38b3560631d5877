"""Features of the event itself: of its time and its values, without any history."""

import math

import numpy as np
from numba import njit

from training.core.features.aggregates import MISSING
from training.core.features.declaration import AGE_UNITS, DAY_US, Age, Calendar, Distance
from training.core.schema import Schema

US_PER_HOUR = 3_600_000_000
THURSDAY = 3  # 1970-01-01 was one
EARTH_RADIUS_KM = 6_371.0088  # the mean radius of GRS 80: Moritz, Geodetic Reference System 1980, 2000


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


def kept_values(schema: Schema, names: tuple[str, ...], given: np.ndarray | None, count: int) -> np.ndarray:
    """The values of `count` events as histories keep them, [count, len(names)] int32. A missing one is `MISSING`, a
    latitude or longitude is in microdegrees."""
    kept = np.empty((count, len(names)), np.int32)
    for column, name in enumerate(names):
        values = _value(schema, given, name)
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


@njit(nogil=True)
def great_circle_km(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    """The distance of two points in degrees on a sphere of the Earth's mean radius, by the haversine formula (R. W.
    Sinnott, Virtues of the Haversine, Sky and Telescope 68, 1984)."""
    north, other_north = math.radians(latitude), math.radians(other_latitude)
    across = math.sin((other_north - north) / 2)
    along = math.sin(math.radians(other_longitude - longitude) / 2)
    haversine = across * across + math.cos(north) * math.cos(other_north) * along * along
    if haversine > 1:  # by rounding, at the other end of the Earth
        haversine = 1.0
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(haversine))


@njit(nogil=True)
def great_circles_km(
    latitudes: np.ndarray, longitudes: np.ndarray, other_latitudes: np.ndarray, other_longitudes: np.ndarray
) -> np.ndarray:
    """`great_circle_km` of each row. NaN stays NaN."""
    distances = np.empty(len(latitudes))
    for row in range(len(latitudes)):
        distances[row] = great_circle_km(latitudes[row], longitudes[row], other_latitudes[row], other_longitudes[row])
    return distances
