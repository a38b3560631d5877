"""The same features on Dask, in its local mode."""

import numpy as np
import pandas as pd
import pytest

from training.core.features.replay import Events, Labels, arrivals_by_time, replay
from training.core.schema import load_schema
from training.core.schema.kinds.categories import code_of
from training.tests.test_features import EVERYTHING

dd = pytest.importorskip("dask.dataframe", reason="an optional extra")
DAY_US = 86_400_000_000


def test_it_equals_one_machine_bit_for_bit_however_the_rows_are_partitioned():
    from training.core.features.distributed import features

    schema = load_schema("handbook")
    random = np.random.default_rng(0)
    n = 4_000
    times = 1_522_540_800_000_000 + np.sort(random.integers(0, 60 * DAY_US, n))
    sequence, label_sequence = arrivals_by_time(times, schema.label_delay_days)
    tokens = {"customer": random.integers(0, 30, n).astype(str), "terminal": random.integers(0, 40, n).astype(str)}
    fraud = (random.random(n) < 0.1).astype(np.int8)
    events = Events(np.arange(n), times, random.integers(0, 50_000, n), sequence, tokens)
    labels = Labels(np.arange(n), fraud, label_sequence, tokens)
    expected = replay(schema, events, labels).features

    numbers = {name: getattr(events, name) for name in ("key", "event_time", "amount_minor", "sequence")}
    of_events = pd.DataFrame(numbers | tokens)
    of_labels = pd.DataFrame({"key": labels.key, "fraud": fraud, "sequence": label_sequence}).assign(**tokens)
    made = features(
        schema,
        dd.from_pandas(of_events.sample(frac=1, random_state=1), npartitions=5, sort=False),
        dd.from_pandas(of_labels, npartitions=3, sort=False),
    )
    made = made.compute(scheduler="sync").sort_values("sequence")
    found = made[[feature.name for feature in schema.derived]].to_numpy()
    np.testing.assert_array_equal(found.view(np.int64), expected.view(np.int64))


def test_values_of_the_request_and_missing_entities_are_the_same_on_one_machine():
    from training.core.features.distributed import features

    random = np.random.default_rng(0)
    n = 1_000
    times = 1_522_540_800_000_000 + np.sort(random.integers(0, 20 * DAY_US, n))
    sequence, label_sequence = arrivals_by_time(times, 1.0)
    shops = {"card": random.choice(["a", "b", "c"], n), "shop": random.choice(["x", "y", "", ""], n)}
    shops["device"] = random.integers(-1, 3, n)
    values = [random.choice([1.0, 2.0, np.nan], n) for _ in EVERYTHING.features]
    values[-1] = random.choice([code_of("Europe/Berlin"), code_of("Asia/Kolkata"), np.nan], n)
    events = Events(np.arange(n), times, random.integers(0, 9, n), sequence, shops, np.column_stack(values))
    labels = Labels(np.arange(n), (random.random(n) < 0.3).astype(np.int8), label_sequence, shops)
    expected = replay(EVERYTHING, events, labels).features

    numbers = {name: getattr(events, name) for name in ("key", "event_time", "amount_minor", "sequence")}
    given = dict(zip(EVERYTHING.feature_names, values, strict=True))
    of_labels = pd.DataFrame({"key": labels.key, "fraud": labels.fraud, "sequence": label_sequence}).assign(**shops)
    made = features(
        EVERYTHING,
        dd.from_pandas(pd.DataFrame(numbers | shops | given), npartitions=5, sort=False),
        dd.from_pandas(of_labels, npartitions=3, sort=False),
    )
    made = made.compute(scheduler="sync").sort_values("sequence")
    found = made[[feature.name for feature in EVERYTHING.derived]].to_numpy()
    np.testing.assert_array_equal(found.view(np.int64), expected.view(np.int64))
