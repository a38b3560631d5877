"""Text is split into records piece by piece, with the outcome of a reader that goes line by line."""

import io
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from scoring.exceptions import FileUnacceptable
from scoring.files import lines

PARTS = ("a", "bb", ",", '"', "\n", "\n", "\r\n", " ", "\t", "é")
AT, LINE = 5, 2


@pytest.fixture
def in_pieces(monkeypatch):
    """The lines, beginnings and contents of records that are read in pieces of so many bytes, and the refusal."""

    def in_pieces(content, piece_bytes, **options):
        monkeypatch.setattr(lines, "BLOCK", piece_bytes)
        found: list[Any] = []
        try:
            for each in lines.records(io.BytesIO(content), at=AT, line=LINE, **options):
                places = range(len(each))
                found += [(int(each.lines[n]), int(each.at + each.starts[n]), each.record(n)) for n in places]
        except FileUnacceptable as refusal:
            found.append(str(refusal))
        return found

    return in_pieces


def line_by_line(content, *, quotes, limit_bytes):
    found: list[Any] = []
    at, line, left = AT, LINE, io.BytesIO(content).readlines()
    while left:
        record = left.pop(0)
        is_open = quotes and record[: limit_bytes + 1].count(b'"') % 2
        while quotes and left and record.count(b'"') % 2 and len(record) <= limit_bytes:
            record += left.pop(0)
        if is_open and (record.count(b'"') % 2 or len(record) > limit_bytes):
            why = "opens a quotation mark that is not closed. Inside of quotation marks, double them."
            return [*found, f"Line {line} {why}"]
        if len(record) > limit_bytes:
            return [*found, f"Line {line} is longer than {limit_bytes} bytes."]
        if not record.isspace():
            found.append((line, at, record))
        at, line = at + len(record), line + record.count(b"\n")
    return found


@examples(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.lists(st.sampled_from(PARTS), max_size=40).map(lambda parts: "".join(parts).encode()),
    quotes=st.booleans(),
    limit_bytes=st.sampled_from([3, 8, 100]),
    piece_bytes=st.sampled_from([1, 3, 7, 1_000]),
)
def test_records_are_those_that_a_reader_of_lines_finds(in_pieces, content, quotes, limit_bytes, piece_bytes):
    options = {"quotes": quotes, "limit_bytes": limit_bytes}
    assert in_pieces(content, piece_bytes, **options) == line_by_line(content, **options)
