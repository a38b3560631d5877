"""The declarations of schema files, and the errors of invalid ones."""

from dataclasses import replace

import pytest

from training.core import places
from training.core.exceptions import SchemaInvalid
from training.core.features import declaration
from training.core.features.declaration import Calendar, Entity, Point, Velocity
from training.core.schema import load_schema, parse_schema
from training.core.schema.values import Field

HANDBOOK = (places.PACKAGE / "schemas" / "handbook.toml").read_text()

BOOK = (
    *("amount", "is_weekend", "is_night"),
    *(f"customer_{what}_{days}d" for days in (1, 7, 30) for what in ("count", "mean_amount")),
    *(f"terminal_{what}_{days}d" for days in (1, 7, 30) for what in ("count", "risk")),
)


def test_the_handbook_begins_with_the_fifteen_features_of_the_book():
    assert load_schema("handbook").input_names[:15] == BOOK


def test_a_client_sends_numbers_and_tokens_and_no_computed_features():
    schema = load_schema("handbook")
    assert schema.feature_names == ("amount",)
    assert schema.entity_names == ("customer", "terminal")


def test_of_ulb_the_model_takes_what_the_client_sends():
    schema = load_schema("ulb")
    assert schema.input_names == schema.feature_names
    assert schema.derived == ()


def test_what_ulb_does_not_declare_does_not_change_its_hash():
    """Bundles name the hash that they were trained for."""
    assert load_schema("ulb").hash == "339de098afc22236a7a528dfd1657947d56e2c197f4eb738eeec9a53bdb4a9d8"


def test_the_hash_of_the_handbook_is_that_of_its_bundles():
    """A whole number where a float is declared must not become one: the hash is made of what is written."""
    assert load_schema("handbook").hash.startswith("3b597a99f6")


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        ("maximum = 1000000.0", 'maximum = "1000000"', "amount: maximum: give a number, not '1000000'"),
        ("maximum = 1000000.0", "maximum = inf", "amount: maximum: give a finite number"),
        ("window_days = 1", 'window_days = "1"', "customer_count_1d: window_days: give a number"),
        ("window_days = 1", "window_days = 1e300", "customer_count_1d: window_days is more than 0"),
        ("history_limit = 600", "history_limit = 1000000000000", "history_limit is at least 1 and at most 100,000"),
        ("history_limit = 600", 'history_limit = 600\nof = "amount"', "customer: of: give a list, not 'amount'"),
        ("history_limit = 600", 'history_limit = 600\noptional = "no"', "customer: optional: give true or false"),
        ("past_days = 30", 'past_days = "30"', "past_days: give a whole number, not '30'"),
        ("past_days = 30", "past_days = -1", "past_days is 0 to 36,500, not -1"),
        ("amount_decimals = 2", "amount_decimals = 400", "amount_decimals is 0 to 8, not 400"),
        ("[source]", "[file]\nmissing = 5\n[source]", "[file] missing: give a list, not 5"),
        ("past_days = 30", "past_days = 30\npoint = 5", "point: write it as [[point]], a table"),
        ("past_days = 30", 'past_days = 30\nfile = "x.csv"', "file: write it as [file], a table"),
    ],
)
def test_a_value_of_another_type_or_without_bound_is_refused_by_its_name(was, becomes, message):
    assert was in HANDBOOK
    with pytest.raises(SchemaInvalid) as refused:
        parse_schema("mine", HANDBOOK.replace(was, becomes, 1))
    assert message in str(refused.value)


