"""Exports decided transactions as a training set: a snapshot of what was known at a time."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from scoring.decisions import Decision
from scoring.learning import outcomes
from scoring.learning.outcomes import Coverage
from scoring.models import Label
from scoring.policies import evidence
from scoring.policies.missed import reported_by_others
from scoring.policies.stored import rows_of
from training import registry
from training.core import stages
from training.core.exceptions import BundleRefused, FraudsiteError, SchemaNotFound
from training.core.schema import Schema, load_schema
from training.models import ModelVersion

PAGE = 5_000
COLUMNS = (
    *("pk", "created_at", "fraud_score", "decision", "model_version_id", "evidence", "derived"),
    *("transaction__event_time", "transaction__fields", "transaction__tokens", "review__sample_probability"),
)
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
    default LABEL_MATURITY_DAYS, with their outcomes as known then. The same time gives the same rows again.

    Memory holds a page of rows.

    Raises:
        SchemaNotFound, SchemaInvalid: there is no such schema.
        NothingToExport: the time is not past, or no outcome was known then.
    """
    # Imported late, as it loads PyArrow.
    from training.core.datasets import snapshots

    if as_of > timezone.now():
        raise NothingToExport("--as-of lies in the future: nobody knows yet what will be known then.")
    schema = load_schema(schema_name)
    days = settings.LABEL_MATURITY_DAYS if maturity_days is None else maturity_days
    until = as_of - timedelta(days=days)
    coverage = _coverage(schema, until, as_of)
    left_out: Counter[str] = Counter()
    stands_for = 0.0
    with snapshots.Writer(settings.DATASETS_DIR, schema, as_of) as writer:
        usable = _usable_versions(schema)
        for page in _pages(schema, until):
            rows = list(_rows(page, as_of, usable, coverage, left_out))
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


def _pages(schema: Schema, until: datetime) -> Iterator[list[tuple[Any, ...]]]:
    """The decisions before a time in pages, oldest first."""
    found = rows_of(schema, datetime.min.replace(tzinfo=until.tzinfo), until).order_by("created_at", "pk")
    after = Q()
    while page := list(found.filter(after).values_list(*COLUMNS)[:PAGE]):
        yield page
        key, moment = page[-1][:2]
        after = Q(created_at__gte=moment) & (Q(created_at__gt=moment) | Q(pk__gt=key))


def _rows(
    page: list[tuple[Any, ...]], as_of: datetime, usable: set[str], coverage: Coverage, left_out: Counter[str]
) -> "Iterator[Any]":
    from training.core.datasets.snapshots import Row

    known = outcomes.known([row[0] for row in page], as_of)
    chances = _of_found_by_sample(page, known, as_of)
    for key, decided_at, score, decision, version, why, derived, event_time, fields, tokens, _ in page:
        draw = evidence.read(why).control
        found = outcomes.outcome(
            decision,
            known.get(key),
            is_disputed=key in known,
            draw=draw,
            coverage=coverage,
            sampled=chances.get(key, 1.0),
        )
        if version not in usable:
            left_out[OTHERWISE] += 1
        elif found is None:
            left_out[NOT_KNOWN] += 1
        else:
            yield Row(
                key=str(key),
                event_time=event_time,
                values=fields,
                derived=derived or {},
                tokens=tokens or {},
                decided_at=decided_at,
                model_version=version,
                decision=decision,
                fraud_score=score,
                is_fraud=found.is_fraud,
                is_labelled=found.is_labelled,
                propensity=draw.propensity if draw else None,
                weight=found.weight,
            )


def _of_found_by_sample(
    page: list[tuple[Any, ...]], known: Mapping[UUID, bool | None], as_of: datetime
) -> dict[UUID, float]:
    """The frauds that only an analyst found, in the random sample, with the chance that they were drawn."""
    chances = {key: chance for key, *_, chance in page if chance and known.get(key)}
    if not chances:
        return {}
    reported = reported_by_others(Label.objects.filter(transaction__in=list(chances), created_at__lte=as_of))
    return {key: chance for key, chance in chances.items() if key not in reported}


def _coverage(schema: Schema, until: datetime, as_of: datetime) -> Coverage:
    """How many of the alerts that the control group could have were labelled."""
    coverage = Coverage()
    alerts = rows_of(schema, datetime.min.replace(tzinfo=until.tzinfo), until).exclude(decision=Decision.APPROVE)
    stored = alerts.filter(evidence__control__isnull=False).values_list("pk", "evidence").iterator(PAGE)
    part: list[tuple[UUID, evidence.Draw]] = []

    def count() -> None:
        coverage.add(part, outcomes.known([key for key, _ in part], as_of))
        part.clear()

    for key, why in stored:
        if draw := evidence.read(why).control:
            part.append((key, draw))
        if len(part) == PAGE:
            count()
    count()
    return coverage


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
