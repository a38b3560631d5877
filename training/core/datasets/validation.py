"""Checks the values of a dataset against its schema, by counts that add up over its parts."""

from collections import Counter

import pandas as pd

from training.core.datasets.storage import Report
from training.core.exceptions import DatasetError
from training.core.schema import RATE_STALE, Schema

ROWS, CONVERTED, STALE, OF_LABEL = "rows", "converted", "stale", "with the label"
MISSING, OUTSIDE, WRONG = "missing", "out of range", "neither 0 nor 1"

Counts = Counter[tuple[str, str]]


def counted(frame: pd.DataFrame, schema: Schema) -> Counts:
    """What `report` has to know of these rows: how many there are of each kind, and of each column or label."""
    nulls = frame.isna().sum()
    labels = frame[schema.label]
    found: Counts = Counter({(MISSING, str(name)): int(count) for name, count in nulls.items()})
    for field in schema.features:
        if field.is_number:
            outside = ~frame[field.name].between(field.lowest, field.highest)
            found[OUTSIDE, field.name] = int(outside.sum() - nulls[field.name])
    found[WRONG, schema.label] = int((~labels.isin([0, 1])).sum())
    found[OF_LABEL, "0"], found[OF_LABEL, "1"] = int((labels == 0).sum()), int((labels == 1).sum())
    found[ROWS, ""] = len(frame)
    if schema.amount_currency:
        found[CONVERTED, ""] = int((frame[schema.amount_currency] != schema.currency).sum())
        found[STALE, ""] = int(frame[RATE_STALE].sum())
    return found


def report(counts: Counts, schema: Schema, *, source_sha256: str, duplicates: int = 0, left_out: int = 0) -> Report:
    """Check what was counted of all rows. `left_out` is the number of copies that were left out, for the report.

    Raises:
        DatasetError: there are no rows, values are missing or out of range, or labels are not 0 and 1 or all the same;
            names the columns.
    """
    if not counts[ROWS, ""]:
        raise DatasetError("There are no rows, only column names.")
    optional = {field.name for field in schema.features if field.optional}
    optional |= {entity.name for entity in schema.entities if entity.optional}
    faults = [
        f"{name}: {count} {what}"
        for (what, name), count in counts.items()
        if what in (MISSING, OUTSIDE, WRONG) and count and not (what == MISSING and name in optional)
    ]
    if faults:
        raise DatasetError("The data do not fit the schema: " + "; ".join(faults) + ".")
    for label in ("0", "1"):
        if counts[OF_LABEL, label] == counts[ROWS, ""]:
            raise DatasetError(
                f"The column {schema.label} has nothing but {label}: training needs frauds (1) and legitimate "
                "transactions (0)."
            )
    return Report(
        schema=schema.name,
        source_sha256=source_sha256,
        rows=counts[ROWS, ""],
        frauds=counts[OF_LABEL, "1"],
        duplicates=duplicates,
        nulls=sum(count for (what, _), count in counts.items() if what == MISSING),
        out_of_range=0,
        left_out=left_out,
        converted=counts[CONVERTED, ""],
        stale=counts[STALE, ""],
    )


def validate(frame: pd.DataFrame, schema: Schema, *, source_sha256: str) -> Report:
    """Check all rows of a dataset without ids.

    Raises:
        DatasetError: as `report`.
    """
    duplicates = int(frame.duplicated().sum())
    return report(counted(frame, schema), schema, source_sha256=source_sha256, duplicates=duplicates)
