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
from training.core.features.stored import EVENT_BYTES, VALUE_BYTES, VERSION_BYTES

# The `label` of an operation that is an event and not a label.
EVENT = -2
# Numba gives a literal 0 a type of its own, and would compile all that is called with it a second time.
BEGIN: int = np.int64(0)  # type: ignore[assignment]


class Operations(NamedTuple):
    """The labels and the events to replay, in any order, labels first.

    Entity `e` has those with the numbers `order[first[e]]` to `order[first[e + 1] - 1]`, in the order of their arrival.
    `label` is the label that arrived for `key`, or EVENT. `values` [events, k] int32 are what histories keep of the
    requests, and `kept` the columns that those of this kind of entity keep. All other arrays are int64, except `label`
    (int8).
    """

    first: np.ndarray
    order: np.ndarray
    key: np.ndarray
    time: np.ndarray
    amount: np.ndarray
    label: np.ndarray
    values: np.ndarray
    kept: np.ndarray


class Histories(NamedTuple):
    """The histories of `m` entities, as bytes: VERSION_BYTES of a version, then events of EVENT_BYTES with their key,
    time, amount (int64) and label (int8), and VALUE_BYTES per value (int32), all little-endian.

    That of entity `e` is `stored[begins[e]:begins[e + 1]]`. It will be `written[places[e]:ends[e]]`; where `written` is
    empty, none is written.
    """

    begins: np.ndarray
    stored: np.ndarray
    places: np.ndarray
    ends: np.ndarray
    written: np.ndarray


@njit(nogil=True)
def grouped(codes: np.ndarray, arrival: np.ndarray, entities: int) -> tuple[np.ndarray, np.ndarray]:
    """`first` and `order` of `Operations`: the numbers in `arrival` [n], by the entity that `codes` [n] int64 gives to
    each. Those with a negative code are left out. A counting sort."""
    first = np.zeros(entities + 1, np.int64)
    for code in codes:
        if code >= 0:
            first[code + 1] += 1
    for entity in range(entities):
        first[entity + 1] += first[entity]
    order, following = np.empty(first[entities], np.int64), first.copy()
    for number in arrival:
        code = codes[number]
        if code >= 0:
            order[following[code]] = number
            following[code] += 1
    return first, order


