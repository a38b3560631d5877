"""Converts the amounts of a raw file to the base currency of its schema, row by row as a web process does."""

import numpy as np
import pandas as pd

from training.core import stages
from training.core.exceptions import DatasetError
from training.core.exchange.rates import AmountRefused, Rates
from training.core.schema import EVENT_TIME, RATE_STALE, SENT_AMOUNT, Schema


def converted(frame: pd.DataFrame, schema: Schema, rates: Rates) -> pd.DataFrame:
    """The frame with converted amounts, and two more columns: the amounts as they were sent, and whether their rate was
    too old. Rows without an amount, a currency or a time are left for `raw.validate` to refuse.

    Raises:
        DatasetError: amounts cannot be converted; names the first row of each currency, the reason and the remedy.
    """
    stages.enter(f"Converting amounts to {schema.currency}")
    moments = frame[EVENT_TIME].dt.tz_convert(None).to_numpy().astype("datetime64[us]").astype(np.int64).tolist()
    sent = frame[schema.amount].astype(float).to_numpy().tolist()
    complete = frame[[EVENT_TIME, schema.amount, schema.amount_currency]].notna().all(axis=1).to_numpy()
    amounts, stale = np.full(len(frame), np.nan), np.zeros(len(frame), bool)
    refused: dict[tuple[str, str], list[str]] = {}
    for row, currency in enumerate(frame[schema.amount_currency]):
        if not complete[row]:
            continue
        try:
            made = rates.of_transaction(schema, sent[row], currency, moments[row])
        except AmountRefused as error:
            faults = refused.setdefault((currency, error.code), [])
            faults.append("" if faults else f"{sent[row]:.15g} {currency} in row {row + 1}: {error.remedy}")
            continue
        sent[row], amounts[row], stale[row] = made.sent, made.amount, made.stale
    if refused:
        lines = [f"{faults[0]} ({len(faults):,} such rows)" for faults in refused.values()]
        raise DatasetError(f"Column {schema.amount}: amounts cannot be converted.\n  " + "\n  ".join(lines))
    return frame.assign(**{schema.amount: amounts, SENT_AMOUNT: sent, RATE_STALE: stale})
