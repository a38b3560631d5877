"""The fifteen features of the fraud detection handbook, by the book's own recipe: pandas, group by group.

After chapter 3, "Baseline feature transformation", of "Reproducible Machine Learning for Credit Card Fraud Detection"
(Le Borgne, Siblini, Lebichot, Bontempi; ULB, 2022).
"""

import pandas as pd

WINDOWS_DAYS = (1, 7, 30)
DELAY_DAYS = 7


def features(transactions: pd.DataFrame) -> pd.DataFrame:
    """The features of transactions that have the raw file's columns, in the order of their TRANSACTION_ID.

    The columns have the names that `training/schemas/handbook.toml` gives them.
    """
    made = transactions[["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD"]].copy()
    made["is_weekend"] = made.TX_DATETIME.apply(lambda moment: int(moment.weekday() >= 5))
    made["is_night"] = made.TX_DATETIME.apply(lambda moment: int(moment.hour <= 6))
    made = pd.concat([customer_features(group) for _, group in made.groupby("CUSTOMER_ID")])
    made = pd.concat([terminal_features(group) for _, group in made.groupby("TERMINAL_ID")])
    return made.sort_values("TRANSACTION_ID").reset_index(drop=True)


def customer_features(transactions: pd.DataFrame) -> pd.DataFrame:
    """Of one customer: how many transactions, and of what amount."""
    made = transactions.sort_values("TX_DATETIME", kind="stable")
    amounts = made.set_index("TX_DATETIME").TX_AMOUNT
    for days in WINDOWS_DAYS:
        total, count = amounts.rolling(f"{days}D").sum(), amounts.rolling(f"{days}D").count()
        made[f"customer_count_{days}d"] = list(count)
        made[f"customer_mean_amount_{days}d"] = list(total / count)
    return made


def terminal_features(transactions: pd.DataFrame) -> pd.DataFrame:
    """Of one terminal: how many transactions, and which share of them was fraud, with a delay."""
    made = transactions.sort_values("TX_DATETIME", kind="stable")
    frauds = made.set_index("TX_DATETIME").TX_FRAUD
    delayed_frauds, delayed_count = frauds.rolling(f"{DELAY_DAYS}D").sum(), frauds.rolling(f"{DELAY_DAYS}D").count()
    for days in WINDOWS_DAYS:
        window = frauds.rolling(f"{DELAY_DAYS + days}D")
        count = window.count() - delayed_count
        made[f"terminal_count_{days}d"] = list(count)
        made[f"terminal_risk_{days}d"] = list((window.sum() - delayed_frauds) / count)
    return made.fillna(0)
