"""Adds entries to the audit trail."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.http import HttpRequest

from fraudsite.audit.models import Entry
from scoring.clients.addresses import client_address
from training.core.card_numbers import holds_card_number
from training.registry import account

# The request that this thread answers.
_request: ContextVar[HttpRequest | None] = ContextVar("request", default=None)
DETAIL_LENGTH, PERSON_LENGTH, OBJECT_LENGTH = 20_000, 150, 255
HIDDEN = "(left out: it holds a card number)"


@contextmanager
def answering(request: HttpRequest) -> Iterator[None]:
    """Within it, entries name the person and the address of this request."""
    token = _request.set(request)
    try:
        yield
    finally:
        _request.reset(token)


def record(action: str, *, kind: str = "", object_id: Any = "", detail: str = "", person: str | None = None) -> None:
    """Add an entry, in the transaction of the act: both are stored or neither is.

    Without `person` it is who sent the request, and outside of requests the account that runs the program.
    """
    entry = Entry(action=action, kind=kind, **_circumstances())
    entry.person = _fitting(entry.person if person is None else person, PERSON_LENGTH)
    entry.object_id = _fitting(str(object_id), OBJECT_LENGTH)
    detail = detail.replace("\0", "")
    entry.detail = HIDDEN if holds_card_number(detail) else detail[:DETAIL_LENGTH]
    entry.digest = entry.compute_digest()
    entry.save(force_insert=True)


def _fitting(text: str, limit: int) -> str:
    return HIDDEN if holds_card_number(text) else text.replace("\0", "")[:limit]


def _circumstances() -> dict[str, str]:
    request = _request.get()
    if request is None:
        return {"person": account(), "origin": _program(), "request_id": ""}
    user = getattr(request, "user", None)
    return {
        "person": user.get_username() if isinstance(user, AbstractBaseUser) else "",  # not a client of the API
        "origin": client_address(request) or "",
        "request_id": getattr(request, "request_id", ""),
    }


def _program() -> str:
    """The command, such as "manage.py policy", without its arguments; of a worker "celery"."""
    program, *arguments = [*sys.argv, ""]
    name = Path(program).name
    return f"{name} {arguments[0]}".strip()[:150] if name == "manage.py" else name[:150]
