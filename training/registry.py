"""The register of model versions: loading, comparing, promoting and rolling back."""

import getpass
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet

from training import bundles, declarations, verdicts
from training.core.bundle import Bundle, declared_hash_of
from training.core.datasets import parquet_path
from training.core.exceptions import (
    BundleRefused,
    DatasetError,
    NoChampion,
    SchemaNotFound,
    StageRefused,
    StoreUnavailable,
)
from training.core.schema import Schema, comparison, load_schema
from training.models import ModelVersion, Stage, StageChange
from training.verdicts import Verdict

if TYPE_CHECKING:
    import pandas as pd

    from training.core.datasets import storage


def champion(schema: str) -> ModelVersion:
    """The version that decides about this schema's transactions.

    Raises:
        NoChampion: there is none.
    """
    version = champion_or_none(schema)
    if version is None:
        raise NoChampion
    return version


def champion_or_none(schema: str) -> ModelVersion | None:
    """The version that decides about this schema's transactions, if there is one."""
    return champions().filter(schema=schema).first()


def champions() -> QuerySet[ModelVersion]:
    """The champion of each live schema, sorted by schema."""
    return ModelVersion.objects.filter(stage=Stage.CHAMPION).order_by("schema")


def parent_of(schema: str) -> str | None:
    """The parent of a model that is trained now: the name of the champion, if there is one."""
    now = champion_or_none(schema)
    return now.version if now else None


def live_schemas() -> set[str]:
    """The schemas that have a champion."""
    return set(champions().values_list("schema", flat=True))


def load(version: ModelVersion) -> Bundle:
    """Check and read a version's bundle.

    Raises:
        BundleRefused: see `bundles.load`.
    """
    with suppress(BundleRefused, SchemaNotFound):  # `bundles.load` says it in full
        declaration(version)
    return bundles.load(version.bundle_dir)


def declared_hash(version: ModelVersion) -> str:
    """The hash of the declaration that a version was trained under.

    Raises:
        BundleRefused: it was registered before its row told so, and its bundle cannot be read.
    """
    return version.schema_hash or declared_hash_of(bundles.be_here(version.bundle_dir))


def declaration(version: ModelVersion) -> Schema:
    """The declaration that a version was trained under, and scores under.

    Raises:
        BundleRefused: its bundle cannot be read.
        SchemaNotFound: see `declarations.find`.
    """
    return declarations.find(version.schema, declared_hash(version))


def declaration_in_force(schema: str) -> Schema:
    """The declaration under which a schema's transactions are scored and its histories kept: the champion's; that of
    the file while there is no champion, or its bundle cannot be read.

    Raises:
        SchemaNotFound, SchemaInvalid: there is neither.
    """
    version = champion_or_none(schema)
    if version:
        with suppress(BundleRefused, SchemaNotFound):
            return declaration(version)
    return load_schema(schema)


def stale_histories(changes: Sequence[StageChange]) -> str:
    """What has to be done after a promotion or a rollback that made histories stale; empty if nothing has to."""
    if len(changes) < 2 or changes[-1].after != Stage.CHAMPION:
        return ""
    before, after = changes[0].version, changes[-1].version
    try:
        if declared_hash(before) == declared_hash(after):
            return ""
        stale = comparison.stale_histories(declaration(before), declaration(after))
    except (BundleRefused, SchemaNotFound):
        return ""
    if not stale:
        return ""
    return (
        f"The histories of {' and '.join(stale)} are stale under it: calls that need one get 503 until "
        f"`manage.py rebuild_histories --schema {after.schema}` has run. Run it now."
    )


def outdated(schema: Schema) -> list[ModelVersion]:
    """The versions that were trained under another declaration of this schema. What a bundle that cannot be read was
    trained under is not known."""
    found = []
    for version in ModelVersion.objects.filter(schema=schema.name):
        with suppress(BundleRefused):
            if declared_hash(version) != schema.hash:
                found.append(version)
    return found


def test_rows(version: ModelVersion) -> "pd.DataFrame":
    """The stored rows that this version was never trained on.

    Raises:
        BundleRefused: see `bundles.load`.
        DatasetError: the dataset is not here, or not the one that the version was trained on.
    """
    rows, tests = _rows_and_tests(version)
    return rows.iloc[tests]


def traffic(version: ModelVersion) -> "tuple[pd.DataFrame, int]":
    """All stored rows, with the values of requests, in the order of event times; and the number of this version's first
    test row.

    Raises:
        BundleRefused, DatasetError: as above.
    """
    rows, tests = _rows_and_tests(version)
    return rows, int(tests.min())


