"""Downloads or copies one large file, and verifies it."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bars

from training.core import stages
from training.core.exceptions import DatasetError

CHUNK_BYTES = 1 << 20
TIMEOUT = httpx.Timeout(30, connect=5)


class Progress:
    """Shows a progress bar per step, in bytes."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def step(self, title: str, total_bytes: int | None, done_bytes: int = 0) -> "Iterator[Step]":
        columns = [TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()]
        with Bars(*columns, TimeRemainingColumn(), console=self._console) as bars:
            yield Step(title, bars, bars.add_task(title, total=total_bytes, completed=done_bytes))


class Step:
    def __init__(self, title: str, bars: Bars, task: TaskID) -> None:
        self._title, self._bars, self._task = title, bars, task
        self.advance(0)

    def advance(self, count_bytes: int) -> None:
        self._bars.advance(self._task, count_bytes)
        stages.enter(f"{self._title}: {self._bars.tasks[0].completed / 1e6:,.0f} MB")


def download(url: str, target: Path, progress: Progress) -> None:
    """Download to `target`. An interrupted download is resumed.

    Raises:
        DatasetError: the server cannot be reached, refuses, or stops early; the received part is kept for the next try.
    """
    have = target.stat().st_size if target.exists() else 0
    # A compressed transfer could not be resumed.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with httpx.stream("GET", url, headers=headers, timeout=TIMEOUT, follow_redirects=True) as response:
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # all of it is here
            response.raise_for_status()
            resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
            length = response.headers.get("Content-Length")
            have = have if resumed else 0
            with (
                progress.step(f"Downloading {url}", have + int(length) if length else None, have) as step,
                target.open("ab" if resumed else "wb") as file,
            ):
                for chunk in response.iter_raw():  # written at once, so that an interruption loses nothing
                    file.write(chunk)
                    step.advance(len(chunk))
    except httpx.HTTPStatusError as error:
        raise DatasetError(f"{url}: the server answers {error.response.status_code}.") from error
    except (httpx.HTTPError, OSError) as error:
        raise DatasetError(f"{url}: {error or type(error).__name__}") from error


def copy(source: Path, target: Path, progress: Progress) -> None:
    """Copy a local file.

    Raises:
        DatasetError: the file does not exist, or cannot be read.
    """
    try:
        with (
            progress.step(f"Copying {source.name}", source.stat().st_size) as step,
            source.open("rb") as original,
            target.open("wb") as file,
        ):
            while chunk := original.read(CHUNK_BYTES):
                file.write(chunk)
                step.advance(len(chunk))
    except OSError as error:
        raise DatasetError(f"{source} cannot be read: {error}") from error


def verify(path: Path, *, size_bytes: int, sha256: str, progress: Progress) -> None:
    """Check a file against its published size and hash.

    Raises:
        DatasetError: the file is another one, or incomplete.
    """
    found_bytes = path.stat().st_size
    if found_bytes != size_bytes:
        raise DatasetError(f"Expected {size_bytes:,} bytes, found {found_bytes:,}.")
    digest = hashlib.sha256()
    with progress.step("Checking SHA-256", size_bytes) as step, path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            step.advance(len(chunk))
    if digest.hexdigest() != sha256:
        raise DatasetError(f"Expected SHA-256 {sha256}, found {digest.hexdigest()}.")