def test_the_hash_follows_features_and_not_the_columns_of_the_raw_file():
    schema = load_schema("handbook")
    assert replace(schema, source={}).hash == schema.hash
    fewer = replace(schema, velocity=schema.velocity[1:])
    assert fewer.hash != schema.hash


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        ('time = "event_time"', 'time = "noon"', "time is a feature or event_time, not 'noon'"),
        ('amount = "amount"', 'amount = "money"', "amount names no feature: 'money'"),
        ('label = "fraud"', 'label = "amount"', "the name 'amount' is taken twice"),
        ('name = "is_night"', 'name = "event_time"', "the name 'event_time' is reserved"),
        ('name = "is_night"', 'nmae = "is_night"', "[[calendar]] there is no nmae. Did you mean name?"),
        (
            "label_delay_days = 7",
            "label_delay_weeks = 1",
            "there is no label_delay_weeks. Did you mean label_delay_days?",
        ),
        ("label_delay_days = 7", "past_days = 7", "Schema mine: "),
        ('label = "fraud"', "", "Schema mine: label is missing"),
        ('unit = "EUR"', "", "Schema mine: amount: a number needs a unit"),
        ("history_limit = 600", "", "[[entity]] customer: history_limit is missing"),
        ("[[feature]]", "[[feeture]]", "Did you mean feature?"),
        ('amount = "amount"', 'amount = "ammount"', "Did you mean amount?"),
        ('card = "customer"', 'card = "costumer"', "Did you mean customer?"),
        ('time = "event_time"', 'time = "event_tmie"', "Did you mean event_time?"),
        ('customer = "CUSTOMER_ID"', 'costumer = "CUSTOMER_ID"', "Did you mean customer?"),
        ('of = "hour"', 'of = "moon"', "is_night: of is one of hour, weekday, not 'moon'"),
        ("end = 6", "end = 24", "is_weekend: start and end lie in 0 to 6"),
        ("history_limit = 600", "history_limit = 0", "Entity customer: history_limit is at least 1"),
        ('customer = "CUSTOMER_ID"', 'client = "CUSTOMER_ID"', "source: no such column of ours: client"),
        ("maximum = 1000000.0", "maximum = 0.0", "amount: minimum is not below maximum"),
        ("maximum = 1000000.0", f"maximum = {'[' * 9_000}", "recursion"),
        ('name = "amount"', 'name = ""', "the name '' is not printable"),
        ("maximum = 1000000.0", f"maximum = {'9' * 5_000}", "Exceeds the limit"),
        ('name = "customer"', 'name = "CVV2"', "the name 'CVV2' is one of card data, which calls refuse"),
        ("maximum = 1000000.0", "maximum = 1e40", "amount: minimum and maximum of an input of the model lie within"),
        ("maximum = 1000000.0", "maximum = 1e13", "amount: minimum and maximum of an amount that features sum lie"),
        ('entity = "customer"', 'entity = "device"', "customer_count_1d: there is no entity 'device'"),
        ('aggregate = "count"', 'aggregate = "mode"', "customer_count_1d: aggregate is one of count, share,"),
        ('of = "events"', 'of = "amounts"', "customer_count_1d: count is taken of events or frauds or streak, not of"),
        ("window_days = 1", "window_days = 0", "customer_count_1d: window_days is more than 0"),
        ("window_days = 1", "window_days = 1\ndelay_days = 7", "customer_count_1d: the event itself is not in a del"),
        ("window_days = 1", "window_days = 1\nrelative = true", "customer_count_1d: relative compares amounts"),
        ("last = 2", "last = 500", "terminal_last_2_risk: last is more than the history_limit of terminal"),
        ('title = "', "title = ", "Schema mine: "),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name(was, becomes, message):
    assert was in HANDBOOK
    with pytest.raises(SchemaInvalid) as refused:
        parse_schema("mine", HANDBOOK.replace(was, becomes, 1))
    assert message in str(refused.value)
    assert str(refused.value).startswith("Schema mine: ")


CARD = Entity("card", "A card.", history_limit=10)


def flag(of, start, end):
    return Calendar("is_flagged", of, "A flag.", start, end)


def check(entities, calendar, velocity):
    declared = replace(load_schema("handbook"), entities=(*entities,), calendar=(*calendar,), velocity=(*velocity,))
    declaration.check(declared)


def count(**changes):
    plain = Velocity("card_count", "card", "count", "events", window_days=1.0, unit="events", description="A count.")
    return replace(plain, **changes)


@pytest.mark.parametrize("declared", [flag("hour", 0, 23), flag("hour", 5, 5), flag("weekday", 0, 6)])
def test_a_flag_may_be_of_any_hour_and_weekday_alone_or_in_a_row(declared):
    check([CARD], [declared], [])


@pytest.mark.parametrize(
    "declared",
    [flag("hour", 0, 24), flag("hour", -1, 3), flag("hour", 6, 5), flag("weekday", 0, 7), flag("month", 1, 2)],
)
def test_a_flag_of_no_hour_or_weekday_is_refused(declared):
    with pytest.raises(SchemaInvalid, match="is_flagged"):
        check([CARD], [declared], [])


@pytest.mark.parametrize(
    ("zone", "remedy"),
    [
        ("Europe/Berlni", "zone names a point, .* not 'Europe/Berlni'. Did you mean Europe/Berlin"),
        ("plaice", "not 'plaice'. Did you mean place"),
        ("country", "not 'country'. A country can have several: declare a feature of the kind timezone"),
        ("latitude", "zone names a point, a feature of the kind timezone, or a time zone such as Europe/Berlin, not"),
    ],
)
def test_a_zone_that_is_none_is_refused_with_its_remedy(zone, remedy):
    fields = [Field(kind, "", kind=kind) for kind in ("latitude", "longitude", "country", "timezone")]
    declared = replace(
        load_schema("handbook"),
        features=(*load_schema("handbook").features, *fields),
        points=(Point("place", "latitude", "longitude"),),
    )
    for known in ("", "place", "timezone", "Europe/Berlin", "UTC"):
        declaration.check(replace(declared, calendar=(replace(flag("hour", 0, 6), zone=known),)))
    with pytest.raises(SchemaInvalid, match=f"is_flagged: .*{remedy}"):
        declaration.check(replace(declared, calendar=(replace(flag("hour", 0, 6), zone=zone),)))


