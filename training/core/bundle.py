"""The model bundle: a directory with all parts of a trained model, as data without code.

    bundle.json             its description: schema, architecture, thresholds, metrics, data, split, seeds, versions
    weights.safetensors     the weights of a Keras model, the standardisation included, as named arrays
    trees.ubj               or boosted trees, in XGBoost's own UBJSON
    reference.json          histograms of the training rows, for drift
    test_rows.safetensors   the numbers of the dataset's test rows
    scored.safetensors      the scored validation and test rows, see training/core/scored.py
    plots/*.png
    manifest.json           SHA-256 of every other file
    manifest.sig            HMAC-SHA256 of manifest.json

The hashes and the signature are checked before any file is parsed, as a foreign model file may be an attack
(CVE-2024-3660, CVE-2025-1550 and CVE-2025-8747 ran code from Keras files).
"""

import hashlib
import hmac
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace
from safetensors.numpy import load, save

from training.core.description import Description, Metrics, Reference
from training.core.exceptions import BundleRefused, SchemaChanged
from training.core.schema import Schema, loaded
from training.core.scored import ScoredRows, pack, unpack

FORMAT = 1
REQUIRED = {"bundle.json", "reference.json", "test_rows.safetensors"}
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
UNLISTED = {MANIFEST, SIGNATURE}


@dataclass(frozen=True)
class Bundle:
    """A bundle that was checked and read.

    `files` are those of the model, by name, for its family to read; `plots` are PNG images by name. `scored` has
    "validation" and "test", the latter in the order of `test_rows`; it is empty in older bundles. `description` is
    bundle.json, and `reference` the histograms for drift. `declared` is the declaration that the model was trained
    under, which need not be that of the schema's file now.
    """

    path: Path
    description: Description
    declared: Schema
    files: dict[str, bytes]
    reference: Reference
    test_rows: np.ndarray
    scored: dict[str, ScoredRows]
    plots: dict[str, bytes]

    @property
    def version(self) -> str:
        return self.path.name

    @property
    def schema(self) -> str:
        return self.description.schema.name

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(self.description.schema.features)

    @property
    def architecture(self) -> str:
        return self.description.model.architecture

    @property
    def hyperparameters(self) -> dict[str, Any]:
        return self.description.model.hyperparameters

    @property
    def review_threshold(self) -> float:
        return self.description.policy.review_threshold

    @property
    def block_threshold(self) -> float | None:
        return self.description.policy.block_threshold

    @cached_property
    def weights(self) -> dict[str, np.ndarray]:
        """The named float32 arrays of a model with weights as safetensors; empty for other models."""
        content = self.files.get("weights.safetensors")
        return load(content) if content else {}

    @property
    def metrics(self) -> dict[str, Metrics]:
        return self.description.metrics

    def has_test_rows_of(self, other: "Bundle") -> bool:
        """Whether both were tested on the same rows of the same data, so that their test metrics can be compared."""
        same_data = self.description.data.sha256 == other.description.data.sha256
        return same_data and np.array_equal(np.sort(self.test_rows), np.sort(other.test_rows))


