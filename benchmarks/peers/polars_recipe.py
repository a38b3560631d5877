"""The features of `handbook_recipe` in Polars: rolling aggregations by group.

A window of Polars takes in all rows of its last instant, also those that follow the row itself; the book's does not.
"""

import polars as pl

from benchmarks.peers.handbook_recipe import DELAY_DAYS, WINDOWS_DAYS


def features(transactions: pl.DataFrame) -> pl.DataFrame:
    """The features of transactions that are sorted by TX_DATETIME, in that order."""
    moment = pl.col("TX_DATETIME")
    made = transactions.with_columns(
        is_weekend=(moment.dt.weekday() >= 6).cast(pl.Int8), is_night=(moment.dt.hour() <= 6).cast(pl.Int8)
    )
    amount, fraud = pl.col("TX_AMOUNT"), pl.col("TX_FRAUD").cast(pl.Int32)

    def rolling(aggregate: str, value: pl.Expr, days: int, by: str) -> pl.Expr:
        function = getattr(value, f"rolling_{aggregate}_by")
        return function("TX_DATETIME", window_size=f"{days}d", closed="right").over(by)

    one = pl.col("one")
    made = made.with_columns(one=pl.lit(1, pl.Int32)).with_columns(
        *[rolling("sum", one, d, "CUSTOMER_ID").alias(f"customer_count_{d}d") for d in WINDOWS_DAYS],
        *[rolling("mean", amount, d, "CUSTOMER_ID").alias(f"customer_mean_amount_{d}d") for d in WINDOWS_DAYS],
        *[rolling("sum", one, DELAY_DAYS + d, "TERMINAL_ID").alias(f"count_{d}") for d in (0, *WINDOWS_DAYS)],
        *[rolling("sum", fraud, DELAY_DAYS + d, "TERMINAL_ID").alias(f"frauds_{d}") for d in (0, *WINDOWS_DAYS)],
    )
    made = made.with_columns(
        (pl.col(f"count_{d}") - pl.col("count_0")).alias(f"terminal_count_{d}d") for d in WINDOWS_DAYS
    )
    return made.with_columns(
        ((pl.col(f"frauds_{d}") - pl.col("frauds_0")) / pl.col(f"terminal_count_{d}d"))
        .fill_nan(0.0)
        .alias(f"terminal_risk_{d}d")
        for d in WINDOWS_DAYS
    )
