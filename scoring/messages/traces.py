"""W3C Trace Context: the header `traceparent`, by which a caller names the trace that a request is part of."""

import re
import secrets
from typing import NamedTuple

# Version, trace, the caller's span, flags. Later versions may add parts; 00 has none, and ff is none.
TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
VERSION = "00"
LONGEST = 512


class Trace(NamedTuple):
    """A trace: its id, 32 hexadecimal digits, the caller's span, 16 of them, and its flags."""

    id: str
    parent: str
    flags: str

    def response(self, span: str = "") -> str:
        """The header `traceresponse`, with a span of our own: that which is recorded, or one that is not."""
        return f"{VERSION}-{self.id}-{span or secrets.token_hex(8)}-{self.flags}"


def read(header: str) -> Trace | None:
    """Read a `traceparent`. None if it is missing or malformed: as the standard says, it is ignored then.

    >>> read("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    Trace(id='0af7651916cd43dd8448eb211c80319c', parent='b7ad6b7169203331', flags='01')
    """
    found = TRACEPARENT.fullmatch(header) if 55 <= len(header) <= LONGEST else None
    if found is None or (found[5] and found[1] == VERSION):
        return None
    return Trace(found[2], found[3], found[4] if found[1] == VERSION else f"{int(found[4], 16) & 1:02x}")
