"""What a kind of values is made of."""

import math
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from training.core.schema.values import Field

TEXT_LIMIT = 64  # characters, also of identifiers of entities
# So many of the latest values are remembered by what is slow to compute of them.
REMEMBERED = 10_000


class ValueRefused(ValueError):
    """A value is refused. `code` is for programs, the message says what to send instead. A `malformed` value is of
    another type or form than declared; others are well-formed, but outside of what is declared."""

    def __init__(self, code: str, remedy: str, *, malformed: bool = False) -> None:
        super().__init__(remedy)
        self.code, self.remedy, self.malformed = code, remedy, malformed


@dataclass(frozen=True)
class Kind:
    """A kind of values.

    `read` checks and normalises a value of a request: the same result for equal values, however they are written, and
    for a value that was read before. Numbers become floats, all others texts. It raises `ValueRefused`.

    `encode` makes a float of a text that was read. `conceal` gives what is stored in place of a personal value, and is
    itself a value of the kind: it gets the value that was read and a function that makes a token of any text. A kind
    without it is not personal. `entity` is the part of a text that an entity is made of, and `learned` the part that a
    model learns, which has the same code as the text. `bounds` are the least and the largest number; `declares_bounds`
    says that fields of this kind declare their own. `document` is its JSON Schema, apart from bounds, and `example` a
    value. `takes` tells of numbers [n] float64, NaN among them, which of them `read` takes as they are, [n] bool; None
    where `read` has to look at each value.
    """

    read: Callable[["Field", Any], float | str]
    document: dict[str, Any]
    example: float | str | bool
    encode: Callable[[str], float] = lambda text: math.nan
    conceal: Callable[[Any, Callable[[str], str]], float | str] | None = None
    is_always_personal: bool = False
    entity: Callable[[str], str] = str
    learned: Callable[[str], str] = str
    is_number: bool = False
    is_category: bool = False
    declares_bounds: bool = False
    bounds: tuple[float, float] = field(default=(-math.inf, math.inf))
    takes: Callable[["Field", np.ndarray], np.ndarray] | None = None


def read_text(value: Any, *, limit: int = TEXT_LIMIT) -> str:
    """A text in the normal form NFKC, without white space around it.

    Raises:
        ValueRefused: it is no text, is empty, is longer than `limit` or has characters that cannot be printed.
    """
    if not isinstance(value, str):
        raise ValueRefused("not_a_text", f"Send a string of 1 to {limit} printable characters.", malformed=True)
    text = unicodedata.normalize("NFKC", value).strip()
    if not text or not text.isprintable():
        raise ValueRefused("invalid_text", f"Send a string of 1 to {limit} printable characters.", malformed=True)
    if len(text) > limit:
        raise ValueRefused("too_long", f"Send at most {limit} characters.")
    return text
