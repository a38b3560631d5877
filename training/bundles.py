"""The bundles of registered versions: in the store that all machines share, and copies in each machine's `BUNDLES_DIR`.

Training writes a bundle to the directory, and registering uploads it. Who needs a bundle that is not in the directory
fetches it. In the store a bundle is there once its signature is: that is written last, and read first. What is fetched
is checked by signature and hashes before it is parsed, and appears in the directory as a whole or not at all.
"""

import fcntl
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from django.conf import settings

from training import store
from training.core.bundle import (
    MANIFEST,
    SIGNATURE,
    Bundle,
    check_content,
    checked_files,
    load_bundle,
    signed_hashes,
    write_unfinished,
)
from training.core.exceptions import BundleRefused, SchemaChanged, StoreUnavailable
from training.models import ModelVersion, Stage

logger = logging.getLogger(__name__)

# A store that did not answer is asked again for the same bundle after this time.
RETRY_S = 5.0
# What a process that was killed has left unfinished is deleted after this time.
LEFT_AFTER_S = 3_600

_failed: dict[str, tuple[float, str]] = {}


def share(path: Path) -> None:
    """Upload a bundle, in place of one of its name that was not registered, unless the store has it.

    Raises:
        StoreUnavailable: the store failed. What it has of the bundle counts as nothing.
        BundleRefused: the bundle in the directory is not as it was signed.
    """
    if not is_shared(path):
        _upload(path, _checked(path))


def mend(path: Path) -> bool:
    """Upload a bundle if the store has none of its name that is intact. Returns whether it was uploaded.

    Raises:
        StoreUnavailable: the store failed.
        BundleRefused: it is intact neither here nor there.
    """
    try:
        _of_store(path.name)
        return False
    except (FileNotFoundError, BundleRefused):
        _upload(path, _checked(path))
        return True


def is_shared(path: Path) -> bool:
    """Whether the store has this very bundle.

    Raises:
        StoreUnavailable: the store did not answer.
    """
    with suppress(FileNotFoundError):
        return store.read(_name(path.name, SIGNATURE)) == (path / SIGNATURE).read_bytes()
    return False


def load(path: Path) -> Bundle:
    """Check and read a bundle: this machine's copy, in the directory `path`, or else that of the store.

    Raises:
        BundleRefused: see `load_bundle`; or it is neither here nor in the store, or the store does not answer.
    """
    try:
        bundle = load_bundle(path, signing_key=settings.BUNDLE_SIGNING_KEY)
    except SchemaChanged:
        raise  # it is intact, and that of the store is the same
    except BundleRefused as here:
        _fetch(path, here)
        bundle = load_bundle(path, signing_key=settings.BUNDLE_SIGNING_KEY)
    with suppress(OSError):
        os.utime(path)  # for `_make_room`
    return bundle


def be_here(path: Path) -> Path:
    """Fetch a bundle if its directory is not there, and return that. What is there is not checked.

    Raises:
        BundleRefused: it is neither here nor in the store, or the store does not answer.
    """
    if not path.is_dir():
        _fetch(path, BundleRefused(f"{path.name}: its bundle is not here."))
    return path


def faults(path: Path) -> tuple[str, str]:
    """What is wrong with this machine's copy of a bundle, and with that of the store; empty if nothing is."""
    here = there = ""
    try:
        _checked(path)
    except BundleRefused as refusal:
        here = str(refusal) if path.is_dir() else "not here"
    try:
        _of_store(path.name)
    except FileNotFoundError:
        there = "not there"
    except (BundleRefused, StoreUnavailable) as error:
        there = str(error)
    return here, there


def _fetch(path: Path, here: BundleRefused) -> None:
    """Fetch a bundle, in place of a copy that is refused for the reason `here`.

    Raises:
        BundleRefused: there is no better one in the store, or the store does not answer.
    """
    version = path.name
    failed_at, reason = _failed.get(version, (-RETRY_S, ""))
    if time.monotonic() - failed_at < RETRY_S:
        raise BundleRefused(reason)
    try:
        files = _of_store(version)
    except FileNotFoundError:
        if path.is_dir():
            raise here from None
        raise BundleRefused(
            f"{version}: its bundle is neither in {path.parent} nor in the store ({settings.STORAGE_URL}). "
            "On the machine that has it, run `manage.py models share`."
        ) from None
    except StoreUnavailable as error:
        reason = f"{here} The store, which should have it, cannot be asked: {error}"
        _failed[version] = time.monotonic(), reason
        raise BundleRefused(reason) from error
    _failed.pop(version, None)
    unfinished = write_unfinished(path, files)
    with _alone():
        try:
            _place(unfinished, path)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        _make_room(path)
    logger.info("The bundle of %s was fetched from the store.", version)


def _of_store(version: str) -> dict[str, bytes]:
    """The files of a bundle in the store, checked.

    Raises:
        FileNotFoundError: it is not there, or not as a whole.
        StoreUnavailable: the store does not answer.
        BundleRefused: it is not as it was signed.
    """
    signature, manifest = (store.read(_name(version, name)) for name in (SIGNATURE, MANIFEST))
    hashes = signed_hashes(version, manifest, signature, signing_key=settings.BUNDLE_SIGNING_KEY)
    files = {}
    for name, expected in hashes.items():
        files[name] = store.read(_name(version, name))
        check_content(version, name, files[name], expected)
    return files | {MANIFEST: manifest, SIGNATURE: signature}


def _upload(path: Path, files: dict[str, bytes]) -> None:
    """Write the files of a bundle to the store, in this order."""
    store.delete(_name(path.name))
    for name, content in files.items():
        store.write(_name(path.name, name), content)


def _checked(path: Path) -> dict[str, bytes]:
    return checked_files(path, signing_key=settings.BUNDLE_SIGNING_KEY)


def _place(unfinished: Path, path: Path) -> None:
    """Put a fetched bundle into its place, unless another process has done so meanwhile."""
    if path.is_dir():
        try:
            _checked(path)
            return
        except BundleRefused:
            _remove(path)
    unfinished.rename(path)


def _make_room(fetched: Path) -> None:
    """Delete the copies that were not used for the longest time, until they have BUNDLES_LIMIT_BYTES together. What the
    store does not have is kept, and so are those of champions and shadows, which a worker needs when it starts."""
    found = [path for path in settings.BUNDLES_DIR.iterdir() if path.is_dir()]
    for path in found:
        with suppress(FileNotFoundError):  # the process that writes it may have ended just now
            if path.name.startswith(".") and time.time() - path.stat().st_mtime > LEFT_AFTER_S:
                shutil.rmtree(path, ignore_errors=True)
    copies = {path: _size(path) for path in found if not path.name.startswith(".")}
    total = sum(copies.values())
    if total <= settings.BUNDLES_LIMIT_BYTES:
        return
    live = ModelVersion.objects.filter(stage__in=[Stage.CHAMPION, Stage.SHADOW]).values_list("version", flat=True)
    needed = {fetched.name, *live}
    for path in sorted(copies, key=lambda path: path.stat().st_mtime):
        if path.name not in needed and is_shared(path):
            _remove(path)
            total -= copies[path]
        if total <= settings.BUNDLES_LIMIT_BYTES:
            return


def _remove(path: Path) -> None:
    """Delete a bundle's directory; nobody finds a part of it."""
    away = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    path.rename(away)
    shutil.rmtree(away, ignore_errors=True)


def _size(path: Path) -> int:
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the machine's lock on the directory of bundles."""
    with (settings.BUNDLES_DIR / ".lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _name(version: str, file: str = "") -> str:
    return f"models/{version}/{file}".rstrip("/")
