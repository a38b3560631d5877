"""The fast parser of bodies never gives another result than the strict one."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from scoring.api.decoding import _read_strictly, read_plain, read_plain_rows
from scoring.exceptions import RequestRefused

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**30), 10**30)
values = st.recursive(
    numbers | st.text(max_size=8) | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
pairs = st.lists(st.tuples(st.text(max_size=2), values), max_size=6)


def written(body):
    """JSON text with names as they are given, equal ones too."""
    return "{" + ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in body) + "}"


def holds(raw):
    quick = read_plain(raw)
    if quick is None:
        return
    strict = _read_strictly(raw)
    assert quick == strict
    assert [type(value) for value in quick.values()] == [type(value) for value in strict.values()]


@given(pairs)
@example([("a", 1.0), ("a", 1.0)])
@example([("a", '":"')])
def test_both_ways_read_the_same(body):
    holds(written(body).encode())


@given(st.text(alphabet='{}[]":,0123456789.eE+-NaInfityrue \\\t\0é\ud800', max_size=40))
@example('{"a":NaN}')
@example('{"a":1e999}')
@example('{"a":01}')
@example('{"a":1,"a":2}')
@example('\ufeff{"a":1}')
@example('{"a":12345678901234567890123}')
@example('{"a":"b"c"d"}')
def test_the_quick_way_takes_nothing_that_the_strict_way_refuses(text):
    raw = text.encode("utf-8", "surrogatepass")
    try:
        _read_strictly(raw)
    except RequestRefused:
        assert read_plain(raw) is None
    else:
        holds(raw)


def test_the_quick_way_takes_an_ordinary_body():
    assert read_plain(b'{"transaction_id": "order-1", "Amount": 12.5}') is not None


rows = st.lists(pairs, max_size=3)


@given(st.lists(st.tuples(st.sampled_from(["labels", "more"]), rows), max_size=3))
@example([("labels", [[("a", 1.0), ("a", 1.0)]])])
@example([("labels", []), ("labels", [])])
@example([("labels", [[("a", '":"')]])])
def test_both_ways_read_the_same_rows(body):
    raw = ",".join(f'"{name}":[{",".join(map(written, rows))}]' for name, rows in body)
    quick = read_plain_rows(f"{{{raw}}}".encode())
    if quick is not None:
        strict = _read_strictly(f"{{{raw}}}".encode())
        assert repr(quick) == repr(strict), "equal, and of the same types"


def test_the_quick_way_takes_ordinary_rows():
    assert read_plain_rows(b'{"labels": [{"kind": "fraud", "amount": 12.5, "reference": null}]}') is not None