@njit(nogil=True)
def allotted(lengths: np.ndarray, first: np.ndarray, event_bytes: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """`begins` of `Histories` of these `lengths` [m] int64, and `places`, with the end behind the last, [m + 1] each:
    there is room for the operations that are in `first`."""
    begins, places = np.zeros(len(lengths) + 1, np.int64), np.zeros(len(lengths) + 1, np.int64)
    for entity in range(len(lengths)):
        events = (lengths[entity] - VERSION_BYTES) // event_bytes + first[entity + 1] - first[entity]
        begins[entity + 1] = begins[entity] + lengths[entity]
        places[entity + 1] = places[entity] + VERSION_BYTES + min(events, limit) * event_bytes
    return begins, places


@njit(nogil=True)
def replay(operations: Operations, histories: Histories, declared: Declared, features: np.ndarray) -> None:
    """Replay operations on the histories of their entities; fills `features`, float64, and writes `histories`."""
    limit, horizon_us = declared.limit, declared.horizon_us
    rows = FIRST_VALUE + len(operations.kept)
    most = 2 * limit + 2
    room, scratch = np.empty((rows, most + 1), np.int64), new_scratch(limit + 1)
    # The events with the same value, for features that want only these.
    alike = np.empty((rows, limit + 2 if declared.specs[-1, SAME] >= 0 else 0), np.int64)
    keys, times, labels = room[KEY], room[TIME], room[LABEL]
    labels_first = len(operations.key) - len(operations.values)
    for entity in range(len(histories.ends)):
        start, stop = BEGIN, _load(histories, entity, room)
        _sum_up(room, BEGIN, stop)
        for place in range(operations.first[entity], operations.first[entity + 1]):
            operation = operations.order[place]
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
            row = operation - labels_first
            if current < start:  # otherwise the key is known: a repetition, which is not added again
                if stop == most:
                    for index in range(start, stop):
                        _copy_event(room, index, room, index - start)
                    start, stop = BEGIN, stop - start
                    _sum_up(room, BEGIN, stop)
                current = _insert(room, start, stop, operations, operation, row)
                stop += 1
                _sum_up(room, current, stop)
            _compute(room, start, stop, current, declared, alike, scratch, features, row)
            while stop - start > limit or times[start] <= times[stop - 1] - horizon_us:
                start += 1
        if len(histories.written):
            _store(histories, entity, room, start, stop)


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
    chosen_by, size, place = -1, BEGIN, BEGIN
    for feature in range(len(declared.columns)):
        same, column = declared.specs[feature, SAME], declared.columns[feature]
        if same < 0:
            features[row, column] = aggregate(room, start, stop, current, declared, feature, scratch)
            continue
        if same != chosen_by:  # features are in the order of `same`
            size, place = _choose_alike(room, start, stop, current, same, alike)
            chosen_by = same
        features[row, column] = aggregate(alike, BEGIN, size, place, declared, feature, scratch)


@njit(nogil=True)
def _choose_alike(
    room: np.ndarray, start: int, stop: int, current: int, same: int, alike: np.ndarray
) -> tuple[int, int]:
    """Copy the events whose value in the row `same` is that of the event at `current` to `alike`. Returns their number,
    and the place of that event. If it has no value the number is 0, and the event itself is at place 0 behind them."""
    values = room[same]
    wanted = values[current]
    if wanted == MISSING:
        _copy_event(room, current, alike, BEGIN)
        return BEGIN, BEGIN
    size = place = BEGIN
    for index in range(start, stop):
        if values[index] == wanted:
            if index == current:
                place = size
            _copy_event(room, index, alike, size)
            size += 1
    _sum_up(alike, BEGIN, size)
    return size, place


@njit(nogil=True)
def _insert(room: np.ndarray, start: int, stop: int, operations: Operations, operation: int, row: int) -> int:
    """Insert the event of an operation by its time, after those of the same time. Returns its place."""
    time = operations.time[operation]
    place = stop
    while place > start and room[TIME, place - 1] > time:
        _copy_event(room, place - 1, room, place)
        place -= 1
    room[KEY, place], room[TIME, place] = operations.key[operation], time
    room[AMOUNT, place], room[LABEL, place] = operations.amount[operation], UNKNOWN
    for column in range(len(operations.kept)):
        room[FIRST_VALUE + column, place] = operations.values[row, operations.kept[column]]
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


# The places of bytes are unsigned: numba looks at each signed one whether it counts from the end. So the compiler makes
# one load or store of the bytes of a number.
@njit(nogil=True)
def _load(histories: Histories, entity: int, room: np.ndarray) -> int:
    """Read the stored events of an entity. Returns their number."""
    stored, values = histories.stored, len(room) - FIRST_VALUE
    at, end = np.uint64(histories.begins[entity] + VERSION_BYTES), np.uint64(histories.begins[entity + 1])
    place = 0
    while at < end:
        room[KEY, place], room[TIME, place] = _integer(stored, at), _integer(stored, at + np.uint64(8))
        room[AMOUNT, place] = _integer(stored, at + np.uint64(16))
        room[LABEL, place] = np.int8(stored[at + np.uint64(24)])
        at += np.uint64(EVENT_BYTES)
        for row in range(FIRST_VALUE, FIRST_VALUE + values):
            room[row, place] = np.int32(_unsigned(stored, at, VALUE_BYTES))
            at += np.uint64(VALUE_BYTES)
        place += 1
    return place


@njit(nogil=True)
def _store(histories: Histories, entity: int, room: np.ndarray, start: int, stop: int) -> None:
    """Write the version and the events [start, stop) of an entity."""
    written, values = histories.written, len(room) - FIRST_VALUE
    at = np.uint64(histories.places[entity])
    for byte in range(VERSION_BYTES):
        written[at + np.uint64(byte)] = histories.stored[histories.begins[entity] + byte]
    at += np.uint64(VERSION_BYTES)
    for place in range(start, stop):
        _write(written, at, room[KEY, place], 8)
        _write(written, at + np.uint64(8), room[TIME, place], 8)
        _write(written, at + np.uint64(16), room[AMOUNT, place], 8)
        _write(written, at + np.uint64(24), room[LABEL, place], 1)
        at += np.uint64(EVENT_BYTES)
        for row in range(FIRST_VALUE, FIRST_VALUE + values):
            _write(written, at, room[row, place], VALUE_BYTES)
            at += np.uint64(VALUE_BYTES)
    histories.ends[entity] = np.int64(at)


@njit(nogil=True, inline="always")
def _integer(stored: np.ndarray, at: np.uint64) -> np.int64:
    return np.int64(_unsigned(stored, at, 8))


@njit(nogil=True, inline="always")
def _unsigned(stored: np.ndarray, at: np.uint64, size: int) -> np.uint64:
    """The bytes from `at` on as a number without a sign."""
    number = np.uint64(0)
    for byte in range(size):
        number |= np.uint64(stored[at + np.uint64(byte)]) << np.uint64(8 * byte)
    return number


@njit(nogil=True, inline="always")
def _write(written: np.ndarray, at: np.uint64, number: int, size: int) -> None:
    for byte in range(size):
        written[at + np.uint64(byte)] = np.uint8(np.uint64(number) >> np.uint64(8 * byte))
