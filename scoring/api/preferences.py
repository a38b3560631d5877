"""The `Prefer` header (RFC 7240)."""

import re
from dataclasses import dataclass

WAIT = re.compile(r'wait\s*=\s*"?(\d{1,6})"?')


@dataclass(frozen=True)
class Preferences:
    """`wait_s` is how long the client is willing to wait, in whole seconds; None means the server's deadline."""

    respond_async: bool = False
    wait_s: int | None = None


def read_preferences(header: str) -> Preferences:
    """Read a `Prefer` header. As the RFC says, unknown preferences are ignored, and the first of equal names counts.

    >>> read_preferences("respond-async, wait=5; x=1, handling=lenient")
    Preferences(respond_async=True, wait_s=5)
    """
    respond_async, wait_s = False, None
    for preference in header.lower().split(","):
        name = preference.split(";")[0].strip()
        if name == "respond-async":
            respond_async = True
        elif wait_s is None and (found := WAIT.fullmatch(name)):
            wait_s = int(found[1])
    return Preferences(respond_async, wait_s)