def _rows_and_tests(version: ModelVersion) -> "tuple[pd.DataFrame, np.ndarray]":
    """The stored rows of the dataset that a version was trained on, and the numbers of its test rows."""
    from training.core.datasets import storage  # late: web processes need no pandas

    bundle = load(version)
    rows, report = storage.read_rows(parquet_path(settings.DATASETS_DIR, bundle.schema), bundle.declared)
    _check_origin(bundle, report)
    return rows, bundle.test_rows


def _check_origin(bundle: Bundle, report: "storage.Report") -> None:
    if report.source_sha256 != bundle.description.data.sha256:
        raise DatasetError("The stored dataset is not the one this model was trained on: run `manage.py ingest`.")


def register(bundle: Bundle, *, promote: bool, by: str | None = None, reason: str = "") -> ModelVersion:
    """Upload a bundle and register it, as a candidate or, with `promote`, as the champion without a comparison.

    `by`, here and below, is the name of the user for the audit; by default the account that runs this process.

    Raises:
        BundleRefused: a version of this name is registered.
        StoreUnavailable: it could not be uploaded; the bundle stays in its directory.
    """
    if ModelVersion.objects.filter(pk=bundle.version).exists():
        raise BundleRefused(f"A version {bundle.version} is registered already.")
    try:
        bundles.share(bundle.path)
    except StoreUnavailable as error:
        raise StoreUnavailable(
            f"{error} The model is trained: {bundle.path}. When the store answers, run "
            f"`manage.py models register {bundle.version}` on this machine."
        ) from error
    return _register(bundle, promote=promote, by=by or account(), reason=reason)


@transaction.atomic
def _register(bundle: Bundle, *, promote: bool, by: str, reason: str) -> ModelVersion:
    declarations.remember()
    version = ModelVersion.objects.create(
        version=bundle.version,
        schema=bundle.schema,
        schema_hash=bundle.description.schema.hash,
        protocol=bundle.description.split.protocol,
        review_threshold=bundle.review_threshold,
        block_threshold=bundle.block_threshold,
        metrics=msgspec.to_builtins(bundle.metrics),
    )
    version.changes.create(action=StageChange.Action.REGISTER, after=Stage.CANDIDATE, by=by, at=version.created_at)
    if promote:
        version.promote(by=by, reason=reason)
    return version


def share_all() -> tuple[int, list[str]]:
    """Upload the bundles that are here and not intact in the store, and tell their rows what they were trained under:
    releases before the store had neither. Returns how many were uploaded, and the versions that are in neither place.

    Raises:
        StoreUnavailable: the store failed.
    """
    uploaded, absent = 0, []
    for version in ModelVersion.objects.all():
        try:
            uploaded += bundles.mend(version.bundle_dir)
        except BundleRefused:
            absent.append(version.version)
            continue
        if not version.schema_hash:
            hash_ = declared_hash(version)
            ModelVersion.objects.filter(pk=version.pk).update(schema_hash=hash_)
    return uploaded, absent


def promote(
    version: ModelVersion, *, by: str, reason: str = "", force: bool = False, kept_verdict: bool = False
) -> list[StageChange]:
    """Make a version the champion, if its bundle can be loaded and it is not worse than the champion.

    With `force` and a reason, a version that is worse or cannot be compared is promoted all the same; the audit keeps
    the reason and the verdict. The comparison takes seconds of processor time: with `kept_verdict`, for web processes,
    the verdict is that which `compare_waiting` has stored.

    Raises:
        BundleRefused: see `bundles.load`.
        StageRefused: the version is the champion already; it is worse or cannot be compared; `force` has no reason; or
            the champion has changed in the meantime.
    """
    bundle, now = load(version), champion_or_none(version.schema)
    if version == now:
        raise StageRefused(f"{version} is the champion already.")
    if force and not reason:
        raise StageRefused("Give the reason for promoting it against the comparison: it is kept.")
    if now is None:
        verdict = Verdict(True, "")
    else:
        verdict = _kept_verdict(version, now) if kept_verdict else compare(bundle, now)
    if not (verdict.allows or force):
        raise StageRefused(f"{version} is not promoted. {verdict.text} It can be forced, with a reason.")
    return _switch(version, instead_of=now, by=by, reason=reason, evidence=verdict.text)


def compare(bundle: Bundle, champion: ModelVersion) -> Verdict:
    """Compare a bundle with the champion: see `verdicts.compare`."""
    try:
        other = load(champion)
    except BundleRefused as refusal:
        return Verdict(False, f"It cannot be compared with the champion, whose bundle is refused: {refusal}")
    return verdicts.compare(bundle, other, settings.DATASETS_DIR)


