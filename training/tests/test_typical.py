"""What is usual of an input, measured on training rows and told in words."""

import math

import numpy as np
import pytest

from training.core.features import typical
from training.core.features.declaration import Calendar, Velocity
from training.core.features.typical import QUANTILES, Typical, in_words
from training.core.schema import Field

SPEED = Velocity("speed", "card", "count", "events", 1.0, "km/h", "Speed.")
PAUSE = Velocity("pause", "card", "count", "events", 1.0, "s", "Pause.")
CATEGORY = Field("category", "Merchant category.", kind="category")
NIGHT = Calendar("is_night", "hour", "From midnight to 6:59.", 0, 6)


SPEEDS = Typical(quantiles=[0, 0, 1, 5, 20, 60, 90])
PAUSES = Typical(quantiles=[60, 7200, 1e5, 2e5, 3e5, 4e5, 5e5])


@pytest.mark.parametrize(
    ("declared", "value", "usual", "text"),
    [
        (
            SPEED,
            212.4,
            SPEEDS,
            "Speed: 212 km/h; 99 % are at most 90 km/h",
        ),
        (
            SPEED,
            70.0,
            SPEEDS,
            "Speed: 70 km/h; 95 % are at most 60 km/h",
        ),
        (
            SPEED,
            5.0,
            SPEEDS,
            "Speed: 5 km/h; half are between 1 km/h and 20 km/h",
        ),
        (
            PAUSE,
            45.0,
            PAUSES,
            "Pause: 45 s; 99 % are at least 60 s",
        ),
        (
            PAUSE,
            300.0,
            PAUSES,
            "Pause: 5 min; 95 % are at least 2 h",
        ),
        (PAUSE, math.nan, Typical(missing=0.031), "Pause: missing, as in 3 % of transactions"),
        (CATEGORY, "travel", Typical(shares={"travel": 0.041}), "Merchant category: travel, as in 4 % of transactions"),
        (CATEGORY, None, Typical(), "Merchant category: a value that is rare or new"),
        (NIGHT, 1.0, Typical(mean=0.12), "From midnight to 6:59: yes, as in 12 % of transactions"),
    ],
)
def test_a_value_is_told_beside_what_is_usual(declared, value, usual, text):
    assert in_words(declared, value, usual) == text


def test_every_quantile_share_and_missing_value_is_measured(shop):
    rows = np.full((100, len(shop.input_names)), np.nan)
    rows[:, shop.input_names.index("amount")] = np.arange(1, 101)
    rows[:90, shop.input_names.index("category")] = [1.0] * 60 + [2.0] * 20 + [0.0] * 10
    vocabularies = {
        declared.name: ["food", "toys", "cars"] for declared in shop.inputs if typical.is_category(declared)
    }
    found = typical.measure(shop, rows, vocabularies)
    assert found["amount"].quantiles == pytest.approx(np.quantile(np.arange(1, 101), QUANTILES))
    assert found["category"].missing == pytest.approx(0.1)
    assert found["category"].shares == {"food": 0.6, "toys": 0.2}
    assert found["items"] == Typical(missing=1.0)
