"""Computed features: online equals offline equals the definitions of docs/features.md, bit for bit."""

import math
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tzfpy import get_tz

from training.core.features.declaration import COMBINATIONS, DAY_US, OF_MONEY, POINT, VALUE
from training.core.features.replay import Events, Labels, labelled, replay
from training.core.schema import Schema, parse_schema

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR_US, SECOND_US = DAY_US // 24, 1_000_000
MONDAY = 1_522_627_200 * SECOND_US  # 2 April 2018


COMBINED_PER_KIND = 3


def everything():
    """A schema with features of all kinds, and histories so short that events fall out of them. Of the ways to combine
    options it has some for each entity, aggregate, `of` and `same`."""
    head = (
        'title = "Everything"\ntime = "event_time"\namount = "amount"\nlabel = "fraud"\npast_days = 30\n'
        '[[feature]]\nname = "amount"\nunit = "EUR"\nminimum = -1e12\nmaximum = 1e12\ndescription = ""\n'
        '[[feature]]\nname = "category"\nkind = "category"\noptional = true\ndescription = ""\n'
        '[[feature]]\nname = "terminals"\nkind = "integer"\nunit = "1"\nminimum = -16777216\n'
        'maximum = 16777216\noptional = true\ndescription = ""\n'
        + "".join(
            f'[[feature]]\nname = "{kind}"\nkind = "{kind}"\noptional = true\ndescription = ""\n'
            for kind in ("latitude", "longitude")
        )
        + '[[feature]]\nname = "zone"\nkind = "timezone"\noptional = true\ndescription = ""\n'
        '[[point]]\nname = "place"\nlatitude = "latitude"\nlongitude = "longitude"\n'
        '[[entity]]\nname = "card"\ndescription = ""\nhistory_limit = 4\nlate_days = 0.5\n'
        '[[entity]]\nname = "shop"\ndescription = ""\nhistory_limit = 100\nlate_days = 0\noptional = true\n'
        '[[entity]]\nname = "device"\ndescription = ""\nhistory_limit = 1\noptional = true\n'
        '[[calendar]]\nname = "is_night"\nof = "hour"\nstart = 0\nend = 6\ndescription = ""\n'
        + "".join(
            f'[[calendar]]\nname = "{of}_{zone}"\nof = "{of}"\nzone = "{zone}"\n{flag}description = ""\n'
            for of, flag in (("hour", ""), ("weekday", "start = 5\nend = 6\n"))
            for zone in ("place", "zone", "Asia/Kolkata")
        )
    )
    values = ("category", "terminals", "device")
    words = {VALUE: values, POINT: ("place",)}
    pairs = [(kind, of) for kind, ofs in COMBINATIONS.items() for word in ofs for of in words.get(word, (word,))]
    since = ("since_last", "distance", "speed")
    random = np.random.default_rng(0)
    features: list[str] = []
    for entity, (aggregate, of), same in product(("card", "shop"), pairs, ("", *values)):
        options = [
            f"delay_days = {delay}\nlast = {last}\nlabelled = {str(labelled).lower()}\n"
            f"current = {str(current).lower()}\nrelative = {str(relative).lower()}\nsmoothing = {smoothing}\n"
            for delay, last, labelled, current, relative, smoothing in product(
                (0, 1), (0, 2), (False, True), (False, True), (False, True), (0.0, 2.5)
            )
            if of != same
            and not (current and (delay or labelled or of in ("frauds", "streak") or aggregate in since))
            and not (last and of == "place")
            and not (relative and aggregate not in OF_MONEY)
            and not (smoothing and (aggregate, of) != ("share", "frauds"))
        ]
        for option in random.permutation(options)[:COMBINED_PER_KIND]:
            features.append(
                f'[[velocity]]\nname = "f{len(features)}"\nentity = "{entity}"\naggregate = "{aggregate}"\n'
                f'of = "{of}"\nsame = "{same}"\nwindow_days = 2.5\n{option}empty = -1.5\nunit = "1"\n'
                'description = ""\n'
            )
    return parse_schema("everything", head + "".join(features))


EVERYTHING = everything()


