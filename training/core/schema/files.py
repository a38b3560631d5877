"""The form of a raw file, as a schema declares it in its table `[file]`."""

from dataclasses import dataclass
from datetime import UTC, datetime

from training.core.exceptions import SchemaInvalid

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class FileForm:
    """How a raw file is written.

    A CSV has its fields between `separator`s, its text in `encoding`, its numbers with the point `decimal` and, between
    thousands, `thousands`. The texts in `missing` stand for a missing value, as an empty one does. Dates are ISO 8601
    or of the `strptime` format `dates`. `fraud` is the text of the label that means fraud; without it labels are 1 and
    0, or true and false. Numbers of `event_time_unit` count from `origin`, a date or time of ISO 8601 in UTC, or from
    1970. With `row_ids` the file has no transaction ids, and each row is a transaction of its own.
    """

    separator: str = ","
    encoding: str = "utf-8"
    decimal: str = "."
    thousands: str = ""
    missing: tuple[str, ...] = ()
    dates: str = ""
    fraud: str = ""
    origin: str = ""
    row_ids: bool = False

    @property
    def counts_from(self) -> datetime:
        """The moment from which numbers of event times count."""
        return datetime.fromisoformat(self.origin).replace(tzinfo=UTC) if self.origin else EPOCH


def check(form: FileForm) -> None:
    """Check the declaration.

    Raises:
        SchemaInvalid: a part of it makes no sense; names it.
    """
    try:
        "".encode(form.encoding)  # unlike a look-up this refuses what is no encoding of texts, such as hex
    except (LookupError, ValueError) as error:
        raise SchemaInvalid(f"file: there is no encoding {form.encoding!r}. Declare one such as latin-1.") from error
    if len(form.separator) != 1:
        raise SchemaInvalid(f"file: separator is one character, not {form.separator!r}")
    if form.decimal not in (".", ","):
        raise SchemaInvalid(f'file: decimal is "." or ",", not {form.decimal!r}')
    if len(form.thousands) > 1 or form.thousands == form.decimal:
        raise SchemaInvalid(f"file: thousands is one character, and not that of decimal: {form.thousands!r}")
    try:
        form.counts_from  # noqa: B018, raises
    except ValueError as error:
        raise SchemaInvalid(f"file: origin is a date or time of ISO 8601, not {form.origin!r}") from error
