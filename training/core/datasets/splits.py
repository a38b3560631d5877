"""Splits the rows of a dataset into training, validation and test rows."""

import math
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from training.core.configuration.sections import SplitSettings
from training.core.datasets.storage import Dataset, Timeline
from training.core.exceptions import ConfigurationError, DatasetError

SEED_SYSTEM_RANDOM_STATE = 42


@dataclass(frozen=True)
class Split:
    """Row numbers of the dataset, [n] int64 each. No row is in two of them."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split_rows(config: SplitSettings, dataset: Dataset) -> Split:
    """Split the rows of a dataset as the section `split` of a configuration says. A row of a snapshot comes as often as
    its weight says, so that every family and every metric counts it so.

    Raises:
        ConfigurationError: the protocol does not suit the schema.
        DatasetError: a part of the split has only frauds or only legitimate rows.
    """
    labels = dataset.labels
    match config.protocol:
        case "stratified":
            try:
                split = stratified(
                    dataset.features,
                    labels,
                    has_ids=dataset.schema.has_ids,
                    test=config.test,
                    validation=config.validation,
                    seed=config.seed,
                )
            except ValueError as error:
                raise DatasetError(f"The rows cannot be split: {error}") from error
        case "seed":
            split = seed_system(labels)
        case "time":
            split = _split_by_time(config, dataset)
    for name, part in vars(split).items():
        if not 0 < labels[part].sum() < len(part):
            raise DatasetError(f"The {name} rows need both fraud and legitimate transactions.")
    if dataset.weights is not None:
        times = times_of(dataset.weights, seed=config.seed)
        split = replace(split, **{name: np.repeat(part, times[part]) for name, part in vars(split).items()})
    return split


def times_of(weights: np.ndarray, *, seed: int) -> np.ndarray:
    """How often each row comes: its weight [n], rounded up with the probability of its fraction. [n] int64."""
    return np.floor(weights + np.random.default_rng(seed).random(len(weights))).astype(np.int64)


def _split_by_time(config: SplitSettings, dataset: Dataset) -> Split:
    """Split by days if rows have a day and a card; by shares of the rows if time is a feature."""
    schema, timeline = dataset.schema, dataset.timeline
    if timeline is None and config.test_start:
        raise ConfigurationError(
            f"split.test_start must be left out: {schema.name} has no days and cards, so the last rows are the test."
        )
    if timeline is None and schema.time in schema.input_names:
        return past_and_future(dataset.features[:, schema.input_names.index(schema.time)])
    if timeline is None:
        raise ConfigurationError(f"{schema.name} has no card, and its time is no feature: not for split.protocol time.")
    return by_time(
        timeline,
        dataset.labels,
        test_start=_test_start(config, timeline),
        delay_days=math.ceil(schema.label_delay_days),
        test_days=config.test_days,
        validation_days=config.validation_days,
        train_days=config.train_days,
        known_card_days=None if config.keep_known_cards else config.known_card_days,
    )


def _test_start(config: SplitSettings, timeline: Timeline) -> date:
    try:
        if config.test_start:
            return date.fromisoformat(config.test_start)
    except ValueError as error:
        raise ConfigurationError(f"split.test_start: {error}") from error
    if not config.test_days:
        raise ConfigurationError("Without split.test_start, split.test_days says how many of the last days are tested.")
    return date(1970, 1, 1) + timedelta(days=int(timeline.day.max()) + 1 - config.test_days)


def stratified(
    features: np.ndarray, labels: np.ndarray, *, has_ids: bool = False, test: float, validation: float, seed: int
) -> Split:
    """A random split that keeps the share of fraud. `validation` is a share of the rows that are not in the test.

    Of exact duplicates only the first is used, so that no test row is a copy of a training row. Rows with ids are
    different transactions even if they are equal, and all are used.
    """
    rows = (
        np.arange(len(labels)) if has_ids else np.flatnonzero(~pd.DataFrame(features).assign(label=labels).duplicated())
    )
    rest, tested = train_test_split(rows, test_size=test, random_state=seed, stratify=labels[rows])
    trained, validated = train_test_split(rest, test_size=validation, random_state=seed, stratify=labels[rest])
    return Split(trained, validated, tested)


def seed_system(labels: np.ndarray) -> Split:
    """The seed system's own split: plain random 80/20, then 80/20 again, duplicates and all."""
    rows = np.arange(len(labels))
    rest, tested = train_test_split(rows, test_size=0.2, random_state=SEED_SYSTEM_RANDOM_STATE)
    trained, validated = train_test_split(rest, test_size=0.2, random_state=SEED_SYSTEM_RANDOM_STATE)
    return Split(trained, validated, tested)


def past_and_future(times: np.ndarray, *, validation: float = 0.2, test: float = 0.2) -> Split:
    """Train on the past and test on the future: sorted by their time [n], the last share of rows is the test and the
    share before it the validation, each of all rows. Equal times keep their order."""
    order = np.argsort(times, kind="stable")
    first_test = int(len(order) * (1 - test))
    first_validation = int(len(order) * (1 - test - validation))
    return Split(order[:first_validation], order[first_validation:first_test], order[first_test:])


def by_time(
    timeline: Timeline,
    labels: np.ndarray,
    *,
    test_start: date,
    test_days: int,
    validation_days: int,
    train_days: int,
    delay_days: int,
    known_card_days: int | None,
) -> Split:
    """Train on the past and test on the future: training, validation and test days in this order, separated by the days
    in which labels are not known yet. With 0 `test_days`, the test goes on to the last day. Validation and test leave
    known cards out, see `rows_of_unknown_cards`, unless `known_card_days` is None."""
    test = (test_start - date(1970, 1, 1)).days
    test_days = test_days or max(1, int(timeline.day.max()) + 1 - test)
    validation = test - delay_days - validation_days
    train = validation - delay_days - train_days

    def later(first: int, days: int) -> np.ndarray:
        if known_card_days is None:
            return rows_of_days(timeline, first, days)
        return rows_of_unknown_cards(
            timeline, labels, first, days, delay_days=delay_days, known_card_days=known_card_days
        )

    return Split(rows_of_days(timeline, train, train_days), later(validation, validation_days), later(test, test_days))


def rows_of_days(timeline: Timeline, first: int, days: int) -> np.ndarray:
    """The rows of these days, in their order."""
    return np.flatnonzero((timeline.day >= first) & (timeline.day < first + days))


def rows_of_unknown_cards(
    timeline: Timeline, labels: np.ndarray, first: int, days: int, *, delay_days: int, known_card_days: int
) -> np.ndarray:
    """The rows of these days, each without the cards that have a known fraud by then, because those are blocked.

    As in `get_train_test_set` of "Reproducible Machine Learning for Credit Card Fraud Detection" (Le Borgne, Siblini,
    Lebichot and Bontempi, ULB, 2022): on day d, frauds of day d - delay_days - 1 and before are known, back to
    `known_card_days` before the first day's delay.
    """
    fraud = labels == 1
    oldest = first - delay_days - known_card_days
    kept = []
    for day in range(first, first + days):
        known = timeline.card[fraud & (timeline.day >= oldest) & (timeline.day < day - delay_days)]
        rows = np.flatnonzero(timeline.day == day)
        kept.append(rows[~np.isin(timeline.card[rows], known)])
    return np.concatenate(kept)
