"""The compiled aggregates of velocity features: the value of one feature, from the events of an entity.

docs/features.md defines them. Sums of amounts are over whole numbers, with one division at the end, so that they do not
depend on the order of summation. The squares of a standard deviation are floats, and are summed from the latest event
to the earliest.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from training.core.features.earth import great_circle_km
from training.core.schema.kinds.categories import LOWEST_CODE

# The rows of `room` [r, n] int64, which has the events of an entity, sorted by time. The sums of what is before an
# event make a sum over a window one subtraction. From FIRST_VALUE on it has what the history keeps of the requests.
KEY, TIME, AMOUNT, LABEL, AMOUNT_BEFORE, FRAUD_BEFORE, FIRST_VALUE = range(7)
# The columns of `Declared.specs`. `taken` is the row of `room` that the aggregate is about: the amounts, a value, or
# the latitude of a point with its `longitude`. `same` is the row of a value which has to be that of the event, or -1.
SPECS = (
    *("aggregate", "of", "window_us", "delay_us", "last", "current", "labelled", "relative"),
    *("taken", "longitude", "same"),
)
SAME = SPECS.index("same")
# The codes of the first two.
AGGREGATES = (
    *("count", "share", "mean", "median", "min", "max", "since_first", "since_last"),
    *("sum", "std", "zscore", "rank", "distinct", "distance", "speed"),
)
OF = ("events", "frauds", "streak", "amounts", "values", "points")
COUNT, SHARE, MEAN, MEDIAN, MIN, MAX, SINCE_FIRST, SINCE_LAST, *_MORE = range(len(AGGREGATES))
SUM, STD, ZSCORE, RANK, DISTINCT, DISTANCE, SPEED = _MORE
EVENTS, FRAUDS, STREAK, AMOUNTS, VALUES, POINTS = range(len(OF))

UNKNOWN, LEGITIMATE, FRAUD = -1, 0, 1
# A missing value. It equals nothing.
MISSING = LOWEST_CODE


MICRODEGREES = 1_000_000  # in a degree, of which a history keeps whole ones
US_PER_SECOND, US_PER_HOUR = 1_000_000, 3_600_000_000


class Declared(NamedTuple):
    """The features of an entity, in the order of `same`: `specs` [f, 11] int64, the values `empty` [f] float64 of
    features without events, the `smoothing` [f] float64 of shares, and the columns [f] int64 of `features` that they
    fill. A history keeps `limit` events and those within `horizon_us`."""

    specs: np.ndarray
    empty: np.ndarray
    smoothing: np.ndarray
    columns: np.ndarray
    limit: int
    horizon_us: int
    minor_units: int


class Scratch(NamedTuple):
    """Memory for the amounts or values that an aggregate has `chosen`, and a hash table: a slot is taken if its
    `turns` is the present one, `turn[0]`."""

    chosen: np.ndarray
    slots: np.ndarray
    turns: np.ndarray
    turn: np.ndarray


@njit(nogil=True)
def new_scratch(most: int) -> Scratch:
    """Memory for `most` events. At most half of the hash table is taken."""
    size = 2
    while size < 2 * most:
        size *= 2
    return Scratch(np.empty(most, np.int64), np.empty(size, np.int64), np.zeros(size, np.int64), np.zeros(1, np.int64))


@njit(nogil=True, forceinline=True)
def aggregate(
    room: np.ndarray, start: int, stop: int, current: int, declared: Declared, feature: int, scratch: Scratch
) -> float:
    """One feature of the event at `current`, from the events [start, stop)."""
    # Inlined, as passing so many arrays takes longer than a short window. So does counting the references of views, and
    # rows of `room` are not made arrays of their own here.
    specs, empty = declared.specs, declared.empty[feature]
    kind, of, window_us, delay_us = specs[feature, 0], specs[feature, 1], specs[feature, 2], specs[feature, 3]
    last, with_current, labelled, relative = specs[feature, 4], specs[feature, 5], specs[feature, 6], specs[feature, 7]
    latest = room[TIME, current] - delay_us
    low = _first_after(room, start, stop, latest - window_us)
    high = _first_after(room, low, stop, latest)
    left_out = current if low <= current < high and not with_current else -1
    if of == POINTS:
        latest = _latest_with_point(room, low, high, left_out, labelled, specs[feature, 8], specs[feature, 9])
        return _away(room, latest, current, specs[feature, 8], specs[feature, 9], kind, empty)
    if of == VALUES:
        return _of_values(room, specs[feature, 8], low, high, left_out, current, kind, last, labelled, empty, scratch)
    if last == 0 and not labelled and kind in (COUNT, SHARE, MEAN, SUM):
        count = high - low - (left_out >= 0)
        frauds = room[FRAUD_BEFORE, high] - room[FRAUD_BEFORE, low]
        total = room[AMOUNT_BEFORE, high] - room[AMOUNT_BEFORE, low]
        if left_out >= 0:
            frauds -= room[LABEL, left_out] == FRAUD
            total -= room[AMOUNT, left_out]
        smallest = largest = first = final = -1  # not asked for
    else:
        count, frauds, total, smallest, largest, first, final = _walk(
            room, low, high, left_out, kind, of, last, labelled, scratch.chosen
        )
    if kind == COUNT:
        return float(frauds if of == FRAUDS else count)
    if kind in (SINCE_FIRST, SINCE_LAST):
        index = first if kind == SINCE_FIRST else final
        return empty if index < 0 else (room[TIME, current] - room[TIME, index]) / 1_000_000
    if count == 0:
        return empty
    if kind == SHARE:
        smoothing = declared.smoothing[feature]
        return (frauds + smoothing * empty) / (count + smoothing)
    if kind in (STD, ZSCORE, RANK):
        return _spread(scratch.chosen[:count], total, kind, room[AMOUNT, current], empty, declared.minor_units)
    # A statistic of amounts, as the fraction numerator / denominator of minor units.
    numerator, denominator = largest, 1
    if kind == MIN:
        numerator = smallest
    elif kind == SUM:
        numerator = total
    elif kind == MEAN:
        numerator, denominator = total, count
    elif kind == MEDIAN:
        numerator, denominator = _twice_median(scratch.chosen[:count]), 2
    if relative:
        return empty if numerator == 0 else room[AMOUNT, current] * denominator / numerator
    return numerator / (denominator * declared.minor_units)


@njit(nogil=True)
def _first_after(room: np.ndarray, low: int, high: int, moment: int) -> int:
    """The first event of [low, high) after a moment, or `high`."""
    while low < high:
        middle = (low + high) // 2
        if room[TIME, middle] <= moment:
            low = middle + 1
        else:
            high = middle
    return low


@njit(nogil=True, inline="always")
def _walk(
    room: np.ndarray,
    low: int,
    high: int,
    left_out: int,
    kind: int,
    of: int,
    last: int,
    labelled: int,
    chosen: np.ndarray,
) -> tuple[int, int, int, int, int, int, int]:
    """Select the events of an aggregate among [low, high), and put their amounts into `chosen`.

    Returns their count, frauds, sum of amounts, smallest and largest amount, and the indices, or -1, of the first and
    the last one whose time the aggregate is about.
    """
    count = frauds = total = 0
    smallest, largest = np.iinfo(np.int64).max, np.iinfo(np.int64).min  # amounts can all be negative
    first = final = -1
    for index in range(high - 1, low - 1, -1):  # latest first, as `last` and streaks need
        if index == left_out or (labelled and room[LABEL, index] == UNKNOWN):
            continue
        if of == STREAK and room[LABEL, index] == LEGITIMATE:
            break
        fraud = room[LABEL, index] == FRAUD
        total += room[AMOUNT, index]
        smallest, largest = min(smallest, room[AMOUNT, index]), max(largest, room[AMOUNT, index])
        chosen[count] = room[AMOUNT, index]
        count += 1
        frauds += fraud
        if fraud or of == EVENTS:
            first = index
            final = max(final, index)
        if count == last or (kind == SINCE_LAST and final >= 0):
            break
    return count, frauds, total, smallest, largest, first, final


@njit(nogil=True)
def _latest_with_point(
    room: np.ndarray, low: int, high: int, left_out: int, labelled: int, latitude: int, longitude: int
) -> int:
    """The latest event of [low, high) that counts and has a point, or -1."""
    for index in range(high - 1, low - 1, -1):
        if index == left_out or (labelled and room[LABEL, index] == UNKNOWN):
            continue
        if room[latitude, index] != MISSING and room[longitude, index] != MISSING:
            return index
    return -1


@njit(nogil=True)
def _away(
    room: np.ndarray, earlier: int, current: int, latitude: int, longitude: int, kind: int, empty: float
) -> float:
    """How far, or how fast, it is from the point of an earlier event, if there is one, to that of the event itself."""
    if earlier < 0 or room[latitude, current] == MISSING or room[longitude, current] == MISSING:
        return empty
    distance = great_circle_km(
        room[latitude, earlier] / MICRODEGREES,
        room[longitude, earlier] / MICRODEGREES,
        room[latitude, current] / MICRODEGREES,
        room[longitude, current] / MICRODEGREES,
    )
    if kind == DISTANCE:
        return distance
    return distance / (max(room[TIME, current] - room[TIME, earlier], US_PER_SECOND) / US_PER_HOUR)


@njit(nogil=True)
def _of_values(
    room: np.ndarray,
    taken: int,
    low: int,
    high: int,
    left_out: int,
    current: int,
    kind: int,
    last: int,
    labelled: int,
    empty: float,
    scratch: Scratch,
) -> float:
    """How many different values there are among [low, high), or the share of those that are the event's own."""
    count = equal = 0
    for index in range(high - 1, low - 1, -1):
        if index == left_out or room[taken, index] == MISSING or (labelled and room[LABEL, index] == UNKNOWN):
            continue
        scratch.chosen[count] = room[taken, index]
        equal += room[taken, index] == room[taken, current]
        count += 1
        if count == last:
            break
    if kind == DISTINCT:
        return float(_distinct(scratch, count))
    return empty if count == 0 or room[taken, current] == MISSING else equal / count


