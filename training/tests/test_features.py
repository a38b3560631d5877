"""Computed features: online equals offline equals the definitions of docs/features.md, bit for bit."""

import math
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.core.exceptions import StaleHistory
from training.core.features.declaration import COMBINATIONS, DAY_US, FIELD, OF_MONEY, POINT, Calendar
from training.core.features.replay import EVENT, VERSION_BYTES, Events, Labels, model_inputs, replay, version
from training.core.schema import Schema, load_schema, parse_schema

HANDBOOK = load_schema("handbook")
HOUR_US, SECOND_US = DAY_US // 24, 1_000_000
MONDAY = 1_522_627_200 * SECOND_US  # 2 April 2018


COMBINED_PER_KIND = 3


def everything():
    """A schema with features of all kinds, and histories so short that events fall out of them. Of the ways to combine
    options it has some for each entity, aggregate, `of` and `same`."""
    head = (
        'title = "Everything"\ntime = "event_time"\namount = "amount"\nlabel = "fraud"\npast_days = 30\n'
        '[[feature]]\nname = "amount"\nunit = "EUR"\nminimum = 0\nmaximum = 1e6\ndescription = ""\n'
        '[[feature]]\nname = "category"\nkind = "category"\noptional = true\ndescription = ""\n'
        '[[feature]]\nname = "terminals"\nkind = "integer"\nunit = "1"\nminimum = -16777216\n'
        'maximum = 16777216\noptional = true\ndescription = ""\n'
        + "".join(
            f'[[feature]]\nname = "{kind}"\nkind = "{kind}"\noptional = true\ndescription = ""\n'
            for kind in ("latitude", "longitude")
        )
        + '[[point]]\nname = "place"\nlatitude = "latitude"\nlongitude = "longitude"\n'
        '[[entity]]\nname = "card"\ndescription = ""\nhistory_limit = 4\nlate_days = 0.5\n'
        '[[entity]]\nname = "shop"\ndescription = ""\nhistory_limit = 100\nlate_days = 0\noptional = true\n'
        '[[calendar]]\nname = "is_night"\nof = "hour"\nstart = 0\nend = 6\ndescription = ""\n'
    )
    values = ("category", "terminals")
    words = {FIELD: values, POINT: ("place",)}
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
    label: int | None = None

    @property
    def values(self):
        return self.category, self.terminals, self.latitude, self.longitude


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
            draw(st.sampled_from([0, 1, 99, 1000, 5716, 100_000])),
            draw(st.sampled_from("ab")),
            draw(st.sampled_from(["x", "x", "y", ""])),
            draw(st.sampled_from([None, "food", "fuel"])),
            draw(st.sampled_from([None, 0.0, -16777216.0])),
            draw(st.sampled_from([None, 52.52, 48.856613, -90.0])),
            draw(st.sampled_from([None, 13.405, 180.0, -0.0000014])),
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
        return {"card": [arrival.card for arrival, _ in of], "shop": [arrival.shop for arrival, _ in of]}

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


