"""What can go wrong with a call. Everything is a `FraudsiteError`."""

from typing import Any, Self

import httpx

from fraudsite_client.models import Problem


class FraudsiteError(Exception):
    """Anything that this package raises."""


class NotReached(FraudsiteError):
    """The server did not answer before the deadline, or before the attempts were used up.

    Whether it stored something is not known. Calls that are repeated with the same `transaction_id` are stored once.
    """


class NotUnderstood(FraudsiteError):
    """The server sent something that is no answer of Fraudsite: a proxy's page, or the answer of another release."""


class Refused(FraudsiteError):
    """The server refused the call. `problem` (RFC 9457) says why, with an error for each field."""

    def __init__(self, problem: Problem, retry_after_s: float | None = None) -> None:
        faults = "; ".join(f"{error.pointer or '/'}: {error.detail}" for error in problem.errors)
        super().__init__(f"{problem.status} {problem.title}: {problem.detail} {faults}".rstrip())
        self.problem = problem
        self.retry_after_s = retry_after_s

    @property
    def status(self) -> int:
        return self.problem.status

    @classmethod
    def of(cls, response: httpx.Response) -> "Refused | NotUnderstood":
        """The error that a response tells of, as the subclass of its status."""
        try:
            problem = Problem.model_validate_json(response.content)
        except ValueError:
            return NotUnderstood(f"{response.request.url} answered {response.status_code}, and no problem of RFC 9457.")
        return cls.because(problem, wait_of(response))

    @classmethod
    def because(cls, problem: Problem, retry_after_s: float | None = None) -> Self:
        kind: Any = _KINDS.get(problem.status, cls)
        return kind(problem, retry_after_s)


class InvalidRequest(Refused):
    """400 or 422: a field is missing, unknown, malformed or outside its range."""


class NotAuthenticated(Refused):
    """401: no key, or one that is unknown, revoked or expired."""


class NotAllowed(Refused):
    """403: the key lacks the scope or the schema, or may not be used from here."""


class NotFound(Refused):
    """404: there is no such thing of yours."""


class Conflict(Refused):
    """409: the transaction id or the reference was used with another content."""


class TooManyRequests(Refused):
    """429: over the limit of the key, or more than the server can take. `retry_after_s` says when to come again."""


class Unavailable(Refused):
    """503: no worker answered in time, or none can. Nothing was acknowledged."""


_KINDS: dict[int, type[Refused]] = {
    400: InvalidRequest,
    401: NotAuthenticated,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    422: InvalidRequest,
    429: TooManyRequests,
    503: Unavailable,
}


def wait_of(response: httpx.Response) -> float | None:
    """The seconds of `Retry-After` (RFC 9110), which Fraudsite gives as a number."""
    given = response.headers.get("Retry-After", "")
    return float(given) if given.isdecimal() else None