@dataclass
class Arrival:
    """An event, or with a label the label of the event of that key."""

    key: int
    time: int
    amount: int
    card: str
    shop: str
    category: str | None = None
    terminals: float | None = None
    latitude: float | None = None
    longitude: float | None = None
    zone: str | None = None
    device: str = ""
    label: int | None = None

    @property
    def values(self):
        return self.category, self.terminals, self.latitude, self.longitude, self.zone


@st.composite
def arrivals(draw):
    """Events and labels in the order of their arrival: late, repeated, at the same second; labels that change."""
    # Whole half days meet the bounds of windows exactly.
    times = st.builds(
        lambda half_days, seconds: MONDAY + half_days * DAY_US // 2 + seconds * SECOND_US,
        st.integers(0, 16),
        st.sampled_from([0, 0, 0, 1, 3]),
    )
    made: list[Arrival] = []
    for key in range(draw(st.integers(1, 25))):
        event = Arrival(
            key,
            draw(times),
            draw(st.sampled_from([0, 1, 99, 1000, 5716, -100_000, -1, 10**14, -(10**14)])),
            draw(st.sampled_from("ab")),
            draw(st.sampled_from(["x", "x", "y", ""])),
            draw(st.sampled_from([None, "food", "fuel"])),
            draw(st.sampled_from([None, 0.0, -16777216.0])),
            draw(st.sampled_from([None, 52.52, 48.856613, -90.0])),
            draw(st.sampled_from([None, 13.405, 180.0, -0.0000014])),
            draw(st.sampled_from([None, "Europe/Berlin", "Pacific/Auckland"])),
            draw(st.sampled_from(["phone", "phone", "tablet", ""])),
        )
        made.append(event)
        known = [arrival for arrival in made if arrival.label is None]
        for _ in range(draw(st.integers(0, 2))):
            made.append(replace(draw(st.sampled_from(known)), label=draw(st.sampled_from([1, 1, 0, -1]))))
        if draw(st.booleans()):
            made.append(draw(st.sampled_from(known)))
    if draw(st.booleans()):
        made.sort(key=lambda arrival: arrival.time)
    return made


def columns(arrivals, sequence) -> tuple[Events, Labels]:
    events = [(arrival, at) for arrival, at in zip(arrivals, sequence, strict=True) if arrival.label is None]
    labels = [(arrival, at) for arrival, at in zip(arrivals, sequence, strict=True) if arrival.label is not None]

    def int64(values):
        return np.array(values, np.int64)

    def tokens(of):
        return {name: [getattr(arrival, name) for arrival, _ in of] for name in EVERYTHING.entity_names}

    return (
        Events(
            int64([arrival.key for arrival, _ in events]),
            int64([arrival.time for arrival, _ in events]),
            int64([arrival.amount for arrival, _ in events]),
            int64([at for _, at in events]),
            tokens(events),
            EVERYTHING.encode([[arrival.amount / 100, *arrival.values] for arrival, _ in events]),
        ),
        Labels(
            int64([arrival.key for arrival, _ in labels]),
            np.array([arrival.label for arrival, _ in labels], np.int8),
            int64([at for _, at in labels]),
            tokens(labels),
        ),
    )


def all_at_once(schema, arrivals):
    return replay(schema, *columns(arrivals, range(len(arrivals))))


KEPT = ("key", "time", "amount", "category", "terminals", "device")


MISSING = (None, "")


def place_of(arrival):
    """The point of an event in degrees, to the microdegree, if it is whole."""
    if arrival.latitude is None or arrival.longitude is None:
        return None
    return round(arrival.latitude * 1e6) / 1e6, round(arrival.longitude * 1e6) / 1e6


def kilometres(one, other):
    """The haversine formula."""
    (north, east), (other_north, other_east) = one, other
    across = math.sin((math.radians(other_north) - math.radians(north)) / 2)
    along = math.sin(math.radians(other_east - east) / 2)
    haversine = across * across + math.cos(math.radians(north)) * math.cos(math.radians(other_north)) * along * along
    return 2 * 6371.0088 * math.asin(math.sqrt(min(haversine, 1.0)))


