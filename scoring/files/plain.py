"""Scores the plain rows of a chunk at once, and gives the results of those that are no alerts, as most are.

It does so for schemas of numbers, without computed features, where nothing is to be stored, and makes no object for
each row. A row about which a rule or a list may have a say is left to the ordinary way, with the same score.
"""

import math
from collections.abc import Mapping, Set
from itertools import compress
from typing import Any, NamedTuple

import numpy as np

from scoring.api.validation import is_transaction_id
from scoring.decisions import ALERTS
from scoring.files import results
from scoring.files.layout import SCHEMA
from scoring.files.rows import Reading
from scoring.messages.answers import Answer, told
from scoring.policies.evidence import Evidence
from scoring.worker import scorer
from scoring.worker.predictor import Predictor
from training.core.schema import EVENT_TIME, TRANSACTION_ID


class Approved(NamedTuple):
    """The places in the chunk of the rows that have a result, and these `results`, a column each, in their order."""

    places: Set[int]
    results: Mapping[str, list[Any]]


NOTHING = Approved(frozenset(), {})


def approve(reading: Reading, champion: Predictor) -> Approved:
    """Score what can be scored at once."""
    vouched, schema = reading.vouched, reading.schema
    is_possible = schema.is_plain and not schema.has_texts and not schema.amount_currency
    if not is_possible or champion.schema != schema or not vouched.places:
        return NOTHING
    given = np.column_stack(vouched.features)
    derived = scorer.nothing_derived(len(given))
    scores = champion.score(scorer.inputs_of(champion.encode, given, derived)).tolist()
    decisions = list(map(champion.policy.thresholds.decide, scores))
    doubts = champion.policy.may_have_a_say(given, derived, scores)
    ids = vouched.rest.get(TRANSACTION_ID, [None] * len(scores))
    chosen = [
        right
        and not doubt
        and decision not in ALERTS
        and math.isfinite(score)
        and (named is None or is_transaction_id(named))
        for right, doubt, decision, score, named in zip(_right(reading), doubts, decisions, scores, ids, strict=True)
    ]
    places = list(compress(vouched.places, chosen))
    if not places:
        return NOTHING
    alike = results.scored(0, _answer(champion), stored=False)
    columns = {name: [value] * len(places) for name, value in alike.items()}
    columns["line"] = [reading.lines[place] for place in places]
    for name, values in (("transaction_id", ids), ("fraud_score", scores), ("decision", decisions)):
        columns[name] = list(compress(values, chosen))
    return Approved(frozenset(places), columns)


def _right(reading: Reading) -> list[bool]:
    """Whether what was sent beside the features and the id is right, of each row that was vouched for."""
    rest, count = reading.vouched.rest, len(reading.vouched.places)
    times, schemas = rest.get(EVENT_TIME, [None] * count), rest.get(SCHEMA, [None] * count)
    right = {value: value is None or reading.is_time(value) for value in set(times)}
    ours = (None, reading.schema.name)
    return [right[time] and name in ours for time, name in zip(times, schemas, strict=True)]


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
