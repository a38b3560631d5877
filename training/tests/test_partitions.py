"""Features of more rows than fit in memory: replayed in partitions that wait on the disk."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from training.core.features import partitions
from training.core.features.replay import Events, Labels, arrivals_by_time, replay, warm
from training.core.schema import load_schema
from training.core.schema.kinds.categories import code_of
from training.tests.test_features import EVERYTHING

DAY_US = 86_400_000_000
HANDBOOK = load_schema("handbook")


def of_handbook(n=4_000, customers=30, terminals=40):
    """Events and labels as frames, and the features that one replay of all of them computes, [n, f]."""
    random = np.random.default_rng(0)
    times = 1_522_540_800_000_000 + np.sort(random.integers(0, 60 * DAY_US, n))
    sequence, label_sequence = arrivals_by_time(times, HANDBOOK.label_delay_days)
    tokens = {
        "customer": random.integers(0, customers, n).astype(str),
        "terminal": random.integers(0, terminals, n).astype(str),
    }
    fraud = (random.random(n) < 0.1).astype(np.int8)
    events = Events(np.arange(n), times, random.integers(0, 50_000, n), sequence, tokens)
    return frames(HANDBOOK, events, Labels(np.arange(n), fraud, label_sequence, tokens))


def of_everything(n=1_000):
    """The same of all kinds of features, with missing values and entities."""
    random = np.random.default_rng(0)
    times = 1_522_540_800_000_000 + np.sort(random.integers(0, 20 * DAY_US, n))
    sequence, label_sequence = arrivals_by_time(times, 1.0)
    shops = {"card": random.choice(["a", "b", "c"], n), "shop": random.choice(["x", "y", "", ""], n)}
    shops["device"] = random.integers(-1, 3, n)
    values = [random.choice([1.0, 2.0, np.nan], n) for _ in EVERYTHING.features]
    values[-1] = random.choice([code_of("Europe/Berlin"), code_of("Asia/Kolkata"), np.nan], n)
    events = Events(np.arange(n), times, random.integers(0, 9, n), sequence, shops, np.column_stack(values))
    labels = Labels(np.arange(n), (random.random(n) < 0.3).astype(np.int8), label_sequence, shops)
    return frames(EVERYTHING, events, labels)


def frames(schema, events, labels):
    expected = replay(schema, events, labels).features
    numbers = {name: getattr(events, name) for name in ("key", "event_time", "amount_minor", "sequence")}
    given = {} if events.given is None else dict(zip(schema.feature_names, events.given.T, strict=True))
    of_labels = {"key": labels.key, "fraud": labels.fraud, "sequence": labels.sequence}
    return pd.DataFrame(numbers | dict(events.tokens) | given), pd.DataFrame(of_labels | dict(labels.tokens)), expected


def same_bits(schema, made, expected):
    found = made[list(schema.derived_names)].to_numpy()
    np.testing.assert_array_equal(found.view(np.int64), expected.view(np.int64))


def stored(directory, events, labels, files=3):
    """The rows in the order of their arrival, in several files each. Returns their paths."""
    paths = {}
    for name, frame in (("events", events), ("labels", labels)):
        (directory / name).mkdir()
        paths[name] = [directory / name / f"{number}.parquet" for number in range(files)]
        bounds = np.linspace(0, len(frame), files + 1).astype(int)
        ordered = frame.sort_values("sequence")
        for path, start, end in zip(paths[name], bounds[:-1], bounds[1:], strict=True):
            ordered[start:end].to_parquet(path)
    return paths["events"], paths["labels"]


@pytest.mark.parametrize("arrivals", [300, 1_000_000])
@pytest.mark.parametrize(
    ("schema", "rows"), [(HANDBOOK, lambda: of_handbook(1_000)), (EVERYTHING, of_everything)], ids=["handbook", "all"]
)
def test_features_are_the_same_to_the_bit_in_partitions_of_any_size(schema, rows, arrivals, tmp_path):
    events, labels, expected = rows()
    of_events, of_labels = stored(tmp_path, events, labels)
    count = partitions.features(schema, of_events, of_labels, tmp_path / "made.parquet", arrivals=arrivals)
    made = pd.read_parquet(tmp_path / "made.parquet")
    assert count == len(made) == len(events)
    assert (made["sequence"] == np.sort(events["sequence"])).all()
    same_bits(schema, made, expected[np.argsort(events["sequence"])])
    assert {path.name for path in tmp_path.iterdir()} == {"events", "labels", "made.parquet"}


def test_its_memory_does_not_grow_with_the_number_of_rows(tmp_path):
    warm(HANDBOOK)
    peaks = []
    for n in (2_000, 8_000):
        directory = tmp_path / str(n)
        directory.mkdir()
        events, labels, _ = of_handbook(n, customers=n // 10, terminals=n // 10)
        of_events, of_labels = stored(directory, events, labels)
        tracemalloc.start()
        partitions.features(HANDBOOK, of_events, of_labels, directory / "made.parquet", arrivals=2_500)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_rows_that_are_not_in_the_order_of_arrival_are_refused_with_their_file(tmp_path):
    events, labels, _ = of_handbook(100)
    of_events, of_labels = stored(tmp_path, events, labels)
    with pytest.raises(
        ValueError, match=r"1.parquet: its rows, or the files, are not in the order of `sequence`: sort"
    ):
        partitions.features(HANDBOOK, of_events[::-1], of_labels, tmp_path / "made.parquet")
    assert not (tmp_path / "made.parquet").exists()