@pytest.mark.parametrize("changes", [{}, {"last": 10}, {"current": True}, {"delay_days": 7.0, "labelled": True}])
def test_a_count_may_be_of_all_that_is_kept(changes):
    check([CARD], [], [count(**changes)])


@pytest.mark.parametrize(
    "changes",
    [
        {"entity": "terminal"},
        {"aggregate": "mode"},
        {"of": "amount"},
        {"window_days": 0.0},
        {"delay_days": -1.0},
        {"last": -1},
        {"last": 11},
        {"relative": True},
        {"current": True, "delay_days": 7.0},
        {"current": True, "labelled": True},
    ],
)
def test_an_aggregate_that_cannot_be_computed_is_refused_by_its_name(changes):
    with pytest.raises(SchemaInvalid, match="card_count"):
        check([CARD], [], [count(**changes)])


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"of": "citty"}, "distinct is taken of a feature or an entity, not of 'citty'. Did you mean city"),
        ({"same": "citty"}, "same names no feature or entity: 'citty'. Did you mean city"),
        ({"of": "amount"}, "of names a value that is equal or not: an entity, .* not amount, a number"),
        ({"same": "amount"}, "same names a value that is equal or not: an entity, .* not amount, a number"),
        ({"same": "city"}, "among events with the same city says nothing: change same"),
        ({"of": "devise"}, "distinct is taken of a feature or an entity, not of 'devise'. Did you mean device"),
        ({"of": "card"}, "of names card, which is the same in all events of one card: change of"),
        ({"same": "card"}, "same names card, which is the same in all events of one card: change same"),
        ({"entity": "journey", "of": "card"}, "of names card, which is the same in all events of one journey"),
        (
            {"entity": "journey", "of": "device", "same": "route"},
            "same names route, which is the same in all events of one journey",
        ),
        ({"of": "device", "same": "phone"}, "distinct of device among events with the same phone says nothing"),
        ({"last": 1}, "raise last, or take the share"),
        ({"aggregate": "share", "of": "frauds", "smoothing": -1.0}, "smoothing is a number of events, 0 or more"),
        ({"smoothing": 1.0}, "smoothing is for a share of frauds"),
        ({"aggregate": "std", "of": "amounts", "last": 1}, "raise last"),
        ({"aggregate": "speed", "of": "citty"}, "speed is taken of a point, not of 'citty'"),
        ({"aggregate": "distance", "of": "place", "last": 2}, "leave out last"),
        ({"aggregate": "distance", "of": "place", "current": True}, "current must be false"),
        ({"empty": float("nan")}, "empty is a finite number"),
    ],
)
def test_an_aggregate_of_values_that_says_nothing_is_refused_with_its_remedy(changes, remedy):
    schema = load_schema("handbook")
    city = Field("city", "A city.", kind="category")
    coordinates = [Field(kind, "", kind=kind) for kind in ("latitude", "longitude")]
    distinct = replace(count(), aggregate="distinct", of="city")
    declared = replace(
        schema,
        features=(*schema.features, city, *coordinates),
        points=(Point("place", "latitude", "longitude"),),
        entities=(
            CARD,
            replace(CARD, name="device"),
            replace(CARD, name="phone", of=("device", "city")),
            replace(CARD, name="route", of=("city",)),
            replace(CARD, name="journey", of=("card", "city")),
        ),
        velocity=(distinct,),
    )
    for of, same in [("city", ""), ("device", ""), ("device", "city"), ("journey", "device"), ("phone", "journey")]:
        declaration.check(replace(declared, velocity=(replace(distinct, of=of, same=same),)))
    with pytest.raises(SchemaInvalid, match=f"card_count: .*{remedy}"):
        declaration.check(replace(declared, velocity=(replace(distinct, **changes),)))


def test_an_entity_whose_features_read_more_values_than_a_history_keeps_is_refused():
    schema = load_schema("handbook")
    cities = tuple(Field(f"city_{i}", "A city.", kind="category") for i in range(9))
    distinct = tuple(replace(count(), name=f"n_{city.name}", aggregate="distinct", of=city.name) for city in cities)
    declared = replace(schema, features=(*schema.features, *cities), entities=(CARD,), velocity=distinct[:8])
    declaration.check(declared)
    with pytest.raises(SchemaInvalid, match=r"Entity card: its features read 9 values, .* at most 8: .* Leave out"):
        declaration.check(replace(declared, velocity=distinct))


@pytest.mark.parametrize("limits", [{"history_limit": 0}, {"history_limit": 1, "late_days": -0.5}])
def test_an_entity_keeps_at_least_one_event(limits):
    with pytest.raises(SchemaInvalid, match="card"):
        check([Entity("card", "A card.", **limits)], [], [])
    check([Entity("card", "A card.", history_limit=1, late_days=0.0)], [], [])
