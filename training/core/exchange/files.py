"""Reads files of rates: CSV, JSON, JSON Lines or Parquet, by rows or by columns."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from training.core.exchange.rates import AHEAD, RATE_DIGITS, Quote, RatesRefused, checked
from training.core.schema.kinds import codes

COLUMNS = ("currency", "rate", "valid_from")
CODE = re.compile("[A-Z]{3}")
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
SHOWN = 20  # refused rows that an error names
# The European Central Bank publishes the rates of a day at about 16:00 in Frankfurt, which is 14:00 or 15:00 in UTC.
PUBLISHED = time(16)
NOT_QUOTED = ("", "N/A")
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)

# The place of a row in its file, and the row by its column names; or its place, currency, rate and beginning.
Row = tuple[str, dict[Any, Any]]
Cell = tuple[str, Any, Any, Any]


@dataclass(frozen=True)
class RatesFile:
    """What a file quotes, in its order and without repetitions. `left_out` are columns of withdrawn currencies."""

    quotes: list[Quote]
    left_out: list[str]


def read(path: Path, base: str) -> RatesFile:
    """Read a file with the columns currency, rate and valid_from, or with the column Date and one for each currency, as
    the European Central Bank publishes it. Rates are so many units of a currency for one unit of `base`.

    Times without an offset are UTC, and dates are their first moment. Rates of columns hold from 16:00 UTC of their
    date.

    Raises:
        RatesRefused: it cannot be read, or rows are refused; names their lines and the reasons.
    """
    try:
        rows = list(_rows(path))
    except OSError as error:
        raise RatesRefused(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError, csv.Error, pa.ArrowException) as error:
        raise RatesRefused(f"{path.name} is no CSV in UTF-8, JSON or Parquet file: {error}") from error
    quoted, left_out = _quoted(path, rows)
    quotes = _quotes(path, quoted, base)
    if not quotes:
        raise RatesRefused(f"{path.name} has no rates.")
    return RatesFile(quotes, left_out)


def _quoted(path: Path, rows: list[Row]) -> tuple[Iterator[Cell], list[str]]:
    """The rates of the rows, and the columns that are left out."""
    names = {name for _, row in rows for name in row if isinstance(name, str)}
    dates = next((name for name in names if name.lower() == "date"), None)
    if dates and "valid_from" not in names:
        currencies = sorted(name for name in names if CODE.fullmatch(name.strip()))
        left_out = [name for name in currencies if name.strip() not in codes.currencies()]
        return _cells(rows, dates, [name for name in currencies if name not in left_out]), left_out
    if rows and (missing := [name for name in COLUMNS if name not in names]):
        raise RatesRefused(
            f"{path.name}: there is no column {', '.join(missing)}. Give {', '.join(COLUMNS)}, or Date and a column "
            "for each currency, such as USD."
        )
    return ((place, row.get("currency"), row.get("rate"), row.get("valid_from")) for place, row in rows), []


def _cells(rows: list[Row], dates: str, currencies: list[str]) -> Iterator[Cell]:
    for place, row in rows:
        for name in currencies:
            value = row.get(name)
            if value is not None and not (isinstance(value, str) and value.strip() in NOT_QUOTED):
                yield place, name, value, _published(row.get(dates))


def _published(value: Any) -> Any:
    """The moment from which the rates of a day hold; what is no date is left for its refusal."""
    try:
        return datetime.combine(_moment(value), PUBLISHED, UTC)
    except ValueError:
        return value


def _quotes(path: Path, cells: Iterator[Cell], base: str) -> list[Quote]:
    known: dict[tuple[str, datetime], tuple[Decimal, str]] = {}
    faults: list[str] = []
    latest = datetime.now(UTC) + AHEAD
    for place, currency, rate, valid_from in cells:
        try:
            quote = Quote(_currency(currency, base), _rate(rate), _moment(valid_from))
            if not EARLIEST <= quote.valid_from <= latest:
                raise ValueError(f"valid_from lies between 1970 and tomorrow, unlike {quote.valid_from:%Y-%m-%d}")
            before = known.setdefault((quote.currency, quote.valid_from), (quote.rate, place))
            if before[0] != quote.rate:
                raise ValueError(f"{before[1]} has another rate of {quote.currency} for the same time")
        except ValueError as error:
            faults.append(f"{place}: {error}.")
    if faults:
        more = f"\n  … and {len(faults) - SHOWN:,} more" if len(faults) > SHOWN else ""
        raise RatesRefused(
            f"{path.name}: {len(faults):,} rates are refused, and none was stored:\n  "
            + "\n  ".join(islice(faults, SHOWN))
            + more
        )
    return [Quote(currency, rate, since) for (currency, since), (rate, _) in known.items()]


def _currency(value: Any, base: str) -> str:
    text = value.strip().upper() if isinstance(value, str) else ""
    if text not in codes.currencies():
        raise ValueError(f"currency is a code of ISO 4217, such as USD, not {_short(value)}")
    if text == base:
        raise ValueError(f"a rate of {base} to itself is 1, and is not given")
    return text


def _rate(value: Any) -> Decimal:
    if isinstance(value, float):
        value = f"{value:.{RATE_DIGITS}g}"  # what a float64 holds of a decimal number
    text = str(value).strip()
    if isinstance(value, bool) or not (NUMBER.fullmatch(text) or isinstance(value, Decimal)):
        raise ValueError(f"rate is a number such as 1.0876, not {_short(value)}")
    try:
        return checked(Decimal(text))
    except ValueError as error:
        raise ValueError(f"{error}, unlike {_short(value)}") from error


def _moment(value: Any) -> datetime:
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value.strip())
        elif isinstance(value, date) and not isinstance(value, datetime):
            value = datetime.combine(value, time())
        if isinstance(value, datetime):
            return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"valid_from is a date or time of ISO 8601, such as 2026-11-01T16:00Z, not {_short(value)}")


def _short(value: Any) -> str:
    return repr(value if isinstance(value, str) else str(value))[:40]


def _parquet_rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for place in range(table.num_rows):
        try:
            yield from table.slice(place, 1).to_pylist()
        except (ValueError, OverflowError) as error:  # a time that Python has no value for
            raise ValueError(f"row {place + 1}: {error}") from error


def _rows(path: Path) -> Iterator[Row]:
    if path.suffix == ".parquet":
        yield from ((f"row {number}", row) for number, row in enumerate(_parquet_rows(pq.read_table(path)), 1))
        return
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".json" and text.lstrip().startswith("["):
        yield from ((f"item {number}", _object(row)) for number, row in enumerate(_json(text), 1))
    elif path.suffix in (".json", ".jsonl", ".ndjson"):
        lines = enumerate(text.splitlines(), 1)
        yield from ((f"line {number}", _object(_json(line))) for number, line in lines if line.strip())
    else:
        head = text.split("\n", 1)[0]
        reader = csv.DictReader(
            io.StringIO(text, newline=""), delimiter=";" if ";" in head and "," not in head else ","
        )
        names = [name.strip() for name in reader.fieldnames or ()]
        if twice := [name for name, count in Counter(names).items() if name and count > 1]:
            raise ValueError(f"the column {twice[0]} is there twice")
        reader.fieldnames = names
        for row in reader:
            if any(map(str.strip, row.get(None, ()))):
                raise ValueError(
                    f"line {reader.line_num} has more values than there are columns. Write 1.0876 with a point, or "
                    "separate columns by semicolons"
                )
            yield f"line {reader.line_num}", row


def _json(text: str) -> Any:
    return json.loads(text, parse_float=Decimal, parse_constant=Decimal)


def _object(row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(f"{_short(row)} is no object with the names {', '.join(COLUMNS)}")
    return row
