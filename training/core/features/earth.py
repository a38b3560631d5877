"""Distances on the Earth."""

import math

import numpy as np
from numba import njit

EARTH_RADIUS_KM = 6_371.0088  # the mean radius of GRS 80: Moritz, Geodetic Reference System 1980, 2000


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
