"""The register of bundles: which versions there are, and which one decides."""

from django.conf import settings
from django.db import transaction

from training.bundle import Bundle, load_bundle
from training.exceptions import NoChampion
from training.models import ModelVersion, Stage


def champion(schema: str) -> ModelVersion:
    """The version that decides about this schema's transactions.

    Raises:
        NoChampion: there is none.
    """
    version = ModelVersion.objects.filter(schema=schema, stage=Stage.CHAMPION).first()
    if version is None:
        raise NoChampion
    return version


def load(version: ModelVersion) -> Bundle:
    """Check and read a version's bundle.

    Raises:
        BundleRefused: see `load_bundle`.
    """
    return load_bundle(version.bundle_dir, signing_key=settings.BUNDLE_SIGNING_KEY)


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
