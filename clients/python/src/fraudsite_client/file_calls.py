"""The calls about files of transactions, as plans: see `flow`."""

import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

from fraudsite_client.calls import get, part, read
from fraudsite_client.errors import NotReached
from fraudsite_client.flow import Attempt, Patience, Pause, Plan, send
from fraudsite_client.models import File

PATH = "/api/v1/batches"
# Files take longer than single calls. `timeout_s` bounds each wait for the network, and not a whole upload.
PATIENCE = Patience(deadline_s=3_600.0, timeout_s=60.0)
MEDIA_TYPES = {".csv": "text/csv", ".jsonl": "application/x-ndjson", ".parquet": "application/vnd.apache.parquet"}
PACKINGS = {".gz": "gzip", ".zst": "zstd"}
UNDER_WAY = {"receiving", "waiting", "scoring"}


def send_file(
    path: Path, mode: str, schema: str | None, ignore: Iterable[str], name: str | None, key: str | None, wait: Patience
) -> Plan[File]:
    """Send a file. Its key makes that it is taken once, however often it is sent.

    Raises:
        ValueError: its name does not tell its format.
    """
    headers = headers_of(path) | {"Idempotency-Key": key or f"py-{uuid.uuid4()}"}
    given = {"mode": mode, "schema": schema, "ignore": ",".join(ignore), "name": name or path.name}
    query = [(option, value) for option, value in given.items() if value]

    def make(left_s: float) -> Attempt:
        return Attempt("POST", PATH, min(left_s, wait.timeout_s), query=query, headers=headers, upload=path)

    return read(File, (yield from send(make, wait)))


def headers_of(path: Path) -> dict[str, str]:
    """What a file is, by its name, as in `night.csv.gz`.

    Raises:
        ValueError: the name does not tell.
    """
    name = Path(path.name.lower())
    packing = PACKINGS.get(name.suffix)
    media = MEDIA_TYPES.get(Path(name.stem).suffix if packing else name.suffix)
    if media is None:
        raise ValueError(f"{path.name}: name it with .csv, .jsonl or .parquet, and .gz or .zst if it is packed.")
    return {"Content-Type": media} | ({"Content-Encoding": packing} if packing else {})


def file(key: str, patience: Patience) -> Plan[File]:
    return read(File, (yield from get(f"{PATH}/{part(key)}", patience)))


def await_file(
    key: str, every_s: float, limit_s: float | None, on_progress: Callable[[File], None] | None, patience: Patience
) -> Plan[File]:
    """Watch a file until it comes to its end.

    Raises:
        NotReached: it is still under way after `limit_s`.
    """
    give_up = None if limit_s is None else time.monotonic() + limit_s
    while True:
        found = yield from file(key, patience)
        if on_progress:
            on_progress(found)
        if found.state not in UNDER_WAY:
            return found
        if give_up is not None and time.monotonic() + every_s > give_up:
            raise NotReached(f"The file {key} is still {found.state}: {found.rows_done} of {found.rows} rows.")
        yield Pause(every_s)


def cancel_file(key: str, patience: Patience) -> Plan[File]:
    made = send(lambda left_s: Attempt("POST", f"{PATH}/{part(key)}/cancel", left_s), patience)
    return read(File, (yield from made))


def delete_file(key: str, patience: Patience) -> Plan[None]:
    yield from send(lambda left_s: Attempt("DELETE", f"{PATH}/{part(key)}", left_s), patience)


def save(key: str, what: str, path: Path, form: str | None, wait: Patience) -> Plan[Path]:
    """Save the result of a file, or its refused rows. `path` is there as a whole or as it was before.

    Raises:
        ValueError: no format was given, and the name does not tell it.
    """
    chosen = form or path.suffix.removeprefix(".").lower()
    if f".{chosen}" not in MEDIA_TYPES:
        raise ValueError(f"{path.name}: name it with .csv, .jsonl or .parquet, or say the format.")

    def make(left_s: float) -> Attempt:
        timeout_s = min(left_s, wait.timeout_s)
        return Attempt("GET", f"{PATH}/{part(key)}/{what}", timeout_s, query=[("format", chosen)], download=path)

    yield from send(make, wait)
    return path
