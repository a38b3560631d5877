from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from training.core import configuration
from training.core.datasets.splits import (
    Split,
    Timeline,
    by_time,
    past_and_future,
    rows_of_unknown_cards,
    seed_system,
    split_rows,
    stratified,
)
from training.core.datasets.storage import Dataset
from training.core.exceptions import ConfigurationError, DatasetError
from training.core.schema import load_schema
from training.tests.support import made_up_report, made_up_rows


@st.composite
def datasets(draw):
    """Rows of which many are copies of one another: features [n, 2], labels [n], with both kinds of label."""
    frauds, legitimate = draw(st.integers(12, 40)), draw(st.integers(40, 200))
    seed, kinds = draw(st.integers(0, 2**32 - 1)), draw(st.integers(20, 400))
    random = np.random.default_rng(seed)
    labels = np.repeat([1, 0], [frauds, legitimate]).astype(np.int8)
    features = np.stack([random.integers(0, kinds, len(labels)), labels], axis=1).astype(float)
    order = random.permutation(len(labels))
    return features[order], labels[order]


SHARES = st.floats(0.15, 0.4)


@settings(deadline=None)
@given(datasets(), SHARES, SHARES, st.integers(0, 2**32 - 1))
def test_no_row_and_no_copy_of_a_row_is_on_two_sides(dataset, test, validation, seed):
    features, labels = dataset
    try:
        split = stratified(features, labels, test=test, validation=validation, seed=seed)
    except ValueError:
        return  # too few different frauds to split
    parts = [{tuple(row) for row in features[part]} for part in vars(split).values()]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len({tuple(row) for row in features})
    rows = np.concatenate(list(vars(split).values()))
    assert len(rows) == len(set(rows))


@settings(deadline=None)
@given(datasets(), SHARES, SHARES, st.integers(0, 2**32 - 1))
def test_every_part_keeps_the_share_of_fraud(dataset, test, validation, seed):
    features, labels = dataset
    try:
        split = stratified(features, labels, test=test, validation=validation, seed=seed)
    except ValueError:
        return  # too few different frauds to split
    rows = np.concatenate(list(vars(split).values()))
    share = labels[rows].mean()
    for part in vars(split).values():
        # Two splits one after the other, each off by less than one fraud.
        assert abs(labels[part].sum() - share * len(part)) < 2


def test_of_copies_the_first_takes_part():
    features = np.repeat(np.arange(30.0), 2)[:, None]
    labels = np.repeat(np.arange(30) % 2, 2).astype(np.int8)
    split = stratified(features, labels, test=0.2, validation=0.2, seed=0)
    rows = np.concatenate(list(vars(split).values()))
    assert sorted(rows) == list(range(0, 60, 2))


def test_rows_that_differ_in_the_label_alone_are_no_copies():
    features, labels = np.zeros((2, 1)).repeat(1, axis=0), np.array([0, 1], np.int8)
    with pytest.raises(ValueError, match="least populated"):  # both are kept, and are too few
        stratified(features, labels, test=0.5, validation=0.5, seed=0)


