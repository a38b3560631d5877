"""Categories, an open vocabulary of texts, and texts that are stored and shown, but no input of a model."""

import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from training.core.schema.kinds.kind import REMEMBERED, TEXT_LIMIT, Kind, read_text

if TYPE_CHECKING:
    from training.core.schema.values import Field

LOWEST_CODE = -(2**31)  # stands for a missing value where codes are int32
LONG_TEXT_LIMIT = 500


@lru_cache(REMEMBERED)
def code_of(text: str) -> float:
    """The code of a text: 32 bits of it, a whole number above `LOWEST_CODE`. Two texts share a code with a probability
    of 2**-32.

    >>> code_of("grocery")
    1571447433.0
    """
    return float(max(zlib.crc32(text.encode()) + LOWEST_CODE, LOWEST_CODE + 1))


def _read_category(field: "Field", value: Any) -> str:
    text = read_text(value)
    # Folding can leave the normal form, and a value that was read before must stay as it is.
    return read_text(text.casefold()) if field.fold_case else text


def _read_long_text(field: "Field", value: Any) -> str:
    return read_text(value, limit=LONG_TEXT_LIMIT)


def _token(text: str, token_of: Callable[[str], str]) -> str:
    return token_of(text)


CATEGORY = Kind(
    _read_category,
    {"type": "string", "minLength": 1, "maxLength": TEXT_LIMIT},
    "grocery",
    encode=code_of,
    conceal=_token,
    is_category=True,
)
TEXT = Kind(_read_long_text, {"type": "string", "minLength": 1, "maxLength": LONG_TEXT_LIMIT}, "a text", conceal=_token)
