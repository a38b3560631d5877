"""How a call is tried until it succeeds, without doing any input or output itself.

A plan is a generator: it yields requests to send and pauses to make, gets responses or errors of the transport back,
and returns what the call is worth. `Fraudsite` carries plans out with a blocking httpx client, `AsyncFraudsite` with
an asynchronous one, so both try again in the same way.
"""

import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

from fraudsite_client.errors import FraudsiteError, NotReached, Refused, Unavailable, wait_of

T = TypeVar("T")

TRY_AGAIN = {429, 502, 503, 504}
# The server would answer the same until an operator does something.
NO_USE = "schema-without-a-champion"


@dataclass(frozen=True)
class Attempt:
    """A request to send, and how many seconds to wait for its response. `upload` is a file that is its body, `download`
    where the body of a response that accepts it is saved."""

    method: str
    path: str
    timeout_s: float
    query: Sequence[tuple[str, str]] = ()
    json: Any = None
    headers: Mapping[str, str] | None = None
    upload: Path | None = None
    download: Path | None = None


@dataclass(frozen=True)
class Pause:
    seconds: float


Answer = httpx.Response | httpx.TransportError | None
Plan = Generator[Attempt | Pause, Answer, T]


@dataclass(frozen=True)
class Patience:
    """How long and how often a call is tried.

    `deadline_s` bounds the whole call, pauses included, `timeout_s` each attempt. Pauses are drawn at random between
    zero and a bound that doubles from `first_pause_s` to `longest_pause_s` (full jitter, Brooker, "Exponential Backoff
    And Jitter", 2015), or are what the server asks for with `Retry-After`, and up to a tenth more.
    """

    deadline_s: float = 10.0
    timeout_s: float = 5.0
    attempts: int = 5
    first_pause_s: float = 0.1
    longest_pause_s: float = 5.0

    def __post_init__(self) -> None:
        for name in ("deadline_s", "timeout_s", "attempts", "first_pause_s", "longest_pause_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive.")


def send(make: Callable[[float], Attempt], patience: Patience) -> Plan[httpx.Response]:
    """Send a call until the server accepts or refuses it. `make` gives the request for the seconds that are left.

    Only for calls that may be sent twice: those that read, and those that the server recognises as repeats.

    Raises:
        Refused: the server refused it, or went on asking for patience.
        NotReached: no answer in time.
    """
    give_up = time.monotonic() + patience.deadline_s
    failure: FraudsiteError | None = None
    for number in range(patience.attempts):
        left_s = give_up - time.monotonic()
        if left_s <= 0:
            break
        answer = yield make(min(patience.timeout_s, left_s))
        asked_s: float | None = None
        if isinstance(answer, httpx.Response):
            if answer.is_success:
                return answer
            error = Refused.of(answer)
            if answer.status_code not in TRY_AGAIN or _is_of_no_use(error):
                raise error
            failure, asked_s = error, wait_of(answer)
        else:
            failure = NotReached(f"No answer: {answer!r}.")
            failure.__cause__ = answer
        pause_s = _pause_s(patience, number, asked_s)
        if number + 1 == patience.attempts or time.monotonic() + pause_s >= give_up:
            break
        yield Pause(pause_s)
    raise failure or NotReached("The deadline had passed before the call was sent.")


def _pause_s(patience: Patience, number: int, asked_s: float | None) -> float:
    if asked_s is not None:
        return asked_s * random.uniform(1.0, 1.1)  # noqa: S311, jitter needs no secrecy
    return random.uniform(0.0, min(patience.longest_pause_s, patience.first_pause_s * 2.0**number))  # noqa: S311


def _is_of_no_use(error: FraudsiteError) -> bool:
    return isinstance(error, Unavailable) and error.problem.type.endswith(NO_USE)
