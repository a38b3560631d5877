"""Where files live that all machines share: a directory, or a bucket of an S3-compatible store.

Names are relative to `STORAGE_URL`, with slashes. fsspec does the work, so what is said here holds for both.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import IO, Any, cast

import fsspec
from django.conf import settings

from training.core.exceptions import StoreUnavailable

BLOCK = 1 << 20
# A silent store is waited for so long, about four times at most.
CONNECT_S, READ_S = 5, 20
OF_CLIENTS = {"botocore", "aiobotocore", "aiohttp", "urllib3"}
NO_BUCKET = "NoSuchBucket"


@contextmanager
def open_new(name: str) -> Iterator[IO[bytes]]:
    """A new file to write, in place of one of the same name. Call `keep` before the file is closed.

    Raises:
        StoreUnavailable: the store failed.
    """
    with _answered():
        system, root = _place()
        file = cast(IO[bytes], system.open(f"{root}/{name}", "wb"))
    with _answered(of_system=False), file:
        yield file


def keep(file: IO[bytes]) -> None:
    """Have a file of a directory on its disk before it is acknowledged. A bucket keeps what it has closed."""
    file.flush()
    try:
        number = file.fileno()
    except (OSError, AttributeError, ValueError):
        return
    os.fsync(number)


def write(name: str, content: bytes) -> None:
    """Write a file as a whole, in place of one of the same name.

    Raises:
        StoreUnavailable: the store failed.
    """
    with _answered(), open_new(name) as file:
        file.write(content)
        keep(file)


@contextmanager
def open_stored(name: str) -> Iterator[IO[bytes]]:
    """A file to read. It can be sought in.

    Raises:
        FileNotFoundError: there is no such file.
        StoreUnavailable: the store failed.
    """
    with _answered():
        system, root = _place()
        file = cast(IO[bytes], system.open(f"{root}/{name}", "rb", block_size=BLOCK))
    with _answered(of_system=False), file:
        yield file


def read_range(name: str, start: int, size: int) -> bytes:
    """Raises: as `read`."""
    with _answered():
        system, root = _place()
        return cast(bytes, system.cat_file(f"{root}/{name}", start=start, end=start + size))


def read(name: str) -> bytes:
    """The content of a file.

    Raises:
        FileNotFoundError: there is no such file.
        StoreUnavailable: the store failed.
    """
    with _answered():
        system, root = _place()
        return cast(bytes, system.cat_file(f"{root}/{name}"))


def delete(name: str) -> None:
    """Delete a file or a folder with all that is in it. One that is not there is no error."""
    with _answered(), suppress(FileNotFoundError):
        system, root = _place()
        system.rm(f"{root}/{name}", recursive=True)


@contextmanager
def _answered(*, of_system: bool = True) -> Iterator[None]:
    """Have what a store may raise be one exception. With `of_system`, errors of the operating system are the store's,
    too; otherwise they may be those of whoever sends a file.

    Raises:
        StoreUnavailable: the store failed.
    """
    try:
        yield
    except FileNotFoundError as error:
        if _code_of(error) == NO_BUCKET:
            raise StoreUnavailable(f"{settings.STORAGE_URL}: there is no such bucket.") from error
        raise
    except Exception as error:  # the clients of buckets have no common class of exceptions
        is_systems = of_system and isinstance(error, OSError)
        if is_systems or type(error).__module__.partition(".")[0] in OF_CLIENTS:
            raise StoreUnavailable(f"{settings.STORAGE_URL}: {error}") from error
        raise


def _code_of(error: FileNotFoundError) -> str | None:
    """What a store said is not there, by S3's name of the fault."""
    response = getattr(error.__cause__, "response", None) or {}
    return response.get("Error", {}).get("Code")


def _place() -> tuple[Any, str]:
    # A connection to a bucket does not survive a fork.
    return _opened(settings.STORAGE_URL, tuple(sorted(settings.STORAGE_OPTIONS.items())), os.getpid())


@lru_cache(maxsize=4)
def _opened(url: str, options: tuple[tuple[str, str], ...], process: int) -> tuple[Any, str]:
    if url.startswith("s3://"):
        system, root = fsspec.core.url_to_fs(url.rstrip("/"), **_of_s3(dict(options)))
        system.retries = 2  # beside those of the library below
        return system, root
    return fsspec.core.url_to_fs(url.rstrip("/"), auto_mkdir=True)


def _of_s3(options: Mapping[str, str]) -> dict[str, Any]:
    given = {"key": options.get("key"), "secret": options.get("secret"), "endpoint_url": options.get("endpoint")}
    waits = {"connect_timeout": CONNECT_S, "read_timeout": READ_S, "retries": {"max_attempts": 1}}
    # Listings would be remembered, and what another machine has written meanwhile would not be found.
    fixed = {"use_listings_cache": False, "config_kwargs": waits}
    return {name: value for name, value in given.items() if value} | fixed