KEPT = ("key", "time", "amount", "category", "terminals")


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
        hour = arrival.time // HOUR_US % 24
        return [float(flag.start <= hour <= flag.end) for flag in self.schema.calendar] + row

    def value(self, feature, events, current):
        until = current["time"] - feature.delay_us
        counted = [
            event
            for event in events
            if until - feature.window_us < event["time"] <= until
            and (feature.current or event is not current)
            and not ((feature.labelled or feature.of == "streak") and event["label"] == -1)
            and not (feature.same and (event[feature.same] is None or event[feature.same] != current[feature.same]))
            and not (feature.of in current and event[feature.of] is None)
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
                return feature.empty if own is None else equal / len(counted)
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


@settings(max_examples=30, deadline=None)
@given(arrivals=arrivals(), seed=st.integers(0, 9))
def test_the_order_of_rows_is_nothing_and_the_sequence_everything(arrivals, seed):
    sequence = np.arange(len(arrivals)) * 3
    order = np.random.default_rng(seed).permutation(len(arrivals))
    events, labels = columns([arrivals[i] for i in order], sequence[order])
    shuffled = replay(EVERYTHING, events, labels).features
    same_bits(shuffled[np.argsort(events.sequence)], all_at_once(EVERYTHING, arrivals).features)


def handbook_events(*rows):
    """Events of one customer at one terminal: (time, amount)."""
    n = np.arange(len(rows))
    times, amounts = np.array(rows, np.int64).T.copy()
    return Events(n, times, amounts, n, {"customer": ["c"] * len(n), "terminal": ["t"] * len(n)})


def feature(schema, replayed, name):
    return replayed.features[:, [declared.name for declared in schema.derived].index(name)].tolist()


def test_a_window_is_open_at_its_start_and_closed_at_its_end():
    events = handbook_events((MONDAY, 100), (MONDAY, 100), (MONDAY + DAY_US - 1, 100), (MONDAY + DAY_US, 100))
    assert feature(HANDBOOK, replay(HANDBOOK, events), "customer_count_1d") == [1, 2, 3, 2]


def test_a_late_event_is_seen_by_those_that_arrive_after_it_and_sees_no_later_time():
    events = handbook_events((MONDAY, 100), (MONDAY + 2 * HOUR_US, 300), (MONDAY + HOUR_US, 500), (MONDAY + DAY_US, 0))
    replayed = replay(HANDBOOK, events)
    assert feature(HANDBOOK, replayed, "customer_count_1d") == [1, 2, 2, 3]
    assert feature(HANDBOOK, replayed, "customer_mean_amount_1d") == [1, 2, 3, 8 / 3]


def test_weekend_and_night_are_those_of_the_book():
    saturday = MONDAY + 5 * DAY_US
    moments = (MONDAY, MONDAY + 7 * HOUR_US - 1, MONDAY + 7 * HOUR_US, saturday - 1, saturday, saturday + 2 * DAY_US)
    replayed = replay(HANDBOOK, handbook_events(*((moment, 100) for moment in moments)))
    assert feature(HANDBOOK, replayed, "is_night") == [1, 1, 0, 0, 1, 1]
    assert feature(HANDBOOK, replayed, "is_weekend") == [0, 0, 0, 0, 1, 0]


def test_hour_weekday_ages_and_distances_are_those_of_the_event_itself():
    schema = parse_schema(
        "shop",
        'title = "A shop"\ntime = "event_time"\namount = "amount"\nlabel = "fraud"\npast_days = 30\n'
        '[[feature]]\nname = "amount"\nunit = "EUR"\nminimum = 0\nmaximum = 1e6\ndescription = ""\n'
        '[[feature]]\nname = "birth"\nkind = "date"\noptional = true\ndescription = ""\n'
        + "".join(
            f'[[feature]]\nname = "{name}_{kind}"\nkind = "{kind}"\noptional = true\ndescription = ""\n'
            for name, kind in product(("home", "shop"), ("latitude", "longitude"))
        )
        + "".join(
            f'[[point]]\nname = "{name}"\nlatitude = "{name}_latitude"\nlongitude = "{name}_longitude"\n'
            for name in ("home", "shop")
        )
        + '[[calendar]]\nname = "hour"\nof = "hour"\ndescription = ""\n'
        '[[calendar]]\nname = "weekday"\nof = "weekday"\ndescription = ""\n'
        '[[age]]\nname = "age_days"\nof = "birth"\nunit = "days"\ndescription = ""\n'
        '[[age]]\nname = "age_years"\nof = "birth"\nunit = "years"\ndescription = ""\n'
        '[[distance]]\nname = "km"\nbetween = ["home", "shop"]\ndescription = ""\n',
    )
    berlin, paris = (52.5200, 13.4050), (48.8566, 2.3522)
    given = schema.encode([[1.0, "2018-04-02", *berlin, *paris], [1.0, None, *berlin, None, 2.3522]])
    times = np.array([MONDAY + 5 * HOUR_US, MONDAY + 6 * DAY_US + 23 * HOUR_US])
    n = np.arange(2)
    hour, weekday, days, years, km = replay(schema, Events(n, times, n, n, {}, given)).features.T
    assert (hour.tolist(), weekday.tolist()) == ([5, 23], [0, 6])
    assert (days[0], years[0]) == (5 / 24, 5 / 24 / 365.2425)
    assert km[0] == pytest.approx(877.46, abs=0.01)
    assert np.isnan([days[1], years[1], km[1]]).all(), "one without the date, and without one of four coordinates"
    with pytest.raises(ValueError, match="birth"):
        replay(schema, Events(n, times, n, n, {}))


def test_a_history_of_other_values_is_refused_not_misread():
    declared = EVERYTHING.velocity
    without = replace(EVERYTHING, velocity=tuple(one for one in declared if "terminals" not in (one.of, one.same)))
    assert version(without, "card") != version(EVERYTHING, "card")
    another = replace(EVERYTHING.features[2], kind="category")
    changed = replace(EVERYTHING, features=(*EVERYTHING.features[:2], another, *EVERYTHING.features[3:]))
    assert version(changed, "card") != version(EVERYTHING, "card")


def test_histories_without_values_of_the_request_stay_as_they_were_before_there_were_any():
    assert version(HANDBOOK, "customer").hex() == "df69d65284418cb3"
    assert version(HANDBOOK, "terminal").hex() == "03f42b96968b5133"


def test_a_missing_entity_has_no_history_and_its_features_are_nan_whatever_its_token_is():
    key = np.arange(4)
    given = EVERYTHING.encode([[1.0, "food", 1.0, None, None]] * 4)
    labels = Labels(key[:2], np.ones(2, np.int8), key[2:], {"card": ["a"] * 2, "shop": ["", "x"]})
    named = Events(key, MONDAY + key, key, key, {"card": ["a"] * 4, "shop": ["", "x", "x", ""]}, given)
    by_name = replay(EVERYTHING, named, labels)
    missing = np.isnan(by_name.features)
    of_shop = [getattr(feature, "entity", "") == "shop" for feature in EVERYTHING.derived]
    assert missing[[0, 3]].tolist() == [of_shop] * 2
    assert not missing[[1, 2]].any()
    assert list(by_name.histories["shop"]) == ["x"]
    numbered = {"card": np.zeros(4, np.int64), "shop": np.array([-1, 5, 5, -1])}
    labels = replace(labels, tokens={"card": np.zeros(2, np.int64), "shop": np.array([-1, 5])})
    by_number = replay(EVERYTHING, replace(named, tokens=numbered), labels)
    same_bits(by_number.features, by_name.features)
    assert by_number.histories["shop"] == {5: by_name.histories["shop"]["x"]}


def test_a_label_counts_from_its_arrival_and_until_it_is_reversed():
    week = 7 * DAY_US
    events = handbook_events(*((MONDAY + moment, 100) for moment in (0, week, week + 1, week + 2)))
    events = replace(events, sequence=np.array([0, 10, 20, 30]))
    labels = Labels(
        key=np.zeros(2, np.int64),
        fraud=np.array([1, 0], np.int8),
        sequence=np.array([20, 30]),
        tokens={"customer": ["c"] * 2, "terminal": ["t"] * 2},
    )
    assert feature(HANDBOOK, replay(HANDBOOK, events, labels), "terminal_risk_7d") == [0, 0, 1, 0]


def test_a_history_of_another_declaration_is_refused_not_misread():
    events = handbook_events((MONDAY, 100))
    kept = replay(HANDBOOK, events).histories
    longer = replace(HANDBOOK, velocity=tuple(replace(one, window_days=90) for one in HANDBOOK.velocity))
    with pytest.raises(StaleHistory, match="1 histories of customer"):
        replay(longer, events, histories=kept)
    assert not kept["customer"]["c"].startswith(version(longer, "customer"))
    assert kept["customer"]["c"].startswith(version(HANDBOOK, "customer"))


def test_a_new_feature_that_looks_no_further_back_needs_no_new_history():
    smaller = replace(HANDBOOK.velocity[0], name="customer_count_2d", window_days=2)
    assert version(replace(HANDBOOK, velocity=(*HANDBOOK.velocity, smaller)), "customer") == version(
        HANDBOOK, "customer"
    )


def test_a_history_is_bounded_by_its_limit_and_by_its_longest_window():
    limit = HANDBOOK.entities[0].history_limit
    busy = replay(HANDBOOK, handbook_events(*((MONDAY + i, 100) for i in range(limit + 50)))).histories
    assert len(busy["customer"]["c"]) == VERSION_BYTES + limit * EVENT.itemsize
    idle = replay(HANDBOOK, handbook_events(*((MONDAY + 10 * i * DAY_US, 100) for i in range(50)))).histories
    assert len(idle["customer"]["c"]) == VERSION_BYTES + 7 * EVENT.itemsize, "60 days, and a day for late ones"


def test_many_entities_are_shared_out_to_threads_with_the_same_result(monkeypatch):
    random = np.random.default_rng(0)
    n = 5_000
    events = Events(
        np.arange(n),
        MONDAY + np.sort(random.integers(0, 90 * DAY_US, n)),
        random.integers(0, 10_000, n),
        np.arange(n),
        {"customer": random.integers(0, 50, n), "terminal": random.integers(0, 80, n)},
    )
    alone = replay(HANDBOOK, events)
    monkeypatch.setattr("training.core.features.replay.MANY_OPERATIONS", 1)
    monkeypatch.setattr("training.core.features.replay.FEW_TOKENS", 1)
    together = replay(HANDBOOK, events)
    same_bits(together.features, alone.features)
    assert together.histories == alone.histories


def test_the_model_takes_the_declared_numbers_then_what_is_computed():
    silent = replace(HANDBOOK, features=(replace(HANDBOOK.features[0], model=False), *HANDBOOK.features))
    given, derived = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])
    assert model_inputs(silent, given, derived).tolist() == [[2, 3, 4]]


def test_a_schema_without_computed_features_keeps_nothing():
    ulb = load_schema("ulb")
    one = np.zeros(1, np.int64)
    replayed = replay(ulb, Events(one, one, one, one, {}))
    assert (replayed.features.shape, replayed.histories) == ((1, 0), {})


def test_a_flag_covers_its_first_and_last_hour():
    flags = (Calendar("h", "hour", "", 8, 9),)
    moments = [(MONDAY + hour * HOUR_US, 100) for hour in range(7, 11)]
    replayed = replay(replace(HANDBOOK, calendar=flags), handbook_events(*moments))
    assert replayed.features[:, 0].tolist() == [0, 1, 1, 0]
