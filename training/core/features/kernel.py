"""The compiled loop that computes velocity features, offline over years and online over a batch.

It handles events and labels in the order of their arrival, entity by entity, and keeps each entity's recent events
sorted by event time, so that a window is a contiguous range. docs/features.md defines the features.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

# The codes of the first two columns of `specs`.
AGGREGATES = ("count", "share", "mean", "median", "min", "max", "since_first", "since_last")
OF = ("events", "frauds", "streak", "amounts")
COUNT, SHARE, MEAN, MEDIAN, MIN, MAX, SINCE_FIRST, SINCE_LAST = range(len(AGGREGATES))
EVENTS, FRAUDS, STREAK, AMOUNTS = range(len(OF))

UNKNOWN, LEGITIMATE, FRAUD = -1, 0, 1
# The `label` of an operation that is an event and not a label.
EVENT = -2


class Operations(NamedTuple):
    """The events and labels to replay.

    Entity `e` has the operations `first[e]` to `first[e + 1]`, in the order of their arrival. `label` is EVENT, or the
    label that arrived for `key`. `row` is the row of `features` to fill. All arrays are int64, except `label` (int8).
    """

    first: np.ndarray
    key: np.ndarray
    time: np.ndarray
    amount: np.ndarray
    label: np.ndarray
    row: np.ndarray


class Histories(NamedTuple):
    """The histories of `m` entities. That of entity `e` has `kept[e]` events and begins at `first[e]`, with room for
    the events that are added. All arrays are int64, except `label` (int8)."""

    first: np.ndarray
    kept: np.ndarray
    key: np.ndarray
    time: np.ndarray
    amount: np.ndarray
    label: np.ndarray


class Declared(NamedTuple):
    """The features of an entity: `specs` [f, 8] int64, the values `empty` [f] float64 of features without events, and
    the columns [f] int64 of `features` that they fill. A history keeps `limit` events and those within `horizon_us`."""

    specs: np.ndarray
    empty: np.ndarray
    columns: np.ndarray
    limit: int
    horizon_us: int
    minor_units: int


@njit(nogil=True)
def replay(operations: Operations, histories: Histories, declared: Declared, features: np.ndarray) -> None:
    """Replay operations on the histories of their entities; fills `features`, float64, and updates `histories`."""
    first_operation, key, time, amount, label, row = operations
    first_kept, kept, kept_key, kept_time, kept_amount, kept_label = histories
    columns, limit, horizon_us = declared.columns, declared.limit, declared.horizon_us
    room = 2 * limit + 2
    keys, times = np.empty(room, np.int64), np.empty(room, np.int64)
    amounts, labels = np.empty(room, np.int64), np.empty(room, np.int8)
    # Prefix sums, so that a sum over a window is one subtraction.
    amount_before, fraud_before = np.zeros(room + 1, np.int64), np.zeros(room + 1, np.int64)
    chosen = np.empty(limit + 1, np.int64)
    for entity in range(len(kept)):
        start, stop = 0, kept[entity]
        here = first_kept[entity]
        keys[:stop], times[:stop] = kept_key[here : here + stop], kept_time[here : here + stop]
        amounts[:stop], labels[:stop] = kept_amount[here : here + stop], kept_label[here : here + stop]
        _sum_up(amounts, labels, amount_before, fraud_before, 0, stop)
        for operation in range(first_operation[entity], first_operation[entity + 1]):
            current = stop - 1
            while current >= start and keys[current] != key[operation]:
                current -= 1
            if label[operation] != EVENT:
                if current >= start:
                    changes = (labels[current] == FRAUD) != (label[operation] == FRAUD)
                    labels[current] = label[operation]
                    if changes:
                        _sum_up(amounts, labels, amount_before, fraud_before, current, stop)
                continue
            if current < start:  # otherwise the key is known: a repetition, which is not added again
                if stop == room:
                    stop -= start
                    for values in (keys, times, amounts):
                        values[:stop] = values[start : start + stop].copy()
                    labels[:stop] = labels[start : start + stop].copy()
                    start = 0
                    _sum_up(amounts, labels, amount_before, fraud_before, 0, stop)
                current = stop
                while current > start and times[current - 1] > time[operation]:
                    keys[current], times[current] = keys[current - 1], times[current - 1]
                    amounts[current], labels[current] = amounts[current - 1], labels[current - 1]
                    current -= 1
                keys[current], times[current] = key[operation], time[operation]
                amounts[current], labels[current] = amount[operation], UNKNOWN
                stop += 1
                _sum_up(amounts, labels, amount_before, fraud_before, current, stop)
            for feature in range(len(columns)):
                features[row[operation], columns[feature]] = _aggregate(
                    times, amounts, labels, amount_before, fraud_before, start, stop, current, declared, feature, chosen
                )
            while stop - start > limit or times[start] <= times[stop - 1] - horizon_us:
                start += 1
        kept[entity] = stop - start
        end = here + stop - start
        kept_key[here:end], kept_time[here:end] = keys[start:stop], times[start:stop]
        kept_amount[here:end], kept_label[here:end] = amounts[start:stop], labels[start:stop]


@njit(nogil=True)
def _sum_up(
    amounts: np.ndarray,
    labels: np.ndarray,
    amount_before: np.ndarray,
    fraud_before: np.ndarray,
    changed: int,
    stop: int,
) -> None:
    """Update the prefix sums from the index of the first change on."""
    for index in range(changed, stop):
        amount_before[index + 1] = amount_before[index] + amounts[index]
        fraud_before[index + 1] = fraud_before[index] + (labels[index] == FRAUD)


@njit(nogil=True)
def _twice_median(values: np.ndarray) -> int:
    """Twice the median of values [n] int64, n > 0, so that it is exact for even n. Reorders the values.

    Quickselect: unlike a sort, it orders only the side on which the middle is.
    """
    middle = len(values) // 2
    low, high = 0, len(values) - 1
    while low < high:
        pivot = values[(low + high) // 2]
        left, right = low, high
        while left <= right:
            while values[left] < pivot:
                left += 1
            while values[right] > pivot:
                right -= 1
            if left <= right:
                values[left], values[right] = values[right], values[left]
                left, right = left + 1, right - 1
        if middle <= right:
            high = right
        elif middle >= left:
            low = left
        else:
            break
    if len(values) % 2:
        return 2 * values[middle]
    return values[middle] + values[:middle].max()


@njit(nogil=True)
def _aggregate(
    times: np.ndarray,
    amounts: np.ndarray,
    labels: np.ndarray,
    amount_before: np.ndarray,
    fraud_before: np.ndarray,
    start: int,
    stop: int,
    current: int,
    declared: Declared,
    feature: int,
    chosen: np.ndarray,
) -> float:
    """One feature of the event at `current`. Sums are over integers, with one division at the end, so that they do
    not depend on the order of summation."""
    specs, empty = declared.specs, declared.empty[feature]
    aggregate, of, window_us, delay_us = specs[feature, 0], specs[feature, 1], specs[feature, 2], specs[feature, 3]
    last, with_current, labelled, relative = specs[feature, 4], specs[feature, 5], specs[feature, 6], specs[feature, 7]
    latest = times[current] - delay_us
    low = start + np.searchsorted(times[start:stop], latest - window_us, "right")
    high = low + np.searchsorted(times[low:stop], latest, "right")
    left_out = current if low <= current < high and not with_current else -1
    if last == 0 and not labelled and aggregate in (COUNT, SHARE, MEAN):
        count = high - low - (left_out >= 0)
        frauds = fraud_before[high] - fraud_before[low]
        total = amount_before[high] - amount_before[low]
        if left_out >= 0:
            frauds -= labels[left_out] == FRAUD
            total -= amounts[left_out]
        smallest = largest = first = final = -1  # not asked for
    else:
        count, frauds, total, smallest, largest, first, final = _walk(
            amounts, labels, low, high, left_out, aggregate, of, last, labelled, chosen
        )
    if aggregate == COUNT:
        return float(frauds if of == FRAUDS else count)
    if aggregate in (SINCE_FIRST, SINCE_LAST):
        index = first if aggregate == SINCE_FIRST else final
        return empty if index < 0 else (times[current] - times[index]) / 1_000_000
    if count == 0:
        return empty
    if aggregate == SHARE:
        return frauds / count
    # A statistic of amounts, as the fraction numerator / denominator of minor units.
    numerator, denominator = largest, 1
    if aggregate == MIN:
        numerator = smallest
    elif aggregate == MEAN:
        numerator, denominator = total, count
    elif aggregate == MEDIAN:
        numerator, denominator = _twice_median(chosen[:count]), 2
    if relative:
        return empty if numerator == 0 else amounts[current] * denominator / numerator
    return numerator / (denominator * declared.minor_units)


@njit(nogil=True, inline="always")
def _walk(
    amounts: np.ndarray,
    labels: np.ndarray,
    low: int,
    high: int,
    left_out: int,
    aggregate: int,
    of: int,
    last: int,
    labelled: int,
    chosen: np.ndarray,
) -> tuple[int, int, int, int, int, int, int]:
    """Select the events of an aggregate among [low, high), and put their amounts into `chosen`.

    Returns their count, frauds, sum of amounts, smallest and largest amount, and the indices, or -1, of the first and
    the last one whose time the aggregate is about.
    """
    count = frauds = total = largest = 0
    smallest = np.iinfo(np.int64).max
    first = final = -1
    for index in range(high - 1, low - 1, -1):  # latest first, as `last` and streaks need
        if index == left_out or (labelled and labels[index] == UNKNOWN):
            continue
        if of == STREAK and labels[index] == LEGITIMATE:
            break
        fraud = labels[index] == FRAUD
        total += amounts[index]
        smallest, largest = min(smallest, amounts[index]), max(largest, amounts[index])
        chosen[count] = amounts[index]
        count += 1
        frauds += fraud
        if fraud or of == EVENTS:
            first = index
            final = max(final, index)
        if count == last or (aggregate == SINCE_LAST and final >= 0):
            break
    return count, frauds, total, smallest, largest, first, final