def consider(version: ModelVersion, *, by: str, promotes: bool) -> None:
    """Propose a new version as the champion if it is better than the current one, or promote it if `promotes`. Without
    a champion it is proposed."""
    now = champion_or_none(version.schema)
    verdict = compare(load(version), now) if now else Verdict(True, "There is no champion.", is_better=True)
    if now:
        _keep(version, now, verdict)
    if not verdict.is_better:
        return
    if promotes and now:
        _switch(version, instead_of=now, by=by, reason="Better on matured labels.", evidence=verdict.text)
    else:
        version.propose(by=by, evidence=verdict.text)


def compare_waiting() -> ModelVersion | None:
    """Compare the newest version that was not yet compared with the current champion, and store the verdict.

    Returns the version; None if none waits. Versions whose bundle cannot be loaded keep waiting.
    """
    for champion in champions():
        others = ModelVersion.objects.filter(schema=champion.schema).exclude(pk=champion.pk)
        for version in others.exclude(compared_with=champion):
            try:
                bundle, _ = load(version), load(champion)
            except BundleRefused:
                continue
            _keep(version, champion, compare(bundle, champion))
            return version
    return None


def _keep(version: ModelVersion, champion: ModelVersion, verdict: Verdict) -> None:
    ModelVersion.objects.filter(pk=version.pk).update(
        compared_with=champion, verdict_allows=verdict.allows, verdict=verdict.text
    )


def verdict_on(version: ModelVersion) -> Verdict | None:
    """The stored verdict on a version against the current champion; None if there is no other champion."""
    now = champion_or_none(version.schema)
    return _kept_verdict(version, now) if now and now != version else None


def _kept_verdict(version: ModelVersion, champion: ModelVersion) -> Verdict:
    version.refresh_from_db(fields=["compared_with", "verdict_allows", "verdict"])
    if version.compared_with_id == champion.pk:
        return Verdict(version.verdict_allows, version.verdict)
    return Verdict(
        False,
        f"It has not been compared with the champion {champion} yet: a worker of the queue {settings.BULK_QUEUE} does "
        "so within seconds, if both bundles can be loaded. Look again soon.",
    )


def roll_back(schema: str, *, by: str, reason: str = "") -> list[StageChange]:
    """Make the version that was champion before the current one the champion again.

    Raises:
        NoChampion: there is no champion.
        BundleRefused: the bundle of the earlier version is refused; see `bundles.load`.
        StageRefused: there is no earlier champion.
    """
    now = champion(schema)
    earlier = previous_champion(now)
    if earlier is None:
        raise StageRefused(f"{now} is the first champion of {schema}: there is none to go back to.")
    load(earlier)
    return _switch(earlier, instead_of=now, by=by, reason=reason, rolls_back=True)


def shadow(version: ModelVersion, *, by: str, reason: str = "") -> list[StageChange]:
    """Have a version score live transactions without deciding.

    Raises:
        BundleRefused: see `bundles.load`.
        StageRefused: it is the champion, or a shadow already.
    """
    load(version)
    return version.shadow(by=by, reason=reason)


def previous_champion(version: ModelVersion) -> ModelVersion | None:
    """The champion before this one was promoted. Rolling back does not count as promotion, so rolling back twice goes
    back two champions."""
    became = StageChange.objects.filter(version__schema=version.schema, after=Stage.CHAMPION).order_by("-pk")
    promoted = became.filter(version=version, action=StageChange.Action.PROMOTE).first()
    if promoted is None:
        return None
    earlier = became.filter(pk__lt=promoted.pk).exclude(version=version).select_related("version").first()
    return earlier.version if earlier else None


def live_at(schema: str, moment: datetime) -> ModelVersion | None:
    """The champion at a moment; None if there was none.

    Workers follow a promotion within `MODEL_REFRESH_S` and the time of loading; each prediction names its version.
    """
    of_champions = Q(after=Stage.CHAMPION) | Q(before=Stage.CHAMPION)
    changes = StageChange.objects.filter(of_champions, version__schema=schema, at__lte=moment)
    latest = changes.select_related("version").order_by("-at", "-pk").first()
    return latest.version if latest and latest.after == Stage.CHAMPION else None


def account() -> str:
    """The name of the account that runs this process; in a container it may have only a number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"account {os.getuid()}"


@transaction.atomic
def _switch(version: ModelVersion, *, instead_of: ModelVersion | None, **audit: Any) -> list[StageChange]:
    changes = version.promote(**audit)
    if [change.version for change in changes[:-1]] != ([instead_of] if instead_of else []):
        raise StageRefused("The champion has changed in the meantime: look again.")
    return changes
