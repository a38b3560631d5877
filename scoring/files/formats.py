"""The forms in which files come: by their media type and, as anything can be claimed, by how they begin."""

from email.message import Message
from functools import lru_cache

from scoring.exceptions import FileUnacceptable, UnsupportedFile
from scoring.files.models import Format

MEDIA_TYPES = {
    "text/csv": Format.CSV,
    "application/csv": Format.CSV,
    "application/x-ndjson": Format.JSONL,
    "application/jsonl": Format.JSONL,
    "application/x-jsonlines": Format.JSONL,
    "application/vnd.apache.parquet": Format.PARQUET,
    "application/x-parquet": Format.PARQUET,
}
ENDINGS = {"csv": Format.CSV, "jsonl": Format.JSONL, "ndjson": Format.JSONL, "parquet": Format.PARQUET}
PACKINGS = {"gzip": "gz", "x-gzip": "gz", "zstd": "zst"}
# How each begins.
MAGIC = {"gz": b"\x1f\x8b", "zst": b"\x28\xb5\x2f\xfd", "parquet": b"PAR1", "zip": b"PK\x03\x04"}
# What files of text cannot begin with.
MARKS = {"UTF-16": (b"\xff\xfe", b"\xfe\xff")}
CHECKED = 4


def of_media_type(content_type: str) -> Format:
    """The format that a request declares.

    Raises:
        UnsupportedFile: it is none that is taken, or its text is not UTF-8.
    """
    media, charset = _parsed(content_type)
    if media not in MEDIA_TYPES or charset.lower() not in {"utf-8", "utf8", "us-ascii"}:
        raise UnsupportedFile
    return MEDIA_TYPES[media]


@lru_cache(maxsize=256)
def _parsed(content_type: str) -> tuple[str, str]:
    header = Message()
    header["Content-Type"] = content_type
    return header.get_content_type(), str(header.get_param("charset", "utf-8"))


def of_name(name: str) -> Format | None:
    """The format that a file's name tells, whether or not it is packed: `payments.csv.gz`."""
    words = name.lower().split(".")
    if words[-1] in PACKINGS.values():
        words.pop()
    return ENDINGS.get(words[-1]) if len(words) > 1 else None


def packing_of(encoding: str) -> str:
    """How the header Content-Encoding says that a file is packed; empty if it is not.

    Raises:
        UnsupportedFile: in a way that is not taken, or in several.
    """
    word = encoding.strip().lower()
    if word in ("", "identity"):
        return ""
    if word not in PACKINGS:
        raise UnsupportedFile("Pack a file with gzip or zstd, once, or not at all.")
    return PACKINGS[word]


def check(beginning: bytes, form: Format, packing: str) -> None:
    """Check the first bytes of a file against what it is said to be. A file that nobody said to be packed may be.

    Raises:
        FileUnacceptable: it is something else.
    """
    found = next((name for name, magic in MAGIC.items() if beginning.startswith(magic)), "")
    if packing and found != packing:
        raise FileUnacceptable(f"Content-Encoding says that the file is packed as .{packing}, and it is not.")
    if found in ("gz", "zst"):
        if form == Format.PARQUET:
            raise FileUnacceptable("Parquet files are packed inside. Send the file as it is.")
    elif found == "zip":
        raise FileUnacceptable("This is a ZIP archive. Pack the file with gzip or zstd, or not at all.")
    elif (found == "parquet") != (form == Format.PARQUET):
        raise FileUnacceptable(f"This is not {Format(form).label}. Send the media type that the file has.")
    for encoding, marks in MARKS.items():
        if form != Format.PARQUET and beginning.startswith(marks):
            raise FileUnacceptable(f"The file is written in {encoding}. Send UTF-8.")


def unpacking_of(beginning: bytes) -> str:
    """How a file is packed, by its first bytes; empty if it is not."""
    return next((name for name in ("gz", "zst") if beginning.startswith(MAGIC[name])), "")
