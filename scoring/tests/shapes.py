"""Small files in the shapes of public data sets, made by their documented columns."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from training.core.schema import load_schema
from training.tests.support import made_up_rows

ROWS = 1_000


def _frauds(random: np.random.Generator) -> np.ndarray:
    return random.random(ROWS) < 0.08


def _amounts(random: np.random.Generator, frauds: np.ndarray) -> np.ndarray:
    return np.round(random.lognormal(np.where(frauds, 5.5, 3.5), 0.8), 2)


def sparkov(directory: Path) -> Path:
    """Simulated card transactions with places, as the generator Sparkov writes them, in Parquet."""
    random = np.random.default_rng(1)
    frauds, cards = _frauds(random), random.integers(0, 40, ROWS)
    home = random.uniform(30, 45, 40), random.uniform(-110, -75, 40)
    frame = pd.DataFrame(
        {
            "trans_num": [f"t{number:05}" for number in range(ROWS)],
            "trans_date_trans_time": _times(random, days=150),
            "card": [f"card-{number:03}" for number in cards],
            "merchant": random.choice([f"Shop {number}" for number in range(30)], ROWS),
            "category": random.choice(["grocery_pos", "gas_transport", "travel", "misc_net"], ROWS),
            "amt": _amounts(random, frauds),
            "gender": np.where(cards % 2, "F", "M"),
            "job": [f"Job {number}" for number in cards],
            "lat": home[0][cards],
            "long": home[1][cards],
            "merch_lat": home[0][cards] + random.uniform(-1, 1, ROWS),
            "merch_long": home[1][cards] + random.uniform(-1, 1, ROWS),
            "is_fraud": frauds.astype(np.int8),
        }
    )
    path = directory / "sparkov.parquet"
    frame.to_parquet(path)
    return path


def handbook(directory: Path) -> Path:
    """The raw file of the fraud detection handbook."""
    random = np.random.default_rng(2)
    frauds = _frauds(random)
    frame = pd.DataFrame(
        {
            "TRANSACTION_ID": np.arange(ROWS),
            "TX_DATETIME": _times(random, days=150),
            "CUSTOMER_ID": random.integers(0, 100, ROWS),
            "TERMINAL_ID": random.integers(0, 150, ROWS),
            "TX_AMOUNT": _amounts(random, frauds),
            "TX_FRAUD": frauds.astype(np.int8),
            "TX_FRAUD_SCENARIO": np.where(frauds, random.integers(1, 4, ROWS), 0),
        }
    )
    path = directory / "handbook.parquet"
    frame.to_parquet(path)
    return path


def creditcard(directory: Path) -> Path:
    """ULB's creditcard.csv: numbers alone, no ids, and seconds since an unknown moment."""
    features, labels = made_up_rows(rows=ROWS, frauds=60)
    frame = pd.DataFrame(features, columns=load_schema("ulb").feature_names).assign(Class=labels)
    path = directory / "creditcard.csv"
    frame.astype({"Time": int}).to_csv(path, index=False)
    return path


def paysim(directory: Path) -> Path:
    """PaySim's mobile money: hours, accounts of which those that pay are new each time, and the bank's own flag."""
    random = np.random.default_rng(3)
    frauds = _frauds(random)
    amounts = _amounts(random, frauds)
    before = np.where(frauds, amounts, np.round(random.lognormal(5, 1, ROWS), 2))
    frame = pd.DataFrame(
        {
            "step": np.sort(random.integers(1, 744, ROWS)),
            "type": random.choice(["PAYMENT", "TRANSFER", "CASH_OUT", "DEBIT", "CASH_IN"], ROWS),
            "amount": amounts,
            "nameOrig": [f"C{number}" for number in random.permutation(10**6)[:ROWS]],
            "oldbalanceOrg": before,
            "newbalanceOrig": np.maximum(before - amounts, 0).round(2),
            "nameDest": [f"M{number}" for number in random.integers(0, 100, ROWS)],
            "oldbalanceDest": np.round(random.lognormal(5, 1, ROWS), 2),
            "newbalanceDest": np.round(random.lognormal(5, 1, ROWS), 2),
            "isFraud": frauds.astype(int),
            "isFlaggedFraud": (frauds & (amounts > 300)).astype(int),
        }
    )
    path = directory / "paysim.csv"
    frame.to_csv(path, index=False)
    return path


