"""The tokens of entities: numbers them, and makes the codes by which histories of other entities keep them."""

from collections.abc import Hashable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from training.core.features.aggregates import MISSING
from training.core.schema.kinds.categories import code_of

FEW_TOKENS = 2_000  # up to this number a dictionary is faster than pandas

Tokens = Sequence[Hashable] | np.ndarray


def factorize(parts: list[Tokens]) -> tuple[list[Any], np.ndarray]:
    """The distinct tokens, and the index of each token of all parts, concatenated, among them."""
    if sum(map(len, parts)) < FEW_TOKENS:
        every = list(chain.from_iterable(parts))
        distinct = list(dict.fromkeys(every))
        places = dict(zip(distinct, range(len(distinct)), strict=True))
        return distinct, np.fromiter(map(places.__getitem__, every), np.int64, len(every))
    codes, tokens = pd.factorize(np.concatenate([np.asarray(part) for part in parts]))
    return tokens.tolist(), codes.astype(np.int64, copy=False)


def without_missing(tokens: list[Any], codes: np.ndarray) -> tuple[list[Hashable], np.ndarray]:
    """The same without the tokens that stand for a missing entity, whose code becomes -1."""
    if tokens and isinstance(tokens[0], str):  # so are the others, and at most one of them is empty
        if "" not in tokens:
            return tokens, codes
        place = tokens.index("")
        return [*tokens[:place], *tokens[place + 1 :]], np.where(codes == place, -1, codes - (codes > place))
    missing = np.array([is_missing(token) for token in tokens], bool)
    if not missing.any():
        return tokens, codes
    places = np.where(missing, -1, np.cumsum(~missing) - 1)
    return [token for token, gone in zip(tokens, missing, strict=True) if not gone], places[codes]


def as_values(tokens: Tokens) -> np.ndarray:
    """Tokens [n] as values that are equal or not, [n] int32: a text's `code_of`, a number itself, or `MISSING`.

    Raises:
        OverflowError: a number is too large for this; give texts.
    """
    distinct, places = factorize([tokens])
    values = [
        MISSING if is_missing(token) else int(code_of(token)) if isinstance(token, str) else int(token)
        for token in distinct
    ]
    return np.array(values, np.int32)[places]


def is_missing(token: Any) -> bool:
    """Whether a token stands for a missing entity."""
    return token == "" if isinstance(token, str) else token < 0
