"""A small map: where this transaction and the card's latest ones were, on the outline of the land.

It needs nothing from the internet. The projection is equirectangular, true in the middle of the map. The outline is
Natural Earth's of 1:110 million, which is in the public domain (naturalearthdata.com), rounded to a fifth of a degree.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from math import asin, cos, floor, log10, radians, sin, sqrt
from pathlib import Path
from typing import Any, NamedTuple

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from scoring.models import Transaction
from scoring.reviews.case.past import Past
from training.core.features.typical import quantity
from training.core.figures import short
from training.core.schema import Schema

WIDTH, HEIGHT = 400.0, 190.0
LEAST_DEGREES = 7.0  # the smallest height of a map
MARGIN = 1.35  # of the map around its points
EARTH_RADIUS_KM = 6_371.0088
OUTLINE = Path(__file__).parent / "land.json"


class Place(NamedTuple):
    latitude: float
    longitude: float


def places_of(schema: Schema, fields: Mapping[str, Any], *, personal: bool) -> dict[str, Place]:
    """The points of a transaction by name; without personal ones unless `personal`."""
    found = {}
    for point in schema.points:
        hidden = {point.latitude, point.longitude} & schema.personal_names
        latitude, longitude = fields.get(point.latitude), fields.get(point.longitude)
        if latitude is not None and longitude is not None and (personal or not hidden):
            found[point.name] = Place(float(latitude), float(longitude))
    return found


def moving(schema: Schema) -> str:
    """The point that moves from purchase to purchase: the first that is not personal; empty if there is none."""
    return next(
        (each.name for each in schema.points if not {each.latitude, each.longitude} & schema.personal_names), ""
    )


def draw(schema: Schema, row: Transaction, past: Sequence[Past], *, personal: bool) -> SafeString:
    """The map of a transaction and the places where its card was before; empty if no point is known."""
    now, name = places_of(schema, row.fields, personal=personal), moving(schema)
    before = [
        (each, places_of(schema, each.fields, personal=False).get(name))
        for each in past
        if each.pk != row.pk and each.event_time <= row.event_time
    ]
    were = [(each, place) for each, place in before if place]
    if not now and not were:
        return SafeString("")
    view = _View.around([*now.values(), *(place for _, place in were)])
    dots = format_html_join(
        "",
        '<circle class="before{}" cx="{}" cy="{}" r="4"/>',
        ((" ring" if each.verdict else "", *view.at(place)) for each, place in were),
    )
    marks = format_html_join(
        "",
        '<circle class="{0}" cx="{1}" cy="{2}" r="6"/><text class="{0}" x="{3}" y="{4}">{5}</text>',
        (
            # The names of points that are close to each other are on both sides of them.
            (kind, x, y, x + (9 if kind == "this" else -9), y + 4, each)
            for each, place in now.items()
            for kind, (x, y) in [("this" if each == name else "home", view.at(place))]
        ),
    )
    drawing = format_html(
        '<svg class="map" viewBox="0 0 {} {}" preserveAspectRatio="xMidYMid meet" role="img" aria-label="Map">'
        "{}{}{}{}</svg>",
        int(WIDTH),
        int(HEIGHT),
        view.graticule(),
        format_html('<path class="land" d="{}"/>', view.outline()),
        dots,
        marks,
    )
    return format_html("<p>{}</p>{}", _distances(now, name, were) or "Only these places are known.", drawing)


def _distances(now: dict[str, Place], name: str, were: Sequence[tuple[Past, Place]]) -> str:
    here = now.get(name)
    if not here:
        return f"This purchase has no place; the card was at {len(were)} before." if were else ""
    told = [f"{quantity(distance_km(here, place), 'km')} from {each}" for each, place in now.items() if each != name]
    if were:
        last, place = were[-1]
        before = quantity(distance_km(here, place), "km")
        told.append(f"{before} from where the card was before, {short(last.event_time)}")
    return "; ".join(told) + "." if told else ""


def distance_km(one: Place, other: Place) -> float:
    """The great circle between two places, as `training.core.features.earth` computes it in compiled code."""
    north, other_north = radians(one.latitude), radians(other.latitude)
    across, along = sin((other_north - north) / 2), sin(radians(other.longitude - one.longitude) / 2)
    return 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(across**2 + cos(north) * cos(other_north) * along**2)))


class _View(NamedTuple):
    """The part of the Earth on the map: its west and north edges, and how many units a degree has."""

    west: float
    north: float
    unit_x: float
    unit_y: float

    @classmethod
    def around(cls, places: Iterable[Place]) -> "_View":
        latitudes, longitudes = zip(*places, strict=True)
        middle_y, middle_x = (min(latitudes) + max(latitudes)) / 2, (min(longitudes) + max(longitudes)) / 2
        squeeze = max(cos(radians(middle_y)), 0.2)
        height = max(
            LEAST_DEGREES,
            (max(latitudes) - min(latitudes)) * MARGIN,
            (max(longitudes) - min(longitudes)) * MARGIN * squeeze * HEIGHT / WIDTH,
        )
        unit = HEIGHT / height
        return cls(middle_x - WIDTH / 2 / unit / squeeze, middle_y + height / 2, unit * squeeze, unit)

    def at(self, place: Place) -> tuple[float, float]:
        return self.xy(place.longitude, place.latitude)

    def xy(self, longitude: float, latitude: float) -> tuple[float, float]:
        return round((longitude - self.west) * self.unit_x, 1), round((self.north - latitude) * self.unit_y, 1)

    def outline(self) -> str:
        """The land on the map. What lies outside is moved to its edge, and points that fall together are one."""
        paths = []
        east, south = self.west + WIDTH / self.unit_x, self.north - HEIGHT / self.unit_y
        for (west, least, most_east, most), ring in _land():
            if most_east < self.west or west > east or most < south or least > self.north:
                continue
            points: list[tuple[float, float]] = []
            for longitude, latitude in ring:
                x, y = self.xy(longitude, latitude)
                point = min(max(x, -9.0), WIDTH + 9), min(max(y, -9.0), HEIGHT + 9)
                if not points or abs(point[0] - points[-1][0]) + abs(point[1] - points[-1][1]) >= 1:
                    points.append(point)
            if len({x for x, _ in points}) > 1 and len({y for _, y in points}) > 1:
                paths.append("M" + " ".join(f"{x:g} {y:g}" for x, y in points) + "Z")
        return "".join(paths)

    def graticule(self) -> SafeString:
        step = _round_step(HEIGHT / self.unit_y / 3)
        east, south = self.west + WIDTH / self.unit_x, self.north - HEIGHT / self.unit_y
        lines = [
            ("x", self.xy(step * each, 0)[0]) for each in range(floor(self.west / step) + 1, floor(east / step) + 1)
        ]
        lines += [
            ("y", self.xy(0, step * each)[1]) for each in range(floor(south / step) + 1, floor(self.north / step) + 1)
        ]
        path = "".join(f"M{at} 0V{HEIGHT:g}" if axis == "x" else f"M0 {at}H{WIDTH:g}" for axis, at in lines)
        return format_html('<path class="grid" d="{}"/>', path)


def _round_step(degrees: float) -> float:
    """1, 2 or 5 times a power of ten, at most as large as this."""
    power = 10 ** floor(log10(degrees))
    return next(float(times * power) for times in (5, 2, 1) if times * power <= degrees)


@cache
def _land() -> list[tuple[tuple[float, float, float, float], list[tuple[float, float]]]]:
    """The rings of the land in degrees, each with its west, south, east and north ends."""
    found = []
    for ring in json.loads(OUTLINE.read_text()):
        xs, ys = [x / 5 for x in ring[::2]], [y / 5 for y in ring[1::2]]
        found.append(((min(xs), min(ys), max(xs), max(ys)), list(zip(xs, ys, strict=True))))
    return found