def ieee(directory: Path) -> Path:
    """IEEE-CIS, its transactions: 394 columns, most of them missing, and seconds since an unknown moment."""
    random = np.random.default_rng(4)
    frauds = _frauds(random)

    def sparse(values: np.ndarray, missing: float) -> np.ndarray:
        return np.where(random.random(ROWS) < missing, np.nan, values)

    frame: dict[str, Any] = {
        "TransactionID": np.arange(2_987_000, 2_987_000 + ROWS),
        "isFraud": frauds.astype(int),
        "TransactionDT": 86_400 + np.sort(random.integers(0, 180 * 86_400, ROWS)),
        "TransactionAmt": _amounts(random, frauds),
        "ProductCD": random.choice(list("WCHRS"), ROWS),
        "card1": random.integers(1_000, 1_400, ROWS),
        "card2": sparse(random.integers(100, 200, ROWS), 0.02),
        "card3": sparse(random.choice([150, 185], ROWS), 0.01),
        "card4": random.choice(np.array(["visa", "mastercard", None], object), ROWS),
        "card5": sparse(random.choice([226, 102, 166], ROWS), 0.01),
        "card6": random.choice(np.array(["debit", "credit", None], object), ROWS),
        "addr1": sparse(random.integers(100, 400, ROWS), 0.1),
        "addr2": sparse(np.full(ROWS, 87), 0.1),
        "dist1": sparse(random.integers(0, 3_000, ROWS), 0.6),
        "dist2": sparse(random.integers(0, 3_000, ROWS), 0.94),
        "P_emaildomain": random.choice(np.array(["gmail.com", "yahoo.com", None], object), ROWS),
        "R_emaildomain": random.choice(np.array(["gmail.com", "anonymous.com", None, None], object), ROWS),
    }
    frame |= {f"C{number}": random.integers(0, 50, ROWS).astype(float) for number in range(1, 15)}
    frame |= {f"D{number}": sparse(random.integers(0, 600, ROWS), 0.6) for number in range(1, 16)}
    frame |= {f"M{number}": random.choice(np.array(["T", "F", None], object), ROWS) for number in range(1, 10)}
    frame |= {f"V{number}": sparse(random.integers(0, 5, ROWS), 0.8) for number in range(1, 340)}
    path = directory / "ieee.csv"
    pd.DataFrame(frame).to_csv(path, index=False)
    return path


def bank(directory: Path) -> Path:
    """A bank's export: semicolons, decimal commas, Latin-1, the day first, yes and no in German."""
    random = np.random.default_rng(5)
    frauds, cards = _frauds(random), random.integers(0, 60, ROWS)
    born = pd.Timestamp("1950-01-01") + pd.to_timedelta(random.integers(0, 20_000, 60), unit="D")
    amounts = [f"{amount:,.2f}".translate(str.maketrans(",.", ".,")) for amount in _amounts(random, frauds) * 5]
    frame = pd.DataFrame(
        {
            "Buchungsnummer": np.arange(ROWS) + 70_000,
            "Buchungszeit": _times(random, days=120).strftime("%d.%m.%Y %H:%M"),
            "Kartennummer": [f"K{number:05}" for number in cards],
            "Händler": random.choice([f"Geschäft {number}" for number in range(40)], ROWS),
            "Branche": random.choice(["Lebensmittel", "Möbel", "Tankstelle"], ROWS),
            "Land": random.choice(["DE", "AT", "FR", "CH"], ROWS),
            "Währung": "EUR",
            "Betrag": amounts,
            "Geburtsdatum": born[cards].strftime("%d.%m.%Y"),
            "Betrug": np.where(frauds, "J", "N"),
        }
    )
    path = directory / "bank.csv"
    frame.to_csv(path, index=False, sep=";", encoding="latin-1")
    return path


def _times(random: np.random.Generator, *, days: int) -> pd.DatetimeIndex:
    seconds = np.sort(random.integers(0, days * 86_400, ROWS))
    return pd.DatetimeIndex(pd.Timestamp("2025-01-01") + pd.to_timedelta(seconds, unit="s"))


ALL = (sparkov, handbook, creditcard, paysim, ieee, bank)