@njit(nogil=True)
def _distinct(scratch: Scratch, count: int) -> int:
    """How many different values there are among the first `count` chosen ones. Hashing, with linear probing."""
    slots, turns = scratch.slots, scratch.turns
    scratch.turn[0] += 1
    turn, mask = scratch.turn[0], len(slots) - 1
    distinct = 0
    for value in scratch.chosen[:count]:
        slot = (value * 2_654_435_769 >> 15) & mask  # Knuth's multiplicative hash, 2**32 / golden ratio
        while turns[slot] == turn and slots[slot] != value:
            slot = (slot + 1) & mask
        if turns[slot] != turn:
            slots[slot], turns[slot] = value, turn
            distinct += 1
    return distinct


@njit(nogil=True)
def _spread(amounts: np.ndarray, total: int, kind: int, own: int, empty: float, minor_units: int) -> float:
    """The standard deviation of amounts [n] int64, n > 0, or the place of the `own` amount among them: z-score or
    rank."""
    count = len(amounts)
    if kind == RANK:
        twice_below = 0
        for amount in amounts:
            twice_below += 2 * (amount < own) + (amount == own)
        return twice_below / (2 * count)
    squares = 0.0
    for amount in amounts:
        deviation = float(count * amount - total)  # `count` times the deviation, exactly
        squares += deviation * deviation
    if kind == STD:
        return math.sqrt(squares / count) / (count * minor_units)
    return empty if squares == 0 else (count * own - total) / math.sqrt(squares / count)


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
    below = values[0]
    for index in range(1, middle):
        below = max(below, values[index])
    return values[middle] + below
