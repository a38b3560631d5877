"""Stores past traffic without scores, so that cards have histories before their first call."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from django.db import transaction

from scoring.api.validation import validate
from scoring.models import Label, Transaction
from scoring.simulation import ID_PREFIX, body_of
from scoring.worker import arrivals
from scoring.worker.rows import transaction_of
from training.core.features.replay import arrivals_by_time
from training.core.schema import EVENT_TIME, TRANSACTION_ID, Schema

ROWS_AT_ONCE = 2_000


@transaction.atomic
def store(schema: Schema, rows: pd.DataFrame, client_id: int, on_rows: Callable[[int], object]) -> None:
    """Store rows of a dataset as transactions of a client and their labels, and build the histories from them: all or
    nothing.

    The rows are sorted by event time. Each arrives at that time, and its label after the delay of the schema; live
    arrivals come after all of these, so later labels are known a little early. There must be no transactions of the
    schema yet. `on_rows` is called with the number of rows so far.
    """
    event_time = rows[EVENT_TIME].dt.tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)
    sequence, label_sequence = (each.tolist() for each in arrivals_by_time(event_time, schema.label_delay_days))
    labels = rows[schema.label].tolist()
    columns = list(rows.columns)
    for first in range(0, len(rows), ROWS_AT_ONCE):
        batch = rows[first : first + ROWS_AT_ONCE].itertuples(index=False)
        stored = [
            _transaction(schema, dict(zip(columns, row, strict=True)), client_id, sequence[number])
            for number, row in enumerate(batch, first)
        ]
        Transaction.objects.bulk_create(stored)
        Label.objects.bulk_create(
            Label(
                transaction=row,
                is_fraud=bool(labels[number]),
                verdict=bool(labels[number]),
                kind=Label.Kind.FRAUD if labels[number] else Label.Kind.LEGITIMATE,
                sequence=label_sequence[number],
                source=Label.Source.IMPORT,
            )
            for number, row in enumerate(stored, first)
        )
        on_rows(first + len(stored))
    arrivals.rebuild(schema, lambda entity, share: None)


def _transaction(schema: Schema, row: dict[str, Any], client_id: int, sequence: int) -> Transaction:
    submission = validate(
        body_of(schema, row) | {"transaction_id": f"{ID_PREFIX}past-{row[TRANSACTION_ID]}"},
        schema=schema,
        client_id=client_id,
        received_at=row[EVENT_TIME],
        deadline_ms=0,
        clock_skew_s=0,
    )
    return transaction_of(submission, sequence)
