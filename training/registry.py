"""The register of bundles: which versions there are, and which one decides."""

import numpy as np
from django.conf import settings
from django.db import transaction

from training.bundle import Bundle, load_bundle
from training.datasets import parquet_path, storage
from training.exceptions import BundleRefused, DatasetError, NoChampion, SchemaChanged
from training.models import ModelVersion, Stage
from training.schema import load_schema


def champion(schema: str) -> ModelVersion:
    """The version that decides about this schema's transactions.

    Raises:
        NoChampion: there is none.
    """
    version = ModelVersion.objects.filter(schema=schema, stage=Stage.CHAMPION).first()
    if version is None:
        raise NoChampion
    return version


def live_schemas() -> set[str]:
    """The schemas that have a champion."""
    return set(ModelVersion.objects.filter(stage=Stage.CHAMPION).values_list("schema", flat=True))


def load(version: ModelVersion) -> Bundle:
    """Check and read a version's bundle.

    Raises:
        BundleRefused: see `load_bundle`.
    """
    return load_bundle(version.bundle_dir, signing_key=settings.BUNDLE_SIGNING_KEY)


def outdated(schema: str) -> list[ModelVersion]:
    """The versions that were made when this schema declared something else."""
    found = []
    for version in ModelVersion.objects.filter(schema=schema):
        try:
            load(version)
        except SchemaChanged:
            found.append(version)
        except BundleRefused:  # what cannot be read says nothing
            continue
    return found


def test_rows(version: ModelVersion) -> tuple[np.ndarray, np.ndarray]:
    """The rows that this version was never trained on: features [n, f] float64 and labels [n] int8.

    Raises:
        BundleRefused: see `load_bundle`.
        DatasetError: the dataset is not here, or not the one that the version was trained on.
    """
    bundle = load(version)
    schema = load_schema(version.schema)
    features, labels, report = storage.read(parquet_path(settings.DATASETS_DIR, schema.name), schema)
    if report.source_sha256 != bundle.description["data"]["sha256"]:
        raise DatasetError("The stored dataset is not the one this model was trained on: run `manage.py ingest`.")
    return features[bundle.test_rows], labels[bundle.test_rows]


@transaction.atomic
def register(bundle: Bundle, *, promote: bool) -> ModelVersion:
    """Enter a bundle into the register, as a candidate or, with `promote`, as the champion."""
    version = ModelVersion.objects.create(
        version=bundle.version,
        schema=bundle.schema,
        protocol=bundle.description["split"]["protocol"],
        review_threshold=bundle.review_threshold,
        block_threshold=bundle.block_threshold,
        metrics=bundle.metrics,
    )
    if promote:
        version.promote()
    return version
