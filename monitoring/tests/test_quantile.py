"""Properties of quantiles from a histogram, for any latencies."""

from itertools import pairwise
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.rollups.histograms import LATENCY_EDGES_MS, quantile_ms

EDGES = (0.0, *LATENCY_EDGES_MS)
BINS = len(LATENCY_EDGES_MS) + 1

histograms = st.lists(st.integers(0, 10_000), min_size=BINS, max_size=BINS).filter(any)
shares = st.floats(0.001, 1)


def histogram_of(latencies_ms):
    return np.bincount(np.searchsorted(LATENCY_EDGES_MS, latencies_ms, side="right"), minlength=BINS).tolist()


def quantile(histogram, q):
    value = quantile_ms(histogram, q)
    assert value is not None
    return value


@given(histograms, shares, shares)
def test_it_rises_with_the_share(histogram, first, second):
    low, high = sorted((first, second))
    assert quantile(histogram, low) <= quantile(histogram, high)


@given(st.lists(st.floats(0, 10_000), min_size=1, max_size=200), shares)
def test_it_lies_in_the_bin_of_the_true_quantile(latencies_ms, q):
    true = sorted(latencies_ms)[ceil(q * len(latencies_ms)) - 1]
    bin_ = int(np.searchsorted(LATENCY_EDGES_MS, true, side="right"))
    upper = LATENCY_EDGES_MS[min(bin_, BINS - 2)]
    assert EDGES[bin_] <= quantile(histogram_of(latencies_ms), q) <= upper


@given(st.integers(0, BINS - 2), st.integers(1, 1000), shares)
def test_it_is_exact_where_a_bin_is_filled_evenly(bin_, count, q):
    histogram = [0] * BINS
    histogram[bin_] = count
    low, high = EDGES[bin_], EDGES[bin_ + 1]
    assert quantile(histogram, q) == pytest.approx(low + q * (high - low))


@given(st.integers(1, 50), shares)
def test_it_is_exact_where_all_latencies_are_equally_likely(density, q):
    # As many latencies in each bin as it is wide; what is slower than the last edge does not occur.
    histogram = [int(2 * density * (high - low)) for low, high in pairwise(EDGES)] + [0]
    assert quantile(histogram, q) == pytest.approx(q * EDGES[-1])


@given(histograms, shares, st.integers(2, 50))
def test_more_of_the_same_traffic_does_not_change_it(histogram, q, times):
    assert quantile([count * times for count in histogram], q) == pytest.approx(quantile(histogram, q))


def test_what_is_slower_than_the_last_edge_is_given_as_that_edge():
    assert quantile([0] * (BINS - 1) + [10], 0.5) == LATENCY_EDGES_MS[-1]


def test_there_is_none_of_no_traffic():
    assert quantile_ms([0] * BINS, 0.95) is None
