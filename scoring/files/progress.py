"""How far a file is, for clients and people."""

from datetime import datetime
from typing import Any

from django.utils import timezone

from scoring.files.models import BatchFile, State

TOLD = (
    *("id", "name", "state", "mode", "schema", "format", "size_bytes", "sha256"),
    *("rows", "rows_done", "scored", "refused", "rows_per_second", "eta_s", "detail"),
    *("created_at", "started_at", "finished_at", "expires_at"),
)


def rate_of(file: BatchFile, now: datetime | None = None) -> float | None:
    """Rows per second, on the average since the first was scored; None before that."""
    if file.started_at is None or not file.done:
        return None
    until = file.finished_at or now or timezone.now()
    return round(file.done / max((until - file.started_at).total_seconds(), 0.001), 1)


def eta_of(file: BatchFile, now: datetime | None = None) -> float | None:
    """For how many seconds a file is still scored, at the rate so far; None if nobody knows."""
    rate = rate_of(file, now)
    if file.state != State.SCORING or not rate or file.rows is None:
        return None
    return round((file.rows - file.done) / rate, 1)


def progress_of(file: BatchFile) -> dict[str, Any]:
    """What a client is told: the fields of `TOLD`."""
    return {
        "id": file.pk,
        "name": file.name,
        "state": file.state,
        "mode": file.mode,
        "schema": file.schema,
        "format": file.format,
        "size_bytes": file.size_bytes,
        "sha256": file.sha256,
        "rows": file.rows,
        "rows_done": file.done,
        "scored": file.scored,
        "refused": file.refused,
        "rows_per_second": rate_of(file),
        "eta_s": eta_of(file),
        "detail": file.fault or None,
        "created_at": file.created_at,
        "started_at": file.started_at,
        "finished_at": file.finished_at,
        "expires_at": file.expires_at,
    }
