"""Proposes how the rows are split: by time, if each part has both frauds and legitimate transactions."""

from datetime import date, timedelta
from typing import Any

import numpy as np

from training.core.datasets.splits import by_time, past_and_future
from training.core.datasets.storage import Timeline
from training.core.drafts.roles import Roles

PART = 0.15  # of the days, for validation and for the test


def propose(roles: Roles, delay_days: int) -> dict[str, Any]:
    """The section `split` of the training configuration. Empty if only the default, at random, is possible."""
    time = roles.time
    if not time.event:
        parts = past_and_future(time.moments)
        return {"protocol": "time"} if _has_both(vars(parts), roles) else {}
    if not roles.entities:
        return {}
    day = time.moments.astype("datetime64[D]")
    last: date = day.max().item()
    days = (last - day.min().item()).days + 1 - 2 * delay_days
    part = max(1, round(days * PART))
    test_start = last - timedelta(days=part - 1)
    config = {"test_days": part, "validation_days": part, "train_days": max(1, days - 2 * part), "known_card_days": 0}
    timeline = Timeline(day.astype(np.int64), roles.entities[0].codes.astype(np.int64))
    split = by_time(timeline, roles.labels, test_start=test_start, delay_days=delay_days, **config)
    if not _has_both(vars(split), roles):
        return {}
    return {"protocol": "time", "test_start": test_start.isoformat()} | config


def _has_both(parts: dict[str, np.ndarray], roles: Roles) -> bool:
    return all(0 < roles.labels[rows].sum() < len(rows) for rows in parts.values())


def span_days(moments: np.ndarray) -> float:
    """The days from the first event to the last."""
    return float(np.ptp(moments) / np.timedelta64(1, "D"))