@dataclass
class Reading:
    """The definitions of docs/features.md, word for word and slowly."""

    schema: Schema
    kept: dict = field(default_factory=dict)

    def arrive(self, arrival):
        """The features of an event, None of a label."""
        row = []
        for entity in self.schema.entities:
            declared = [feature for feature in self.schema.velocity if feature.entity == entity.name]
            if not declared:
                continue
            if not getattr(arrival, entity.name):
                row += [math.nan] * len(declared)
                continue
            events = self.kept.setdefault((entity.name, getattr(arrival, entity.name)), [])
            same = [event for event in events if event["key"] == arrival.key]
            if arrival.label is not None:
                for event in same:
                    event["label"] = arrival.label
                continue
            if not same:
                same = [{name: getattr(arrival, name) for name in KEPT} | {"label": -1}]
                same[0]["place"] = place_of(arrival)
                events.append(same[0])
                events.sort(key=lambda event: event["time"])  # stable: at the same time in the order of arrival
            row += [self.value(feature, events, same[0]) for feature in declared]
            horizon = max(feature.window_us + feature.delay_us for feature in declared) + entity.late_days * DAY_US
            newest = events[-1]["time"]
            events[:] = [event for event in events if event["time"] > newest - horizon][-entity.history_limit :]
        if arrival.label is not None:
            return None
        return [self.on_the_clock(moment, arrival) for moment in self.schema.calendar] + row

    def on_the_clock(self, feature, arrival):
        """The hour or weekday of an event, or whether it lies in a range."""
        place = place_of(arrival) and get_tz(arrival.longitude, arrival.latitude)
        zone = {"": "UTC", "place": place, "zone": arrival.zone}.get(feature.zone, feature.zone)
        if zone is None:
            return math.nan
        moment = (EPOCH + timedelta(microseconds=arrival.time)).astimezone(ZoneInfo(zone))
        value = moment.hour if feature.of == "hour" else moment.weekday()
        return float(value if feature.start is None else feature.start <= value <= feature.end)

    def value(self, feature, events, current):
        until = current["time"] - feature.delay_us
        counted = [
            event
            for event in events
            if until - feature.window_us < event["time"] <= until
            and (feature.current or event is not current)
            and not ((feature.labelled or feature.of == "streak") and event["label"] == -1)
            and not (feature.same and (event[feature.same] in MISSING or event[feature.same] != current[feature.same]))
            and not (feature.of in current and event[feature.of] in MISSING)
        ]
        if feature.of == "streak":
            legitimate = [index for index, event in enumerate(counted) if event["label"] == 0]
            counted = counted[legitimate[-1] + 1 if legitimate else 0 :]
        if feature.last:
            counted = counted[-feature.last :]
        if feature.of in ("frauds", "streak") and feature.aggregate != "share":
            counted = [event for event in counted if event["label"] == 1]
        if feature.aggregate == "count":
            return float(len(counted))
        if feature.aggregate == "distinct":
            return float(len({event[feature.of] for event in counted}))
        if not counted:
            return feature.empty
        amounts = sorted(event["amount"] for event in counted)
        match feature.aggregate:
            case "share" if feature.of == "frauds":
                frauds = sum(event["label"] == 1 for event in counted)
                return (frauds + feature.smoothing * feature.empty) / (len(counted) + feature.smoothing)
            case "share":
                own = current[feature.of]
                equal = sum(event[feature.of] == own for event in counted)
                return feature.empty if own in MISSING else equal / len(counted)
            case "std" | "zscore":
                return self.spread(feature, [event["amount"] for event in reversed(counted)], current["amount"])
            case "distance" | "speed" if current["place"] is None:
                return feature.empty
            case "distance" | "speed":
                hours = max(current["time"] - counted[-1]["time"], SECOND_US) / HOUR_US
                distance = kilometres(counted[-1]["place"], current["place"])
                return distance if feature.aggregate == "distance" else distance / hours
            case "rank":
                own = current["amount"]
                return sum(2 * (amount < own) + (amount == own) for amount in amounts) / (2 * len(amounts))
            case "since_first":
                return (current["time"] - counted[0]["time"]) / 1_000_000
            case "since_last":
                return (current["time"] - counted[-1]["time"]) / 1_000_000
            case "mean":
                over, under = sum(amounts), len(amounts)
            case "median":
                over, under = amounts[(len(amounts) - 1) // 2] + amounts[len(amounts) // 2], 2
            case "min":
                over, under = amounts[0], 1
            case "max":
                over, under = amounts[-1], 1
            case "sum":
                over, under = sum(amounts), 1
        if feature.relative:
            return current["amount"] * under / over if over else feature.empty
        return over / (under * 100)

    def spread(self, feature, amounts, own):
        """The standard deviation or the z-score, of amounts in minor units from the latest to the earliest."""
        n, total = len(amounts), sum(amounts)
        squares = 0.0
        for amount in amounts:
            squares += float(n * amount - total) ** 2
        if feature.aggregate == "std":
            return math.sqrt(squares / n) / (n * 100)
        return (n * own - total) / math.sqrt(squares / n) if squares else feature.empty


def same_bits(left, right):
    np.testing.assert_array_equal(left.view(np.int64), right.view(np.int64))


@settings(max_examples=150, deadline=None)
@given(arrivals=arrivals())
def test_offline_features_are_what_the_definitions_say(arrivals):
    reading = Reading(EVERYTHING)
    rows = [row for arrival in arrivals if (row := reading.arrive(arrival)) is not None]
    # The schema's order is by name in the file, the reading's is by entity: the file has them so, too.
    same_bits(all_at_once(EVERYTHING, arrivals).features, np.array(rows))


@settings(max_examples=150, deadline=None)
@given(arrivals=arrivals(), data=st.data())
def test_online_equals_offline_bit_for_bit_however_the_arrivals_are_cut_into_batches(arrivals, data):
    rows = []
    histories: dict[str, dict[Hashable, bytes]] = {"card": {}, "shop": {}}
    rest = arrivals
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        batch, rest = rest[:size], rest[size:]
        stored = {
            name: {
                token: histories[name][token]
                for token in {getattr(arrival, name) for arrival in batch} & histories[name].keys()
            }
            for name in histories
        }
        step = replay(EVERYTHING, *columns(batch, range(len(batch))), stored)
        rows.append(step.features)
        for name, changed in step.histories.items():
            histories[name] |= changed
    offline = all_at_once(EVERYTHING, arrivals)
    same_bits(np.concatenate(rows), offline.features)
    assert "" not in offline.histories["shop"]
    assert histories == offline.histories, "what is rebuilt from stored arrivals is what was kept"


@settings(max_examples=150, deadline=None)
@given(arrivals=arrivals())
def test_labels_change_histories_in_the_same_way_without_the_compiled_code(arrivals):
    events, labels = columns(arrivals, range(len(arrivals)))
    stored = replay(EVERYTHING, events).histories
    changed = labelled(EVERYTHING, labels, stored)
    expected = replay(EVERYTHING, labels=labels, histories=stored).histories
    assert {name: changed.get(name, {}) for name in expected} == expected


@settings(max_examples=30, deadline=None)
@given(arrivals=arrivals(), seed=st.integers(0, 9))
def test_the_order_of_rows_is_nothing_and_the_sequence_everything(arrivals, seed):
    sequence = np.arange(len(arrivals)) * 3
    order = np.random.default_rng(seed).permutation(len(arrivals))
    events, labels = columns([arrivals[i] for i in order], sequence[order])
    shuffled = replay(EVERYTHING, events, labels).features
    same_bits(shuffled[np.argsort(events.sequence)], all_at_once(EVERYTHING, arrivals).features)


@pytest.mark.parametrize("moment", [datetime.min, datetime.max])
def test_hours_are_computed_at_the_ends_of_the_calendar_where_some_clocks_are_beyond_it(moment):
    time = (moment.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
    zones = ["America/New_York", "Asia/Tokyo"]
    arrivals = [Arrival(key, time, 100, "a", "x", zone=zone) for key, zone in enumerate(zones)]
    found = all_at_once(EVERYTHING, arrivals).features[:, EVERYTHING.derived_names.index("hour_zone")]
    assert found.tolist() == ([19.0, 9.0] if moment == datetime.min else [18.0, 8.0])
