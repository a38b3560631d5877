"""How the rows of a file are written: the columns of a table, and what their cells are."""

import csv
import io
from collections.abc import Sequence

import msgspec

from scoring import served
from scoring.exceptions import FileUnacceptable
from scoring.files.models import BatchFile
from training.core.card_numbers import holds_card_number
from training.core.exceptions import did_you_mean
from training.core.schema import EVENT_TIME, TRANSACTION_ID, Schema

SCHEMA = "schema"
DELIMITERS = ",;\t|"
SHOWN = 60


class Layout(msgspec.Struct):
    """`source` is the name of the stored file that has the rows. `names` are the columns of a table, in order; None for
    those that are passed over, and empty for JSON Lines, whose rows name their fields."""

    source: str
    names: list[str | None] = []
    delimiter: str = ","


def schema_of(file: BatchFile) -> Schema:
    """The declaration of a file's schema.

    Raises:
        FileUnacceptable: it is not served any more.
    """
    schema = served.now().schemas.get(file.schema)
    if schema is None:
        raise FileUnacceptable(f"There is no schema {file.schema} any more.")
    return schema


def is_light(schema: Schema) -> bool:
    """Whether rows that are not stored can be scored at once: they are numbers, and nothing is computed of others."""
    return schema.is_plain and not schema.has_texts and not schema.amount_currency


def layout_of(file: BatchFile, header: bytes, source: str) -> Layout:
    """The layout of a CSV file with this first line.

    Raises:
        FileUnacceptable: the line does not name the columns that a transaction has.
    """
    try:
        line = header.decode()
    except UnicodeDecodeError:
        raise FileUnacceptable("The first line is not written in UTF-8.") from None
    delimiter = max(DELIMITERS, key=line.count)
    try:
        [names] = csv.reader(io.StringIO(line, newline=""), delimiter=delimiter, strict=True)
    except (csv.Error, ValueError):
        raise FileUnacceptable("The first line is not a line of CSV.") from None
    checked = columns_of(file, [name.strip() for name in names])
    return Layout(source=source, names=checked, delimiter=delimiter)


def columns_of(file: BatchFile, names: Sequence[str]) -> list[str | None]:
    """The columns of a table, with None for those that are passed over.

    Raises:
        FileUnacceptable: a column is unknown, stands twice or is missing.
    """
    schema = schema_of(file)
    known = [*schema.feature_names, *schema.identifier_names, TRANSACTION_ID, EVENT_TIME, SCHEMA]
    columns = [None if name in file.ignored else name for name in names]
    named = [name for name in columns if name is not None]
    for name in named:
        if name not in known:
            shown = "with a card number as its name" if holds_card_number(name) else repr(name[:SHOWN])
            raise FileUnacceptable(
                f"The schema {schema.name} has no column {shown}.{did_you_mean(name, known)} The first line names the "
                f"columns; name those to pass over in `ignore`. Columns: {', '.join(known)}."
            )
        if named.count(name) > 1:
            raise FileUnacceptable(f"The column {name} stands more than once.")
    wanted = [field.name for field in schema.sent_features if not field.optional]
    wanted += [entity.name for entity in schema.entities if not entity.of and not entity.optional]
    if missing := [name for name in wanted if name not in named]:
        raise FileUnacceptable(f"These columns are missing: {', '.join(missing)}.")
    return columns
