"""The consumer: reads entries of a stream, has each batch scored and stored, answers, and acknowledges, in this order.

Killed anywhere, it leaves entries that are not acknowledged. They come again, to itself after a restart or to another
consumer, and are found as stored: so each is stored once, and answered at least once, with the same answer.

An entry that comes again is scored alone. So only what a process dies of, or fails at, is counted as its attempt, and
is set aside after `STREAM_ATTEMPTS_LIMIT`; the entries that were read with it are not. Redis failing as answers are
written is no attempt: they are kept, and written before anything is read again. What is stored is never set aside.
"""

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import redis
from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections, connection

from scoring.exceptions import DatabaseUnavailable, RequestRefused
from scoring.messages import request_ids
from scoring.messages.replies import Kind, Outcome
from scoring.messages.submission import Submission
from scoring.models import ApiKey, Client, Transaction
from scoring.streams import answers, entries
from scoring.streams.answers import Answer
from scoring.streams.entries import Entry, Read
from scoring.streams.group import Group
from scoring.streams.rights import NoKey, Rights
from scoring.telemetry import tracing
from scoring.worker import batches, predictor
from training import clock
from training.core.exceptions import FraudsiteError, NoChampion

logger = logging.getLogger(__name__)

# What is not an entry's fault: it waits, and so do all behind it.
ELSEWHERE = (FraudsiteError, InterfaceError, OperationalError)
PAUSE_S = 1.0


class ClientInactive(FraudsiteError):
    """The client of this stream is not active any more. Nothing is read until an administrator activates it."""


