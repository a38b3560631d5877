"""Scores the plain rows of a chunk at once, and gives the results of those that are no alerts, as most are.

It does so for schemas of numbers, without computed features, where nothing is to be stored, and makes no object for
each row. A row about which a rule or a list may have a say is left to the ordinary way, with the same score.
"""

from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any, NamedTuple

import numpy as np

from scoring.api.validation import is_transaction_id
from scoring.decisions import ALERTS
from scoring.files import results
from scoring.files.layout import SCHEMA, is_light
from scoring.files.rows import Reading
from scoring.messages.answers import Answer, told
from scoring.policies.evidence import Evidence
from scoring.worker import scorer
from scoring.worker.predictor import Predictor
from training.core.schema import EVENT_TIME, TRANSACTION_ID


class Approved(NamedTuple):
    """Which rows of the chunk have a result, [n] bool, and these `results`, in their order: a column each, or one value
    that all of them have."""

    rows: np.ndarray | None
    results: Mapping[str, Any]


NOTHING = Approved(None, {})


def approve(reading: Reading, champion: Predictor) -> Approved:
    """Score what can be scored at once."""
    vouched, schema = reading.vouched, reading.schema
    if not is_light(schema) or champion.schema != schema or not vouched.places:
        return NOTHING
    given = np.column_stack(vouched.features)
    derived = scorer.nothing_derived(len(given))
    scores = champion.score(scorer.inputs_of(champion.encode, given, derived))
    ids, thresholds = vouched.rest.get(TRANSACTION_ID), champion.policy.thresholds
    chosen = np.isfinite(scores) & _right(reading)
    decisions = np.full(len(scores), thresholds.decide(0.0), object)
    for place in np.flatnonzero(scores >= thresholds.mildest).tolist():  # few are
        decisions[place] = thresholds.decide(float(scores[place]))
        chosen[place] &= decisions[place] not in ALERTS
    chosen &= ~np.array(champion.policy.may_have_a_say(given, derived, scores.tolist()), bool)
    if ids:
        chosen &= _usable(ids)
    if not chosen.any():
        return NOTHING
    rows = np.zeros(len(reading.lines), bool)
    rows[np.asarray(vouched.places)[chosen]] = True
    columns = results.scored(0, _answer(champion), stored=False) | {
        "line": np.asarray(reading.lines)[rows],
        "fraud_score": scores[chosen],
        "decision": decisions[chosen],
        "transaction_id": list(compress(ids, chosen)) if ids else None,
    }
    return Approved(rows, columns)


def _usable(ids: Sequence[str | None]) -> np.ndarray | bool:
    """Whether a transaction may have each of the ids, or the same of all."""
    named = [each for each in ids if each is not None]
    ends = [min(named, key=len, default="-"), max(named, key=len, default="-")]
    if all(map(is_transaction_id, ends)) and "".join(named).isprintable():
        return True
    return np.array([each is None or is_transaction_id(each) for each in ids], bool)


def _right(reading: Reading) -> np.ndarray | bool:
    """Whether what was sent beside the features and the id is right, of each row that was vouched for, or the same of
    all."""
    rest = reading.vouched.rest
    if not rest.keys() & {EVENT_TIME, SCHEMA}:
        return True
    count = len(reading.vouched.places)
    times, schemas = rest.get(EVENT_TIME, [None] * count), rest.get(SCHEMA, [None] * count)
    right = {value: value is None or reading.is_time(value) for value in set(times)}
    ours = (None, reading.schema.name)
    return np.array([right[time] and name in ours for time, name in zip(times, schemas, strict=True)], bool)


def _answer(champion: Predictor) -> Answer:
    """What the results have in common."""
    return Answer(
        id="",
        transaction_id=None,
        fraud_score=None,
        is_fraud=False,
        alert=False,
        decision="",
        reasons=[],
        threshold=champion.policy.thresholds.review,
        model_version=champion.version.pk,
        policy_version=champion.policy.number,
        latency_ms=0.0,
        created_at="",
        **told(Evidence()),
    )
