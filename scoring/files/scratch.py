"""Scores rows that are not stored: their computed features are those of the stored histories with the file's rows
so far, which are kept beside them in `FileHistory` until the file is done.

An entity's stored history is taken when its first row comes; later traffic does not change the file's scores.
"""

import copy
import math
from collections.abc import Sequence

import numpy as np

from scoring.files.models import BatchFile, FileHistory
from scoring.messages.replies import Stages
from scoring.messages.submission import Submission
from scoring.models import History
from scoring.policies.engine import Policy, Tally
from scoring.worker import batches, scorer
from scoring.worker.predictor import Predictor
from scoring.worker.scorer import Scored
from scoring.worker.storage import HistoryUpdate


class Scratch:
    """Scores consecutive rows of one file.

    Raises:
        StaleHistory: the schema's histories have to be rebuilt.
    """

    def __init__(self, file: BatchFile, predictor: Predictor) -> None:
        # Rules that match rows of a file are not counted among those of the traffic.
        self._predictor, self._file = predictor.under(_uncounted(predictor.policy)), file
        self._updates: dict[str, HistoryUpdate] = {}

    def score(self, submissions: Sequence[Submission]) -> list[Scored]:
        """Score the next rows. Those without a finite score, which is NaN then, enter no history."""
        before = dict(self._updates)
        scored = self._scored(submissions)
        fine = [place for place, each in enumerate(scored) if math.isfinite(each.fraud_score)]
        if len(fine) < len(scored) and not self._predictor.schema.is_plain:
            self._updates = before
            for place, each in zip(fine, self._scored([submissions[place] for place in fine]), strict=True):
                scored[place] = each
        return scored

    def _scored(self, submissions: Sequence[Submission]) -> list[Scored]:
        schema = self._predictor.schema
        cases = batches.cases_of(schema, submissions)
        given = schema.encode([case.values for case in cases])
        derived = scorer.nothing_derived(len(cases))
        if not schema.is_plain:
            derived = self._derived(submissions, [case.tokens for case in cases], given)
        return scorer.score(self._predictor, cases, given, derived, Stages())

    def _derived(
        self, submissions: Sequence[Submission], tokens: Sequence[Sequence[str]], given: np.ndarray
    ) -> np.ndarray:
        # numba takes a second to import, and only workers need it.
        from scoring.worker.histories import Locked
        from training.core.features.replay import version

        schema = self._predictor.schema
        kept = {place: name for place, name in enumerate(schema.entity_names) if version(schema, name)}
        entity_of = {row[place]: name for row in tokens for place, name in kept.items() if row[place]}
        found = self._found(set(entity_of))
        events: dict[str, dict[str, bytes]] = {name: {} for name in kept.values()}
        for token, name in entity_of.items():
            events[name][token] = found[token].events if token in found else version(schema, name)
        last_sequence = {token: found[token].last_sequence if token in found else 0 for token in entity_of}
        private = Locked(schema, events, last_sequence)
        _, derived = private.transactions_arrive(
            [submission.event_time for submission in submissions],
            given[:, schema.amount_index].tolist(),
            tokens,
            given,
        )
        self._updates |= {update.token: update for update in private.changed()}
        return derived

    def _found(self, tokens: set[str]) -> dict[str, HistoryUpdate]:
        """What is known of these tokens: from this chunk, earlier chunks, or else the stored histories."""
        found = {token: self._updates[token] for token in tokens & self._updates.keys()}
        for rows in (FileHistory.objects.filter(file=self._file), History.objects.all()):
            wanted = tokens - found.keys()
            columns = rows.filter(token__in=wanted).values_list("token", "events", "last_sequence") if wanted else ()
            found |= {token: HistoryUpdate(token, bytes(events), last) for token, events, last in columns}
        return found

    def save(self) -> None:
        """Store the histories as they are after these rows. Call it in the database transaction that ends the chunk."""
        FileHistory.objects.bulk_create(
            [FileHistory(file=self._file, **update._asdict()) for update in self._updates.values()],
            update_conflicts=True,
            unique_fields=["file", "token"],
            update_fields=["events", "last_sequence"],
            batch_size=1_000,
        )


def _uncounted(policy: Policy) -> Policy:
    other = copy.copy(policy)
    other.tally = Tally()
    return other
