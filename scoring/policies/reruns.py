"""Computes old decisions again, on the versions that made them, and tells what differs.

A decision's record is its prediction: the values and computed features, the versions of model and policy, the lists
that the transaction was on, and the thresholds of the model at the time.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

import msgspec
import numpy as np

from scoring.decisions import Thresholds
from scoring.models import PolicyVersion, Prediction
from scoring.policies import evidence, versions
from scoring.policies.engine import Policy
from scoring.policies.evidence import Degraded, Evidence, Hit
from scoring.policies.expressions import Case
from scoring.policies.lists import HeldLists
from scoring.worker import scorer
from scoring.worker.predictor import Predictor
from scoring.worker.rows import tokens_of
from training.core.exceptions import FraudsiteError
from training.core.schema import Schema
from training.models import ModelVersion

ROWS_AT_A_TIME = 500


@dataclass(frozen=True)
class Difference:
    """A part of a decision that comes out otherwise, or could not be computed: then `computed` says why."""

    transaction: UUID
    part: str
    stored: Any
    computed: Any


class _RecordedLists(HeldLists):
    """The lists that transactions were on when they were decided, from their evidence by the key of their case."""

    def __init__(self, schema: Schema, names: Collection[str], recorded: dict[str, Evidence]) -> None:
        super().__init__(schema, ())
        self._names, self._recorded = tuple(names), recorded

    def __bool__(self) -> bool:
        return True

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    def on(self, case: Case) -> Iterator[str]:
        return iter([*(hit.list for hit in self._recorded[case.key].lists), *self._recorded[case.key].on])

    def hits(self, case: Case) -> list[Hit]:
        return self._recorded[case.key].lists


def sampled(since: datetime, *, sample: int, schema: str = "") -> list[Prediction]:
    """Predictions since a time, drawn at random, by model version: at most `sample`, or all with 0."""
    found = Prediction.objects.filter(created_at__gte=since)
    if schema:
        found = found.filter(model_version__in=list(ModelVersion.objects.filter(schema=schema)))
    keys = list(found.order_by("?").values_list("pk", flat=True)[:sample]) if sample else None
    rows = found if keys is None else found.filter(pk__in=keys)
    return list(rows.select_related("transaction").order_by("model_version", "created_at"))


def differences(predictions: Sequence[Prediction], *, tolerance: float = 0.0) -> Iterator[Difference]:
    """Compute decisions again, and give the parts that differ. `predictions` are sorted by model version.

    A score is the same to the last bit on the machine and packages that gave it; elsewhere it may differ by
    `tolerance`.
    """
    for version, of_version in groupby(predictions, key=lambda prediction: prediction.model_version_id):
        rows = list(of_version)
        try:
            predictor = Predictor(ModelVersion.objects.get(pk=version))
        except FraudsiteError as error:
            yield from (Difference(row.pk, "model", version, str(error)) for row in rows)
            continue
        for start in range(0, len(rows), ROWS_AT_A_TIME):
            part = rows[start : start + ROWS_AT_A_TIME]
            yield from _scores(predictor, part, tolerance)
            yield from _decisions(predictor, part)


def _scores(predictor: Predictor, rows: Sequence[Prediction], tolerance: float) -> Iterator[Difference]:
    inputs = scorer.stored_inputs(
        predictor.encode, [row.transaction.fields for row in rows], [row.derived or {} for row in rows]
    )
    for row, score in zip(rows, predictor.score(inputs).tolist(), strict=True):
        same = np.float64(score).tobytes() == np.float64(row.fraud_score).tobytes()
        if not same and not abs(score - row.fraud_score) <= tolerance:
            yield Difference(row.pk, "fraud_score", row.fraud_score, score)


def _decisions(predictor: Predictor, rows: Sequence[Prediction]) -> Iterator[Difference]:
    """Decide again by the stored scores, so that a score that differs is told once."""
    schema = predictor.schema
    found = {str(row.pk): evidence.read(row.evidence) for row in rows}
    thresholds = list(predictor.version.thresholds.order_by("at", "pk"))
    policies: dict[Any, Policy | str] = {}
    for row in rows:
        record = found[str(row.pk)]
        of_model = _at(thresholds, row)
        key = (row.policy_id, of_model, record.degraded == Degraded.POLICY)
        if key not in policies:
            policies[key] = _policy(schema, row.policy_id, of_model, found, degraded=key[2])
        policy = policies[key]
        if isinstance(policy, str):
            yield Difference(row.pk, "policy", row.policy_id, policy)
            continue
        case = Case(
            [row.transaction.fields.get(name) for name in schema.feature_names],
            tokens_of(schema, row.transaction),
            row.transaction.event_time.timestamp(),
            str(row.pk),
        )
        derived = [(row.derived or {}).get(feature.name) for feature in schema.derived]
        [decided] = policy.decide([case], [derived], [row.fraud_score])
        again = msgspec.to_builtins(decided.evidence) if decided.evidence else None
        for part, stored, computed in (
            ("decision", row.decision, str(decided.decision)),
            ("threshold", row.threshold, decided.threshold),
            ("evidence", row.evidence, again),
        ):
            if stored != computed:
                yield Difference(row.pk, part, stored, computed)


def _at(records: Sequence[Any], row: Prediction) -> Thresholds:
    """The model's thresholds when a prediction was made. A worker follows a change a little later, so of the latest two
    the one whose review threshold was stored counts."""
    before = [record for record in records if record.at <= row.created_at] or list(records[:1])
    fitting = [record for record in before[-2:] if record.review_threshold == row.threshold] or before[-1:]
    return Thresholds(fitting[-1].review_threshold, fitting[-1].block_threshold)


def _policy(
    schema: Schema, pk: int | None, of_model: Thresholds, found: dict[str, Evidence], *, degraded: bool
) -> Policy | str:
    """The policy of a version, or why there is none."""
    try:
        version = PolicyVersion.objects.get(pk=pk) if pk else None
        content = versions.content(version)
        lists = _RecordedLists(schema, versions.list_names(schema.name), found)
        return Policy(schema, of_model, content, pk=pk, lists=lists, degraded=Degraded.POLICY if degraded else None)
    except (PolicyVersion.DoesNotExist, FraudsiteError, ValueError) as error:
        return str(error)
