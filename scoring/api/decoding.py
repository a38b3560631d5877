"""Decodes a request's body as one JSON object, and refuses whatever two parsers could understand differently."""

import json
from collections import Counter
from collections.abc import Iterator
from email.message import Message
from functools import lru_cache
from itertools import chain
from typing import Any

import msgspec
from django.http import HttpRequest

from scoring.exceptions import BodyCutOff, BodyTooLarge, FieldError, InvalidFields, MalformedBody, UnsupportedMedia
from training.core.card_numbers import holds_card_number

# A JSON object as a client sends it: its names and values may be anything.
Body = dict[str, Any]

# UTF-8 and UTF-16.
BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
NAME_SHOWN = 64


def read_object(request: HttpRequest, *, limit_bytes: int, has_rows: bool = False) -> Body:
    """Read the body as one JSON object (RFC 8259), strictly. One that `has_rows` is expected to hold lists of objects.

    Raises:
        UnsupportedMedia: not `application/json`, not UTF-8, or compressed.
        BodyTooLarge: more than `limit_bytes`, whether or not the length was announced.
        MalformedBody: the body is not JSON, is not an object, or has a byte-order mark, NaN, Infinity or a string that
            is not Unicode text.
        InvalidFields: an object has a name twice.
    """
    _check_media(request)
    raw = _read(request, limit_bytes)
    decoded = read_plain_rows(raw) if has_rows else read_plain(raw)
    return _read_strictly(raw) if decoded is None else decoded


def decode_object(raw: bytes) -> Body:
    """Decode one JSON object, strictly.

    Raises:
        MalformedBody, InvalidFields: as `read_object`.
    """
    decoded = read_plain(raw)
    return _read_strictly(raw) if decoded is None else decoded


def read_plain(raw: bytes) -> Body | None:
    """Read a body of numbers and plain strings, as nearly every body is; None for all others.

    This takes a fifth of the time of `_read_strictly`. msgspec accepts duplicate names. As no string has an escape,
    each has two quotes, so the number of quotes shows whether a name was sent twice.
    """
    try:
        decoded = _plain.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    strings = len(decoded) + list(map(type, decoded.values())).count(str)
    return decoded if raw.count(b'"') == 2 * strings and b"\\" not in raw else None


def read_plain_rows(raw: bytes) -> Body | None:
    """Read a body whose fields are lists of objects of numbers and plain strings; None for all others. As above."""
    try:
        decoded = _plain_rows.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    strings = len(decoded)
    for rows in decoded.values():
        strings += sum(map(len, rows))
        strings += list(map(type, chain.from_iterable(map(dict.values, rows)))).count(str)
    return decoded if raw.count(b'"') == 2 * strings and b"\\" not in raw else None


def _read_strictly(raw: bytes) -> Body:
    if raw.startswith(BYTE_ORDER_MARKS):
        raise _malformed("byte_order_mark", "The body begins with a byte-order mark. Send UTF-8 without one.")
    try:
        written = raw.decode("utf-8")
        decoded = _decoder.decode(written)
    except RecursionError:
        raise MalformedBody("The body is nested too deeply.") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise _malformed("not_json", f"The body is not JSON: look at {place}.") from None
    except UnicodeDecodeError:
        raise _malformed("not_utf_8", "The body is not UTF-8.") from None
    except ValueError:  # a number of thousands of digits
        raise MalformedBody from None
    if not isinstance(decoded, dict):
        raise _malformed("not_an_object", "The body must be one JSON object.")
    # NUL and lone surrogates can only be written as escapes, and few bodies have any.
    if "\\u" in written and any("\0" in text or _has_lone_surrogate(text) for text in texts(decoded)):
        raise MalformedBody("The body has a string that is not Unicode text.")
    return decoded


def _malformed(code: str, detail: str) -> MalformedBody:
    return MalformedBody(detail, errors=[FieldError("", code, detail)])


def texts(decoded: Any) -> Iterator[str]:
    """Every text and whole number of a decoded body, names included, at any depth."""
    pending = [decoded]
    while pending:
        match pending.pop():
            case str(text):
                yield text
            case int(number) if type(number) is int:  # not a bool
                yield str(number)
            case float(number) if number.is_integer():
                yield f"{number:.0f}"
            case dict(items):
                yield from items
                pending.extend(items.values())
            case list(items):
                pending.extend(items)


def _check_media(request: HttpRequest) -> None:
    encodings = request.META.get("HTTP_CONTENT_ENCODING", "").lower().split(",")
    if {encoding.strip() for encoding in encodings} - {"", "identity"} or not _is_json(
        request.META.get("CONTENT_TYPE", "")
    ):
        raise UnsupportedMedia


@lru_cache(maxsize=256)
def _is_json(content_type: str) -> bool:
    header = Message()
    header["Content-Type"] = content_type
    charset = header.get_param("charset", "utf-8")
    if header.get_content_type() != "application/json" or not isinstance(charset, str):
        return False
    return charset.lower() in {"utf-8", "utf8"}


def _read(request: HttpRequest, limit_bytes: int) -> bytes:
    too_large = f"The body may have at most {limit_bytes} bytes."
    announced = request.META.get("CONTENT_LENGTH") or ""
    if announced.isdecimal() and int(announced) > limit_bytes:
        raise BodyTooLarge(too_large)
    # Django does not read a chunked body, as it has no Content-Length. It can be read from the stream if the server
    # marks the stream's end.
    chunked = not announced and request.META.get("wsgi.input_terminated")
    try:
        body = (request.META["wsgi.input"] if chunked else request).read(limit_bytes + 1)
    except OSError as error:
        raise BodyCutOff from error
    if len(body) > limit_bytes:
        raise BodyTooLarge(too_large)
    return body


def _unique(pairs: list[tuple[str, Any]]) -> Body:
    decoded = dict(pairs)
    if len(decoded) < len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        subject = "A name" if holds_card_number(name) else f'The name "{name[:NAME_SHOWN]}"'
        twice = f"{subject} stands more than once in one object. Send each name once."
        raise InvalidFields(twice, errors=[FieldError("", "duplicate_key", twice)])
    return decoded


def _refuse_constant(literal: str) -> None:
    raise _malformed("not_finite", f"{literal} is not JSON. Send a finite number.")


_plain = msgspec.json.Decoder(dict[str, float | int | str | None])
_plain_rows = msgspec.json.Decoder(dict[str, list[dict[str, float | int | str | None]]])
_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)


def _has_lone_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
