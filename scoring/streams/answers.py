"""Answers to entries, as entries of the stream of answers."""

from typing import NamedTuple

import msgspec
from django.conf import settings
from django.urls import reverse

from scoring.api import problems, refusals
from scoring.api.outcomes import refusal_of
from scoring.exceptions import RequestRefused, Unscorable
from scoring.messages.replies import Kind, Outcome
from scoring.streams.entries import Entry, Read


class Answer(NamedTuple):
    """The answer to an entry: the status that a predict call would get, and the JSON. It is the same to the byte if the
    entry comes again."""

    entry: Entry
    status: int
    content: bytes
    request_id: str
    transaction_id: str | None = None
    is_repeated: bool = False

    def fields(self) -> dict[str, str | bytes]:
        """As an entry of the stream of answers."""
        named = {"transaction_id": self.transaction_id} if self.transaction_id is not None else {}
        return {
            "entry": self.entry.id,
            "status": str(self.status),
            "request_id": self.request_id,
            **named,
            "replayed": "true" if self.is_repeated else "false",
            "answer": self.content,
        }


def answer_to(read: Read, outcome: Outcome | RequestRefused, stream: str) -> Answer:
    if isinstance(outcome, RequestRefused):
        return _refused(read, outcome, stream)
    match outcome.kind:
        case Kind.SCORED | Kind.REPEATED:
            is_repeated = outcome.kind is Kind.REPEATED
            return Answer(read.entry, 200, outcome.answer, read.request_id, read.transaction_id, is_repeated)
        case Kind.PENDING:
            key = outcome.answer.decode()
            waits = {"id": key, "status": "pending", "location": reverse("prediction", args=[key])}
            return Answer(read.entry, 202, msgspec.json.encode(waits), read.request_id, read.transaction_id)
    return _refused(read, refusal_of(outcome), stream)


def set_aside(read: Read, stream: str) -> Answer:
    """The answer to an entry that is not tried again."""
    attempts = settings.STREAM_ATTEMPTS_LIMIT
    return _refused(read, Unscorable(f"It could not be scored in {attempts} attempts, and was set aside."), stream)


def _refused(read: Read, refusal: RequestRefused, stream: str) -> Answer:
    refusals.count(refusal.status, refusal.title, client=read.client_id)
    problem = problems.told(refusal, instance=f"{stream}/{read.entry.id}", request_id=read.request_id)
    content = msgspec.json.encode(problem)
    return Answer(read.entry, refusal.status, content, read.request_id, read.transaction_id)
