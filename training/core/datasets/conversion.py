"""Converts the amounts of a raw file to the base currency of its schema, row by row as a web process does."""

from typing import Self

import numpy as np
import pandas as pd

from training.core.datasets.refusals import Refused
from training.core.exchange.rates import AmountRefused, Rates
from training.core.schema import EVENT_TIME, RATE_STALE, SENT_AMOUNT, Schema


class AmountsRefused(Refused):
    """Amounts cannot be converted. `faults` are the first row, and how many there are, of each currency and reason."""

    def __init__(self, faults: dict[tuple[str, str], tuple[str, int]]) -> None:
        super().__init__(0, len(faults), [], "")
        self.faults = faults

    def add(self, later: Self) -> None:
        for key, (told, count) in later.faults.items():
            first, before = self.faults.get(key, (told, 0))
            self.faults[key] = first, before + count

    def __str__(self) -> str:
        lines = [f"{told} ({count:,} such rows)" for told, count in self.faults.values()]
        return "amounts cannot be converted.\n  " + "\n  ".join(lines)


def converted(frame: pd.DataFrame, schema: Schema, rates: Rates) -> pd.DataFrame:
    """The frame with converted amounts, and two more columns: the amounts as they were sent, and whether their rate was
    too old. Rows without an amount, a currency or a time are left to be refused as missing. The index are the numbers
    of the rows, from 0.

    Raises:
        AmountsRefused: amounts cannot be converted; names the first row of each currency, the reason and the remedy.
    """
    moments = frame[EVENT_TIME].dt.tz_convert(None).to_numpy().astype("datetime64[us]").astype(np.int64).tolist()
    sent = frame[schema.amount].to_numpy().tolist()
    complete = frame[[EVENT_TIME, schema.amount, schema.amount_currency]].notna().all(axis=1).to_numpy()
    amounts, stale = np.full(len(frame), np.nan), np.zeros(len(frame), bool)
    refused: dict[tuple[str, str], tuple[str, int]] = {}
    for row, currency in enumerate(frame[schema.amount_currency]):
        if not complete[row]:
            continue
        try:
            made = rates.of_transaction(schema, sent[row], currency, moments[row])
        except AmountRefused as error:
            told = f"{sent[row]:.15g} {currency} in row {frame.index[row] + 1}: {error.remedy}"
            first, before = refused.get((currency, error.code), (told, 0))
            refused[currency, error.code] = first, before + 1
            continue
        sent[row], amounts[row], stale[row] = made.sent, made.amount, made.stale
    if refused:
        raise AmountsRefused(refused)
    return frame.assign(**{schema.amount: amounts, SENT_AMOUNT: sent, RATE_STALE: stale})
