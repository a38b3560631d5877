"""The replay of arrivals by example: windows, late events, labels, missing entities, and what a history keeps."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import numpy as np
import pytest
from tzfpy import timezonenames

from training.core.exceptions import StaleHistory
from training.core.features import declaration
from training.core.features.declaration import DAY_US, Calendar, Entity, Point, Velocity
from training.core.features.earth import great_circle_km
from training.core.features.replay import (
    Events,
    Labels,
    arrivals_by_time,
    event_bytes,
    labelled,
    model_inputs,
    replay,
    version,
)
from training.core.features.stored import EVENT_BYTES, VERSION_BYTES
from training.core.schema import Field, load_schema, parse_schema, schema_names
from training.core.schema.kinds.categories import code_of
from training.core.schema.kinds.codes import timezones
from training.tests.test_features import EPOCH, EVERYTHING, HOUR_US, MONDAY, same_bits

HANDBOOK = load_schema("handbook")


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


def local(of, zone, times, values=None, **flag):
    """The hour or weekday of events on the clocks of a zone; `values` are their zones, latitudes and longitudes."""
    fields = [Field("zone", "", "timezone", optional=True)]
    fields += [Field(kind, "", kind, optional=True) for kind in ("latitude", "longitude")]
    schema = replace(
        HANDBOOK,
        features=(*HANDBOOK.features, *fields),
        points=(Point("place", "latitude", "longitude"),),
        entities=(),
        velocity=(),
        calendar=(Calendar("local", of, "", zone=zone, **flag),),
    )
    declaration.check(schema)
    assert (zone in ("zone", "place")) == ("local" in schema.optional_inputs)
    moments = [datetime.fromisoformat(time).replace(tzinfo=UTC) for time in times]
    time = np.array([(moment - EPOCH) // timedelta(microseconds=1) for moment in moments])
    given = schema.encode([[1.0, *row] for row in values or [(None, None, None)] * len(time)])
    return replay(schema, Events(np.arange(len(time)), time, time, time, {}, given)).features[:, 0].tolist()


def test_the_hour_is_that_of_the_zones_clocks_also_when_they_are_changed():
    # In Berlin the hours 1 to 3 of 29 March are 1 and 3, and on 25 October the hour 2 comes twice.
    spring = ["2026-03-29T00:59:59.999999", "2026-03-29T01:00:00"]
    autumn = ["2026-10-24T23:30:00", "2026-10-25T00:59:59", "2026-10-25T01:00:00", "2026-10-25T02:00:00"]
    assert local("hour", "Europe/Berlin", spring + autumn) == [1, 3, 1, 2, 2, 3]
    assert local("hour", "Asia/Kolkata", ["2026-01-01T18:29:59", "2026-01-01T18:30:00"]) == [23, 0]
    assert local("weekday", "Pacific/Auckland", ["2026-11-29T10:59:59", "2026-11-29T11:00:00"]) == [6, 0]
    assert local("hour", "UTC", ["1969-12-31T23:59:59.5", "2199-07-01T12:00:00"]) == [23, 12]


def test_the_zone_may_be_that_of_the_point_or_of_a_value_and_is_missing_with_it():
    times = ["2026-07-01T02:30:00"] * 4
    zones = [(zone, None, None) for zone in ("America/New_York", "Europe/Berlin", None, "Asia/Tokyo")]
    assert same_numbers(local("hour", "zone", times, zones), [22, 4, np.nan, 11])
    assert same_numbers(local("weekday", "zone", times, zones, start=2, end=2), [0, 1, np.nan, 1])
    # Atlanta, Tokyo, a place of which half is missing, and the sea between Hawaii and Mexico.
    points = [(None, 33.749, -84.388), (None, 35.68, 139.69), (None, 35.68, None), (None, 20.0, -135.0)]
    assert same_numbers(local("hour", "place", times, points), [22, 11, np.nan, 17])


def test_every_zone_of_a_place_is_one_of_which_there_are_rules():
    assert set(timezonenames()) <= set(timezones().values())


def same_numbers(left, right):
    return np.array_equal(left, right, equal_nan=True)


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
    given = EVERYTHING.encode([[1.0, "food", 1.0, 52.52, 13.405, "UTC"]] * 4)
    devices = {"device": ["d", "", "d", "e"]}
    labels = Labels(key[:2], np.ones(2, np.int8), key[2:], {"card": ["a"] * 2, "shop": ["", "x"]})
    named = Events(key, MONDAY + key, key, key, {"card": ["a"] * 4, "shop": ["", "x", "x", ""]} | devices, given)
    by_name = replay(EVERYTHING, named, labels)
    missing = np.isnan(by_name.features)
    of_shop = [getattr(feature, "entity", "") == "shop" for feature in EVERYTHING.derived]
    assert missing[[0, 3]].tolist() == [of_shop] * 2
    assert not missing[[1, 2]].any()
    assert list(by_name.histories["shop"]) == ["x"]
    numbered = {"card": np.zeros(4, np.int64), "shop": np.array([-1, 5, 5, -1])} | devices
    labels = replace(labels, tokens={"card": np.zeros(2, np.int64), "shop": np.array([-1, 5])})
    by_number = replay(EVERYTHING, replace(named, tokens=numbered), labels)
    same_bits(by_number.features, by_name.features)
    assert by_number.histories["shop"] == {5: by_name.histories["shop"]["x"]}


def cards_of_devices(**changes):
    """A schema that counts the cards of a device, with other tokens or features."""
    card, device = (Entity(name, "", history_limit=10, optional=True) for name in ("card", "device"))
    cards = Velocity("cards", "device", "distinct", "card", 30.0, "1", "", current=True)
    return replace(HANDBOOK, entities=(card, device), calendar=(), velocity=(replace(cards, **changes),))


def test_the_cards_of_a_device_are_counted_and_its_change_is_noticed():
    n = np.arange(5)
    tokens = {"card": ["a", "b", "", "a", "c"], "device": ["x", "x", "x", "x", "y"]}
    events = Events(n, MONDAY + n * HOUR_US, n, n, tokens)

    def computed(**changes):
        return replay(cards_of_devices(**changes), events).features[:, 0].tolist()

    assert computed() == [1, 2, 2, 2, 1]
    before = {"aggregate": "share", "current": False, "empty": -1.0}
    assert computed(**before, last=1) == [-1, 0, -1, 0, -1], "whether the card is that of the event before"
    same = {"aggregate": "since_last", "of": "events", "same": "card", "current": False, "empty": -1.0}
    assert computed(**same) == [-1, -1, -1, 3 * 3600, -1]
    numbered = {"card": np.array([7, 5, -1, 7, 5]), "device": np.array([0, 0, 0, 0, 1])}
    assert replay(cards_of_devices(), replace(events, tokens=numbered)).features[:, 0].tolist() == [1, 2, 2, 2, 1]
    too_large = {"card": np.full(5, 2**31), "device": np.zeros(5, np.int64)}
    with pytest.raises(OverflowError):
        replay(cards_of_devices(), replace(events, tokens=too_large))


def test_a_history_that_keeps_an_entity_is_of_its_version_and_takes_four_bytes_more():
    n = np.arange(2)
    events = Events(n, MONDAY + n, n, n, {"card": ["a", "b"], "device": ["x", "x"]})
    schema = cards_of_devices()
    kept = replay(schema, events).histories["device"]["x"]
    assert len(kept) == VERSION_BYTES + 2 * (EVENT_BYTES + 4)
    counts = cards_of_devices(aggregate="count", of="events")
    assert version(counts, "device") != version(schema, "device")
    made = replace(schema, entities=(replace(schema.entities[0], of=("note",)), schema.entities[1]))
    assert version(made, "device") != version(schema, "device")
    assert version(schema, "card") == b"", "it has no history of its own"


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
    label = Labels(np.array([0]), np.ones(1, np.int8), np.array([9]), {"customer": ["c"], "terminal": ["t"]})
    with pytest.raises(StaleHistory, match="1 histories of terminal"):
        labelled(longer, label, kept)
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
    assert len(busy["customer"]["c"]) == VERSION_BYTES + limit * EVENT_BYTES
    idle = replay(HANDBOOK, handbook_events(*((MONDAY + 10 * i * DAY_US, 100) for i in range(50)))).histories
    assert len(idle["customer"]["c"]) == VERSION_BYTES + 7 * EVENT_BYTES, "60 days, and a day for late ones"


@pytest.mark.parametrize("name", [name for name in schema_names() if load_schema(name).velocity])
def test_each_entity_of_each_schema_has_a_bounded_history_whatever_it_is_flooded_with(name):
    schema = load_schema(name)
    n = max(entity.history_limit for entity in schema.entities) + 50
    number = np.arange(n)
    given = np.full((n, len(schema.features)), np.nan)
    for column, each in enumerate(schema.features):
        if each.is_category:
            given[:, column] = [code_of(f"new {place}") for place in range(n)]
    tokens = {entity.name: ["flooded"] * n for entity in schema.entities}
    kept = replay(schema, Events(number, MONDAY + number, number, number, tokens, given)).histories
    for entity in schema.entities:
        sizes = {len(history) for history in kept.get(entity.name, {}).values()}
        assert sizes <= {VERSION_BYTES + entity.history_limit * event_bytes(schema, entity.name)}


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
    monkeypatch.setattr("training.core.features.tokens.FEW_TOKENS", 1)
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


def test_the_other_end_of_the_earth_is_half_its_circumference_away_whatever_is_rounded():
    for latitude in (8.0, 0.0, -82.0):  # the sines of the first and the last have squares that sum to more than 1
        half = great_circle_km(latitude, 20.0, -latitude, -160.0)
        assert half == pytest.approx(np.pi * 6_371.0088)
    assert great_circle_km(8.0, 20.0, 8.0, 20.0) == 0


def test_a_label_without_a_recorded_time_arrives_after_its_delay_and_before_the_events_of_that_time():
    tuesday = MONDAY + DAY_US
    events, labels = arrivals_by_time(np.array([tuesday, MONDAY, tuesday]), 1.0)
    assert (events.tolist(), labels.tolist()) == ([2, 0, 3], [4, 1, 5])
