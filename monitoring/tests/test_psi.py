"""The population stability index: its properties, and that it distinguishes drift from chance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.drift.psi import PopulationStabilityIndex
from training.core.families.preprocessing import reference_histogram

values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300).map(np.array)


def psi_of(reference):
    return PopulationStabilityIndex(**reference_histogram(reference))


def normal(count, *, mean=0.0, scale=1.0, seed=0):
    return np.random.default_rng(seed).normal(mean, scale, count)


@given(values)
def test_the_reference_itself_has_not_drifted(reference):
    # Also where values are so frequent that bins fall together: both sides must agree on which bin an edge is in.
    assert psi_of(reference).measure(reference) == 0


@given(values, st.integers(2, 5))
def test_equal_shares_are_no_drift_however_many_values_there_are(reference, times):
    assert psi_of(reference).measure(np.tile(reference, times)) == pytest.approx(0, abs=1e-12)


@given(values, values)
def test_it_is_never_negative(reference, recent):
    assert psi_of(reference).measure(recent) >= 0


@given(values, values)
def test_the_order_of_the_values_does_not_matter(reference, recent):
    psi = psi_of(reference)
    assert psi.measure(recent) == psi.measure(np.sort(recent))


# Rounded, as doubling is not exact for the smallest numbers that there are.
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=100).map(lambda drawn: np.round(drawn, 6)), st.floats(0.01, 100)
)
def test_the_unit_of_a_feature_does_not_matter(reference, recent_share):
    recent = reference[: max(1, int(len(reference) * recent_share / 100))]
    assert psi_of(reference * 2.0).measure(recent * 2.0) == psi_of(reference).measure(recent)


@pytest.mark.parametrize("seed", range(5))
def test_it_grows_with_the_distance(seed):
    psi = psi_of(normal(20_000))
    distances = [psi.measure(normal(5_000, mean=mean, seed=seed + 1)) for mean in (0.0, 0.25, 0.5, 1.0, 2.0)]
    assert distances == sorted(distances)


@pytest.mark.parametrize("seed", range(1, 11))
def test_it_takes_a_shift_for_drift_and_a_resample_not(seed):
    psi = psi_of(normal(20_000))
    assert psi.measure(normal(500, seed=seed)) < psi.MODERATE
    assert psi.measure(normal(500, mean=1.0, seed=seed)) > psi.STRONG
    assert psi.measure(normal(500, scale=3.0, seed=seed)) > psi.STRONG


@pytest.mark.parametrize("values", [[1e9] * 500, [-1e9] * 500])
def test_it_stays_finite_where_all_values_are_elsewhere(values):
    psi = psi_of(normal(20_000))
    assert psi.STRONG < psi.measure(np.array(values)) < 100


def test_a_value_on_an_edge_belongs_to_the_bin_above_it():
    # The reference was counted so, and amounts and hours fall on edges all the time.
    psi = PopulationStabilityIndex(edges=[10.0, 20.0], proportions=[0.0, 0.5, 0.5])
    assert psi.measure(np.array([10.0, 20.0])) == 0
    assert psi.measure(np.array([9.0, 20.0])) > psi.STRONG


def test_drift_is_moderate_from_a_tenth_and_strong_from_a_quarter():
    assert (PopulationStabilityIndex.MODERATE, PopulationStabilityIndex.STRONG) == (0.1, 0.25)
