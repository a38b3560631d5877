import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training.core.families.preprocessing import bin_edges, reference, reference_histogram, statistics

VALUES = arrays(np.float64, st.integers(1, 200), elements=st.integers(-5, 5).map(float) | st.floats(-1e6, 1e6))


def test_standardised_rows_have_mean_zero_and_scale_one():
    rows = np.random.default_rng(0).normal(7, 3, size=(5000, 4))
    found = statistics(rows, np.arange(5000) % 10 == 0, bins=4)
    standardised = (rows - found["mean"]) / found["scale"]
    np.testing.assert_allclose(standardised.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(standardised.std(axis=0), 1, atol=1e-5)


def test_a_feature_that_never_changes_is_not_divided_by_zero():
    assert statistics(np.full((10, 1), 3.0), np.arange(10) == 0, bins=4)["scale"] == 1


def test_frauds_have_as_many_bins_as_all_the_others():
    labels = np.repeat([0, 1], [9000, 100])
    rows = np.concatenate([np.linspace(0, 1, 9000), np.linspace(10, 11, 100)])[:, None]
    edges = bin_edges(rows, labels, 7)
    assert edges.shape == (1, 8)
    assert (np.diff(edges) > 0).all()
    assert ((edges < 5).sum(), (edges >= 10).sum()) == (4, 4)


@given(VALUES, st.integers(1, 20), st.data())
def test_edges_rise_and_are_values_of_the_rows(values, bins, data):
    labels = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    if labels.all() or not labels.any():
        return  # training refuses rows of one kind
    (edges,) = bin_edges(values[:, None], labels, bins)
    assert (np.diff(edges) >= 0).all()
    assert set(edges) <= set(values)
    assert edges[-1] == values.max()


@given(VALUES)
def test_a_reference_histogram_has_a_share_for_each_bin_and_they_add_up_to_one(values):
    histogram = reference_histogram(values)
    edges, proportions = histogram["edges"], histogram["proportions"]
    assert edges == sorted(set(edges))
    assert len(proportions) == len(edges) + 1
    assert abs(sum(proportions) - 1) < 1e-9


@given(VALUES)
def test_the_values_it_was_made_of_fall_into_its_bins_in_its_proportions(values):
    histogram = reference_histogram(values)
    bins = np.searchsorted(histogram["edges"], values, side="right")
    np.testing.assert_allclose(
        np.bincount(bins, minlength=len(histogram["proportions"])) / len(values), histogram["proportions"]
    )


def test_different_values_fall_into_ten_equal_bins():
    assert np.allclose(reference_histogram(np.arange(1000.0))["proportions"], 0.1)


def test_the_reference_has_every_feature_and_the_score():
    made = reference(("Time", "Amount"), np.random.default_rng(0).normal(size=(50, 2)), np.linspace(0, 1, 20))
    assert list(made["features"]) == ["Time", "Amount"]
    assert made["samples"] == 50
    assert len(made["score"]["edges"]) == 9


def test_missing_values_have_a_bin_of_their_own_and_do_not_move_the_others():
    known = np.arange(100, dtype=np.float32)
    some_missing = np.concatenate([known, np.full(25, np.nan, np.float32)])
    histogram = reference_histogram(some_missing, optional=True)
    assert histogram["edges"][:-1] == reference_histogram(known)["edges"]
    np.testing.assert_allclose(histogram["proportions"], [0.08] * 10 + [0.2])
    bins = np.searchsorted(histogram["edges"], some_missing, side="right")
    assert (np.bincount(bins)[-1], bins[100]) == (25, 10)


def test_a_feature_that_every_row_misses_has_one_bin_and_statistics_all_the_same():
    nothing = np.full((10, 1), np.nan, np.float32)
    assert reference_histogram(nothing[:, 0], optional=True)["proportions"] == [0.0, 1.0]
    found = statistics(nothing, np.arange(10) == 0, bins=2)
    assert all(np.isfinite(values).all() for values in found.values())


def test_missing_values_change_neither_mean_nor_scale_and_are_no_edges():
    rows, labels = np.random.default_rng(0).normal(7, 3, size=(500, 1)), np.arange(500) % 10 == 0
    with_missing = np.concatenate([rows, np.full((50, 1), np.nan)])
    found, expected = (statistics(some, np.resize(labels, len(some)), bins=4) for some in (with_missing, rows))
    for name in ("mean", "scale"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)
    assert set(found["edges"][0]) <= set(rows[:, 0].astype(np.float32))
