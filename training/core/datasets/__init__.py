"""Datasets: download, verify, validate, store, split."""

from pathlib import Path


def parquet_path(datasets_dir: Path, schema: str) -> Path:
    return datasets_dir / schema / "transactions.parquet"