def test_the_same_seed_makes_the_same_split():
    random = np.random.default_rng(0)
    features, labels = random.normal(size=(200, 3)), np.arange(200) % 5 == 0
    first, again, other = (stratified(features, labels, test=0.2, validation=0.2, seed=seed).test for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert set(first) != set(other)


def test_the_seed_system_splits_all_rows_80_20_twice():
    split = seed_system(np.zeros(284_807, np.int8))
    assert [len(part) for part in vars(split).values()] == [182_276, 45_569, 56_962]
    assert len(set(np.concatenate(list(vars(split).values())))) == 284_807


def test_training_is_on_the_past_and_the_test_on_the_future():
    times = np.random.default_rng(0).integers(0, 500, 1000).astype(float)
    split = past_and_future(times)
    assert [len(part) for part in vars(split).values()] == [600, 200, 200]
    assert times[split.train].max() <= times[split.validation].min()
    assert times[split.validation].max() <= times[split.test].min()
    assert len(set(np.concatenate(list(vars(split).values())))) == 1000


TEST_DAY = (date(2018, 8, 8) - date(1970, 1, 1)).days


def timeline(*rows):
    """Of rows (days after the test's first day, card, fraud): a timeline and labels."""
    days, cards, labels = np.array(rows).T
    return Timeline(days + TEST_DAY, cards), labels


def test_the_parts_of_a_split_by_time_lie_the_label_delay_apart():
    when, labels = timeline(*[(day, day, 0) for day in range(-60, 20)])
    split = by_time(
        when,
        labels,
        test_start=date(2018, 8, 8),
        test_days=3,
        validation_days=5,
        train_days=10,
        delay_days=7,
        known_card_days=7,
    )
    days = {name: (when.day[part] - TEST_DAY).tolist() for name, part in vars(split).items()}
    assert days["test"] == [0, 1, 2]
    assert days["validation"] == [-12, -11, -10, -9, -8]
    assert days["train"] == list(range(-29, -19))


@pytest.mark.parametrize(
    ("fraud_day", "kept_days"),
    [
        (-15, [0, 1, 2]),  # too long ago
        (-14, []),
        (-8, []),
        (-7, [0]),  # known from the second day on
        (-6, [0, 1]),
        (-5, [0, 1, 2]),  # nobody knows yet
        (1, [0, 1, 1, 2]),
    ],
)
def test_a_card_is_tested_until_its_fraud_is_known(fraud_day, kept_days):
    when, labels = timeline((fraud_day, 5, 1), (0, 5, 0), (1, 5, 0), (2, 5, 0))
    rows = rows_of_unknown_cards(when, labels, TEST_DAY, 3, delay_days=7, known_card_days=7)
    assert (when.day[rows] - TEST_DAY).tolist() == kept_days


def test_the_fraud_of_one_card_says_nothing_of_another():
    when, labels = timeline((-8, 5, 1), (0, 6, 0))
    assert rows_of_unknown_cards(when, labels, TEST_DAY, 3, delay_days=7, known_card_days=7).tolist() == [1]


ASKED = {"test": 0.2, "validation": 0.2, "seed": 7}
DAYS = {"test_start": "2018-08-08", "test_days": 3, "validation_days": 5, "train_days": 10, "known_card_days": 7}


def ulb(labels=None, timeline=None):
    rows, frauds = made_up_rows(rows=400, frauds=40)
    labels = frauds if labels is None else labels
    return Dataset(load_schema("ulb"), rows, labels, timeline, made_up_report(labels))


def same(one, other):
    return all(np.array_equal(part, vars(other)[name]) for name, part in vars(one).items())


def split_of(protocol, dataset, **changes):
    asked = ASKED | (DAYS if dataset.timeline else {}) | {"protocol": protocol} | changes
    return split_rows(
        configuration.read(overrides={f"split.{name}": value for name, value in asked.items()}).split, dataset
    )


def test_the_configuration_chooses_how_rows_are_split():
    dataset = ulb()
    randomly = stratified(dataset.features, dataset.labels, test=0.2, validation=0.2, seed=7)
    assert same(split_of("stratified", dataset), randomly)
    assert same(split_of("seed", dataset), seed_system(dataset.labels))
    assert same(split_of("time", dataset), past_and_future(dataset.features[:, 0]))
    with pytest.raises(ConfigurationError, match="not at random"):
        split_of("at random", dataset)


@pytest.mark.parametrize("day", ["2018-08-08", "yesterday"])
def test_a_first_day_of_the_test_is_refused_where_rows_have_no_days(day):
    with pytest.raises(ConfigurationError, match=r"split\.test_start must be left out: ulb has no days"):
        split_of("time", ulb(), test_start=day)


def test_rows_that_have_days_and_cards_are_split_by_days():
    days = np.arange(400) // 4
    dataset = ulb(timeline=Timeline(days + TEST_DAY - 90, np.arange(400)))
    split = split_of("time", dataset)
    assert set(days[split.test]) == {90, 91, 92}
    assert len(set(days[split.train])) == 10
    with pytest.raises(ConfigurationError, match="test_start"):
        split_of("time", dataset, test_start="8 August")


def test_the_seed_system_is_split_as_it_was():
    labels = np.zeros(1000, np.int8)
    rest, test = train_test_split(np.arange(1000), test_size=0.2, random_state=42)
    train, validation = train_test_split(rest, test_size=0.2, random_state=42)
    assert same(seed_system(labels), Split(train, validation, test))


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize("frauds", ["none", "all"])
def test_a_part_without_both_kinds_of_rows_is_refused_by_its_name(part, frauds):
    split = past_and_future(ulb().features[:, 0])
    labels = np.arange(400) % 2
    labels[vars(split)[part]] = frauds == "all"
    with pytest.raises(DatasetError, match=f"The {part} rows need both"):
        split_of("time", ulb(labels))


@pytest.mark.parametrize("rare", [0, 1])
def test_one_row_of_a_kind_in_each_part_is_enough(rare):
    split = past_and_future(ulb().features[:, 0])
    labels = np.full(400, 1 - rare, np.int8)
    labels[[part[0] for part in vars(split).values()]] = rare
    assert same(split_of("time", ulb(labels)), split)


def test_a_test_without_a_length_goes_on_to_the_last_day_and_known_cards_may_stay():
    when, labels = timeline(*[(day, 1, day % 2) for day in range(-60, 20)])
    split = by_time(
        when,
        labels,
        test_start=date(2018, 8, 8),
        test_days=0,
        validation_days=5,
        train_days=10,
        delay_days=7,
        known_card_days=None,
    )
    assert (when.day[split.test] - TEST_DAY).tolist() == list(range(20))
    assert len(split.validation) == 5
