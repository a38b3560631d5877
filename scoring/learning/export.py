"""Exports decided transactions as a training set: a snapshot of what was known at a time."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from scoring.learning import decided, outcomes
from scoring.learning.decided import Decided
from scoring.learning.outcomes import Coverage
from training import registry
from training.core import stages
from training.core.exceptions import BundleRefused, FraudsiteError, SchemaNotFound
from training.core.schema import Schema, load_schema
from training.models import ModelVersion

NOT_KNOWN = "without a known outcome: alerts that nobody labelled, and open disputes"
OTHERWISE = "decided under another declaration of the schema, or by a version whose bundle is gone"


class NothingToExport(FraudsiteError):
    """There is nothing to train on."""


@dataclass(frozen=True)
class Exported:
    """A snapshot's file, its numbers of rows, of frauds and of transactions that the rows stand for, and how many
    decisions were left out, by the reason."""

    path: Path
    rows: int
    frauds: int
    stands_for: float
    left_out: dict[str, int]


def export(schema_name: str, *, as_of: datetime, maturity_days: float | None = None) -> Exported:
    """Write a snapshot of the decisions about a schema's transactions that were `maturity_days` old at a time, by
    default LABEL_MATURITY_DAYS, with their outcomes as known then. The same time gives the same rows again, whether or
    not retention has deleted their transactions since.

    Memory holds a page of rows.

    Raises:
        SchemaNotFound, SchemaInvalid: there is no such schema.
        NothingToExport: the time is not past, or no outcome was known then.
        StoreUnavailable, ArchiveBroken: what is archived of deleted transactions cannot be read.
    """
    # Imported late, as it loads PyArrow.
    from training.core.datasets import snapshots

    if as_of > timezone.now():
        raise NothingToExport("--as-of lies in the future: nobody knows yet what will be known then.")
    schema = load_schema(schema_name)
    days = settings.LABEL_MATURITY_DAYS if maturity_days is None else maturity_days
    until = as_of - timedelta(days=days)
    coverage = decided.coverage(schema, until, as_of)
    left_out: Counter[str] = Counter()
    stands_for = 0.0
    with snapshots.Writer(settings.DATASETS_DIR, schema, as_of) as writer:
        usable = _usable_versions(schema)
        for page in decided.pages(schema, until, as_of):
            rows = list(_rows(page, usable, coverage, left_out))
            writer.add(rows)
            stands_for += sum(row.weight for row in rows)
            stages.enter(f"{writer.report().rows:,} rows are exported")
        report = writer.report()
        if not report.rows:
            raise NothingToExport(
                f"No transaction of {schema.name} that was decided before {until:%Y-%m-%d %H:%M} UTC has a known "
                f"outcome. Outcomes count {days:g} days after the decision: LABEL_MATURITY_DAYS, or --maturity-days."
            )
    return Exported(writer.path, report.rows, report.frauds, stands_for, dict(left_out))


def _rows(page: list[Decided], usable: set[str], coverage: Coverage, left_out: Counter[str]) -> "Iterator[Any]":
    from training.core.datasets.snapshots import Row

    for one in page:
        found = outcomes.outcome(
            one.decision,
            one.verdict,
            is_disputed=one.is_disputed,
            draw=one.draw,
            coverage=coverage,
            sampled=one.sampled,
        )
        if one.model_version not in usable:
            left_out[OTHERWISE] += 1
        elif found is None:
            left_out[NOT_KNOWN] += 1
        else:
            yield Row(
                key=one.key,
                event_time=one.event_time,
                values=one.values,
                derived=one.derived,
                tokens=one.tokens,
                decided_at=one.decided_at,
                model_version=one.model_version,
                decision=one.decision,
                fraud_score=one.fraud_score,
                is_fraud=found.is_fraud,
                is_labelled=found.is_labelled,
                propensity=one.draw.propensity if one.draw else None,
                weight=found.weight,
            )


def _usable_versions(schema: Schema) -> set[str]:
    """The model versions whose transactions have all values that the schema declares now, with the same meaning."""
    return {version.pk for version in ModelVersion.objects.filter(schema=schema.name) if _is_usable(version, schema)}


def _is_usable(version: ModelVersion, schema: Schema) -> bool:
    try:
        declared = registry.declaration(version)
    except (BundleRefused, SchemaNotFound):
        return False
    if declared.hash == schema.hash:
        return True
    before = {feature.name: feature for feature in declared.derived}
    kinds = {field.name: field.kind for field in declared.features}
    return all(before.get(feature.name) == feature for feature in schema.derived) and all(
        kinds.get(field.name) == field.kind for field in schema.features
    )


def forget_older(path: Path, *, keep: int) -> None:
    """Delete the oldest snapshots beside this one, so that `keep` are left, this one among them."""
    for old in sorted(path.parent.glob("*.parquet"))[:-keep]:
        old.unlink(missing_ok=True)