class Consumer:
    """Consumes one stream, whose transactions are one client's, until it is told to stop."""

    def __init__(self, *, client: Client, group: Group) -> None:
        self._client, self._group = client, group
        self._rights = Rights(client, group.stream)
        self._stopping = threading.Event()
        self._takes_over_at = 0.0
        self._answered: tuple[Sequence[Answer], Sequence[Entry]] | None = None  # and not acknowledged

    def stop(self) -> None:
        """Finish the batch at hand, and end."""
        self._stopping.set()

    def run(self) -> None:
        """Consume until told to stop.

        Raises:
            ClientInactive: the client may not send transactions any more.
            NoKey: the stream has no valid key any more.
        """
        while not self._stopping.is_set():
            try:
                self._group.begin()
                self.take_up()
                while not self._stopping.is_set():
                    self.turn()
            except (redis.RedisError, DatabaseUnavailable) as error:
                logger.warning("The stream %s waits: %s", self._group.stream, error)
                self._stopping.wait(PAUSE_S)

    def take_up(self) -> None:
        """Finish what this consumer had before it was killed, or before Redis went away."""
        if self._answered:
            self._acknowledge(*self._answered)
        after = "0"
        while not self._stopping.is_set() and (entry := self._group.read_own(after)):
            self._again(entry)
            after = entry.id

    def turn(self) -> int:
        """Take over what others left, from time to time, and score the next entries. Returns how many it read."""
        Path(settings.VAR_DIR, "stream-alive").touch()  # for health checks
        if time.monotonic() >= self._takes_over_at:
            self._check_client()
            self._take_over()
            self._group.trim()
            self._takes_over_at = time.monotonic() + settings.STREAM_CLAIM_S / 2
        key = self._rights.key()
        if wait_s := self._rights.wait_s(key):
            self._stopping.wait(min(wait_s, PAUSE_S))
            return 0
        new = self._group.read_new(self._rights.most(key))
        if new:
            allowed = self._rights.spend(key, len(new))
            # What is refused is answered first: if it was left, it would come again, and be scored though not counted.
            if key and allowed < len(new):
                self._score(new[allowed:], attempts=1, refusal=self._rights.refusal(key))
            self._score(new[:allowed], attempts=1)
        return len(new)

    def _take_over(self) -> None:
        while not self._stopping.is_set():
            entry, lost = self._group.claim()
            if lost:
                logger.error("The stream %s was trimmed: %d entries are lost.", self._group.stream, lost)
            if entry:
                self._again(entry)
            elif not lost:
                return

    def _again(self, entry: Entry) -> None:
        """Score an entry that was delivered before, alone."""
        attempts = self._group.attempts(entry)
        if not entry.fields:
            logger.error("The stream %s was trimmed: the entry %s is lost.", self._group.stream, entry.id)
            self._group.drop(entry)
        elif attempts > settings.STREAM_ATTEMPTS_LIMIT and not self._is_stored(entry):
            logger.error("The entry %s of the stream %s is set aside.", entry.id, self._group.stream)
            self._acknowledge(
                [answers.set_aside(self._read(entry, self._rights.key()), self._group.stream)], dead=[entry]
            )
        else:
            self._score([entry], attempts)

    def _score(self, new: Sequence[Entry], attempts: int, refusal: RequestRefused | None = None) -> None:
        """Have entries scored, or all of them refused, and answer them. While it cannot be done, this waits, until the
        consumer is told to stop."""
        is_forgiven = False
        while new:
            if not connection.in_atomic_block:  # tests run inside a transaction that they roll back
                close_old_connections()
            try:
                found = self._answers(new, refusal)
            except NoKey:
                raise
            except ELSEWHERE as error:
                logger.warning("The stream %s waits: %s", self._group.stream, error)
                if isinstance(error, (InterfaceError, OperationalError)) and not connection.in_atomic_block:
                    connection.close()  # it may be broken; the next statement opens a new one
                if not is_forgiven:
                    self._group.forgive(new, attempts)
                    is_forgiven = True
                if self._stopping.wait(PAUSE_S):
                    return
                continue
            except Exception:  # whatever an entry is at fault for, the others go on
                if len(new) == 1:
                    logger.exception("The entry %s of the stream %s failed.", new[0].id, self._group.stream)
                    return
                logger.exception("A batch of the stream %s failed, and is scored one by one.", self._group.stream)
                for entry in new:
                    self._score([entry], attempts, refusal)
                return
            self._acknowledge(found)
            return

    def _acknowledge(self, found: Sequence[Answer], dead: Sequence[Entry] = ()) -> None:
        self._answered = found, dead
        self._group.acknowledge(found, dead)
        self._answered = None

    def _is_stored(self, entry: Entry) -> bool:
        """Whether an entry was stored by an attempt that was not acknowledged.

        Raises:
            DatabaseUnavailable: nobody knows.
        """
        key = entries.transaction_id_of(entry, stream=self._group.stream, client_id=self._client.pk)
        try:
            return Transaction.objects.filter(pk=key).exists()
        except (InterfaceError, OperationalError) as error:
            if not connection.in_atomic_block:
                connection.close()  # it may be broken; the next statement opens a new one
            raise DatabaseUnavailable from error

    def _answers(self, new: Sequence[Entry], refusal: RequestRefused | None) -> list[Answer]:
        key = self._rights.key()
        read = [self._read(entry, key) for entry in new]
        if refusal:
            return [answers.answer_to(each, refusal, self._group.stream) for each in read]
        fine = [each.found for each in read if isinstance(each.found, Submission)]
        outcomes = _outcomes(fine)
        return [
            answers.answer_to(
                each, outcomes[each.found.id] if isinstance(each.found, Submission) else each.found, self._group.stream
            )
            for each in read
        ]

    def _read(self, entry: Entry, key: ApiKey | None) -> Read:
        return entries.read(entry, stream=self._group.stream, client_id=self._client.pk, key=key)

    def _check_client(self) -> None:
        try:
            if not Client.objects.filter(pk=self._client.pk, is_active=True).exists():
                raise ClientInactive
        except (InterfaceError, OperationalError) as error:
            logger.warning("The stream %s waits for the database: %s", self._group.stream, error)


def _outcomes(submissions: Sequence[Submission]) -> dict[str, Outcome]:
    """Score and store, schema by schema, each in the order of the stream."""
    outcomes: dict[str, Outcome] = {}
    for schema in sorted({submission.schema for submission in submissions}):
        part = [submission for submission in submissions if submission.schema == schema]
        with request_ids.working_for(submission.request for submission in part), tracing.batch(part, part[0].id):
            try:
                champion = predictor.current(schema)
            except NoChampion as error:
                logger.warning("%d transactions of %s were not scored: %s", len(part), schema, error)
                found = [Outcome(Kind.NO_CHAMPION)] * len(part)
            else:
                found, _ = batches.score_batch(submissions=part, predictor=champion, started_at=clock.seconds())
        outcomes |= zip([submission.id for submission in part], found, strict=True)
    return outcomes