def write_bundle(
    path: Path,
    *,
    description: Description,
    model_files: Mapping[str, bytes],
    reference: Reference,
    test_rows: np.ndarray,
    scored: Mapping[str, ScoredRows],
    plots: Mapping[str, bytes],
    signing_key: str,
) -> Bundle:
    """Write a bundle to the new directory `path`, whose name is its version. It appears complete or not at all.

    Raises:
        FileExistsError: `path` exists.
    """
    description = replace(description, model=replace(description.model, files=sorted(model_files)))
    files = {
        **model_files,
        "bundle.json": _json(msgspec.to_builtins(description) | {"format": FORMAT}),
        "reference.json": _json(reference),
        "test_rows.safetensors": save({"rows": test_rows.astype(np.int32)}),
        "scored.safetensors": pack(scored),
        **{f"plots/{name}.png": image for name, image in plots.items()},
    }
    hashes = {name: _sha256(content) for name, content in sorted(files.items())}
    manifest = _json({"format": FORMAT, "version": path.name, "files": hashes})
    signature = _signature(manifest, signing_key).encode()

    if path.exists():
        raise FileExistsError(f"{path} exists already.")
    unfinished = write_unfinished(path, files | {MANIFEST: manifest, SIGNATURE: signature})
    try:
        unfinished.rename(path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return load_bundle(path, signing_key=signing_key)


def write_unfinished(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write files to a hidden directory beside `path`, and have them on the disk. Returns it, to be renamed to `path`.

    Raises:
        BundleRefused: a name leads out of the directory.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    unfinished.mkdir(parents=True)
    try:
        for name, content in files.items():
            place = _inside(unfinished, name, path.name)
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return unfinished


def load_bundle(path: Path, *, signing_key: str) -> Bundle:
    """Check a bundle and read it.

    Raises:
        BundleRefused: a file is missing, additional or altered; the signature is missing or of another key; the format
            or the schema is unknown; or bundle.json is no `Description`.
        SchemaChanged: this process does not know the declaration that the model was trained under.
    """
    contents = checked_files(path, signing_key=signing_key)
    try:
        description = msgspec.json.decode(contents["bundle.json"], type=Description)
    except msgspec.DecodeError as error:
        raise BundleRefused(f"{path.name}: {error}") from error
    declared = loaded.version(description.schema.name, description.schema.hash)
    if declared is None:
        raise SchemaChanged(
            f"{path.name}: made for another version of the schema {description.schema.name}, which is not known here. "
            "Train anew."
        )
    model_files = description.model.files
    if missing := set(model_files) - contents.keys():
        raise BundleRefused(f"{path.name}: {', '.join(sorted(missing))} is missing.")
    return Bundle(
        path=path,
        description=description,
        declared=declared,
        files={name: contents[name] for name in model_files},
        reference=json.loads(contents["reference.json"]),
        test_rows=load(contents["test_rows.safetensors"])["rows"],
        scored=unpack(contents["scored.safetensors"]) if "scored.safetensors" in contents else {},
        plots={Path(name).stem: content for name, content in contents.items() if name.startswith("plots/")},
    )


def checked_files(path: Path, *, signing_key: str) -> dict[str, bytes]:
    """The files of a bundle, by name, as they were signed; the signature itself is the last.

    Raises:
        BundleRefused: a file is missing, additional or altered; or the signature is missing or of another key.
    """
    manifest, signature = _read(path, MANIFEST), _read(path, SIGNATURE)
    hashes = signed_hashes(path.name, manifest, signature, signing_key=signing_key)
    if surplus := _files(path) - hashes.keys() - UNLISTED:
        raise BundleRefused(f"{path.name}: {', '.join(sorted(surplus))} is not part of what was signed.")
    contents = {name: _read(path, name) for name in hashes}
    for name, expected in hashes.items():
        check_content(path.name, name, contents[name], expected)
    return contents | {MANIFEST: manifest, SIGNATURE: signature}


def signed_hashes(version: str, manifest: bytes, signature: bytes, *, signing_key: str) -> dict[str, str]:
    """The SHA-256 of each file of a bundle, by its manifest, which is parsed if its signature is right.

    Raises:
        BundleRefused: the signature is of another key or version, the format is unknown, or a file is missing in the
            manifest.
    """
    if not hmac.compare_digest(signature, _signature(manifest, signing_key).encode()):
        raise BundleRefused(f"{version}: the signature is not of this system's BUNDLE_SIGNING_KEY.")
    declared = json.loads(manifest)
    if declared["format"] != FORMAT:
        raise BundleRefused(f"{version}: format {declared['format']} is not the format {FORMAT} of this version.")
    # Whoever can write to the store could put another bundle of ours in its place. Older ones name none.
    if (of := declared.get("version", version)) != version:
        raise BundleRefused(f"{version}: this is the bundle of {of}.")
    hashes: dict[str, str] = declared["files"]
    if missing := REQUIRED - hashes.keys():
        raise BundleRefused(f"{version}: {', '.join(sorted(missing))} is missing.")
    return hashes


def check_content(version: str, name: str, content: bytes, expected: str) -> None:
    """Check a file of a bundle against its signed hash.

    Raises:
        BundleRefused: it is not what was signed.
    """
    if not hmac.compare_digest(_sha256(content), expected):
        raise BundleRefused(f"{version}: {name} has been altered since it was signed.")


def declared_hash_of(path: Path) -> str:
    """The hash of the declaration that a bundle's model was trained under, which need not be today's. The signature is
    not checked.

    Raises:
        BundleRefused: it cannot be read.
    """
    try:
        return msgspec.json.decode(_read(path, "bundle.json"), type=Description).schema.hash
    except msgspec.DecodeError as error:
        raise BundleRefused(f"{path.name}: {error}") from error


def _files(directory: Path) -> set[str]:
    """The files in a bundle, without the hidden ones that file managers make."""
    names = {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}
    return {name for name in names if not Path(name).name.startswith(".")}


def _read(directory: Path, name: str) -> bytes:
    try:
        return _inside(directory, name, directory.name).read_bytes()
    except OSError as error:
        raise BundleRefused(f"{directory.name}: {name} is missing or cannot be read.") from error


def _inside(directory: Path, name: str, version: str) -> Path:
    path = directory / name
    if not path.resolve().is_relative_to(directory.resolve()):
        raise BundleRefused(f"{version}: it names a file outside its own directory.")
    return path


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=2, sort_keys=True, allow_nan=False).encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _signature(manifest: bytes, signing_key: str) -> str:
    return hmac.new(signing_key.encode(), manifest, hashlib.sha256).hexdigest()
