"""The compiled loop that computes velocity features, offline over years and online over a batch.

It handles events and labels in the order of their arrival, entity by entity, and keeps each entity's recent events
sorted by event time, so that a window is a contiguous range. `aggregates` computes the features of a window, and
docs/features.md defines them.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from training.core.features.aggregates import (
    AMOUNT,
    AMOUNT_BEFORE,
    FIRST_VALUE,
    FRAUD,
    FRAUD_BEFORE,
    KEY,
    LABEL,
    MISSING,
    SAME,
    TIME,
    UNKNOWN,
    Declared,
    Scratch,
    aggregate,
    new_scratch,
)

# The `label` of an operation that is an event and not a label.
EVENT = -2


class Operations(NamedTuple):
    """The events and labels to replay.

    Entity `e` has the operations `first[e]` to `first[e + 1]`, in the order of their arrival. `label` is EVENT, or the
    label that arrived for `key`. `row` is the row of `features` to fill. `values` [n, k] int32 are what the history
    keeps of the requests. All other arrays are int64, except `label` (int8).
    """

    first: np.ndarray
    key: np.ndarray
    time: np.ndarray
    amount: np.ndarray
    label: np.ndarray
    values: np.ndarray
    row: np.ndarray


class Histories(NamedTuple):
    """The histories of `m` entities. That of entity `e` has `kept[e]` events and begins at `first[e]`, with room for
    the events that are added. `values` are [n, k] int32, all other arrays int64, except `label` (int8)."""

    first: np.ndarray
    kept: np.ndarray
    key: np.ndarray
    time: np.ndarray
    amount: np.ndarray
    label: np.ndarray
    values: np.ndarray


@njit(nogil=True)
def replay(operations: Operations, histories: Histories, declared: Declared, features: np.ndarray) -> None:
    """Replay operations on the histories of their entities; fills `features`, float64, and updates `histories`."""
    limit, horizon_us = declared.limit, declared.horizon_us
    rows = FIRST_VALUE + operations.values.shape[1]
    most = 2 * limit + 2
    room, scratch = np.empty((rows, most + 1), np.int64), new_scratch(limit + 1)
    # The events with the same value, for features that want only these.
    alike = np.empty((rows, limit + 2 if declared.specs[-1, SAME] >= 0 else 0), np.int64)
    keys, times, labels = room[KEY], room[TIME], room[LABEL]
    for entity in range(len(histories.kept)):
        start, stop = 0, histories.kept[entity]
        _load(histories, histories.first[entity], stop, room)
        _sum_up(room, 0, stop)
        for operation in range(operations.first[entity], operations.first[entity + 1]):
            key, label = operations.key[operation], operations.label[operation]
            current = stop - 1
            while current >= start and keys[current] != key:
                current -= 1
            if label != EVENT:
                if current >= start:
                    changes = (labels[current] == FRAUD) != (label == FRAUD)
                    labels[current] = label
                    if changes:
                        _sum_up(room, current, stop)
                continue
            if current < start:  # otherwise the key is known: a repetition, which is not added again
                if stop == most:
                    for index in range(start, stop):
                        _copy_event(room, index, room, index - start)
                    start, stop = 0, stop - start
                    _sum_up(room, 0, stop)
                current = _insert(room, start, stop, operations, operation)
                stop += 1
                _sum_up(room, current, stop)
            _compute(room, start, stop, current, declared, alike, scratch, features, operations.row[operation])
            while stop - start > limit or times[start] <= times[stop - 1] - horizon_us:
                start += 1
        histories.kept[entity] = stop - start
        _store(histories, histories.first[entity], room, start, stop)


@njit(nogil=True)
def _compute(
    room: np.ndarray,
    start: int,
    stop: int,
    current: int,
    declared: Declared,
    alike: np.ndarray,
    scratch: Scratch,
    features: np.ndarray,
    row: int,
) -> None:
    """Fill one row of features, those of the event at `current`."""
    chosen_by, size, place = -1, 0, 0
    for feature in range(len(declared.columns)):
        same, column = declared.specs[feature, SAME], declared.columns[feature]
        if same < 0:
            features[row, column] = aggregate(room, start, stop, current, declared, feature, scratch)
            continue
        if same != chosen_by:  # features are in the order of `same`
            size, place = _choose_alike(room, start, stop, current, same, alike)
            chosen_by = same
        features[row, column] = aggregate(alike, 0, size, place, declared, feature, scratch)


@njit(nogil=True)
def _choose_alike(
    room: np.ndarray, start: int, stop: int, current: int, same: int, alike: np.ndarray
) -> tuple[int, int]:
    """Copy the events whose value in the row `same` is that of the event at `current` to `alike`. Returns their number,
    and the place of that event. If it has no value the number is 0, and the event itself is at place 0 behind them."""
    values = room[same]
    wanted = values[current]
    if wanted == MISSING:
        _copy_event(room, current, alike, 0)
        return 0, 0
    size = place = 0
    for index in range(start, stop):
        if values[index] == wanted:
            if index == current:
                place = size
            _copy_event(room, index, alike, size)
            size += 1
    _sum_up(alike, 0, size)
    return size, place


@njit(nogil=True)
def _insert(room: np.ndarray, start: int, stop: int, operations: Operations, operation: int) -> int:
    """Insert the event of an operation by its time, after those of the same time. Returns its place."""
    time = operations.time[operation]
    place = stop
    while place > start and room[TIME, place - 1] > time:
        _copy_event(room, place - 1, room, place)
        place -= 1
    room[KEY, place], room[TIME, place] = operations.key[operation], time
    room[AMOUNT, place], room[LABEL, place] = operations.amount[operation], UNKNOWN
    for column in range(operations.values.shape[1]):
        room[FIRST_VALUE + column, place] = operations.values[operation, column]
    return place


@njit(nogil=True)
def _copy_event(source: np.ndarray, index: int, target: np.ndarray, place: int) -> None:
    for row in range(len(source)):
        target[row, place] = source[row, index]


@njit(nogil=True)
def _sum_up(room: np.ndarray, changed: int, stop: int) -> None:
    """Update the prefix sums from the index of the first change on. They begin with 0."""
    if changed == 0:
        room[AMOUNT_BEFORE, 0] = room[FRAUD_BEFORE, 0] = 0
    for index in range(changed, stop):
        room[AMOUNT_BEFORE, index + 1] = room[AMOUNT_BEFORE, index] + room[AMOUNT, index]
        room[FRAUD_BEFORE, index + 1] = room[FRAUD_BEFORE, index] + (room[LABEL, index] == FRAUD)


@njit(nogil=True)
def _load(histories: Histories, first: int, kept: int, room: np.ndarray) -> None:
    for place in range(kept):
        index = first + place
        room[KEY, place], room[TIME, place] = histories.key[index], histories.time[index]
        room[AMOUNT, place], room[LABEL, place] = histories.amount[index], histories.label[index]
        for column in range(histories.values.shape[1]):
            room[FIRST_VALUE + column, place] = histories.values[index, column]


@njit(nogil=True)
def _store(histories: Histories, first: int, room: np.ndarray, start: int, stop: int) -> None:
    for place in range(start, stop):
        index = first + place - start
        histories.key[index], histories.time[index] = room[KEY, place], room[TIME, place]
        histories.amount[index], histories.label[index] = room[AMOUNT, place], room[LABEL, place]
        for column in range(histories.values.shape[1]):
            histories.values[index, column] = room[FIRST_VALUE + column, place]
