"""The errors of a request. Each class defines an answer: its status, its title and, as the detail, its docstring."""

from dataclasses import dataclass

from training.core.exceptions import FraudsiteError


@dataclass(frozen=True)
class FieldError:
    """One fault of a body. `pointer` is a JSON pointer (RFC 6901); the offending value is never repeated."""

    pointer: str
    code: str
    detail: str


class RequestRefused(FraudsiteError):
    """The request was refused."""

    status = 400
    title = "Bad request"
    retry_after = False

    def __init__(self, message: str | None = None, *, errors: list[FieldError] | None = None) -> None:
        super().__init__(message)
        self.errors = errors or []


class MalformedBody(RequestRefused):
    """The body must be one JSON object in UTF-8."""

    title = "Malformed body"


class InvalidFields(RequestRefused):
    """Some fields are missing, unknown or of the wrong type. Correct the fields named in `errors` and send again."""

    title = "Invalid fields"


class UnacceptableValues(RequestRefused):
    """Some values cannot be accepted. Correct the fields named in `errors` and send again."""

    status = 422
    title = "Unacceptable values"


class BodyTooLarge(RequestRefused):
    """The body is larger than this endpoint accepts."""

    status = 413
    title = "Body too large"


class UnsupportedMedia(RequestRefused):
    """Send the body as `application/json` in UTF-8, without a Content-Encoding but `identity`."""

    status = 415
    title = "Unsupported media type"


class TransactionConflict(RequestRefused):
    """This transaction id was used before with another body. Send the same body to repeat, or choose another id."""

    status = 409
    title = "Transaction id already used"


class LabelConflict(RequestRefused):
    """This reference was used before for a label that says something else. Send the same to repeat, or another one."""

    status = 409
    title = "Label reference already used"


class HistoriesUnavailable(RequestRefused):
    """The histories of the schema have to be rebuilt by an operator; nothing was stored. Send it again later."""

    status = 503
    title = "Histories unavailable"
    retry_after = True


class Unscorable(RequestRefused):
    """The model has no finite score for these values; nothing was stored. Check them against the schema."""

    status = 422
    title = "Unscorable transaction"


class NotExplained(RequestRefused):
    """The score of this transaction cannot be explained any more."""

    status = 422
    title = "Score not explained"


class ScorerUnavailable(RequestRefused):
    """No worker scored inside the deadline, or none could. `reason` is one of `Fallback.Reason`."""

    status = 503
    title = "Scorer unavailable"
    retry_after = True

    def __init__(self, message: str | None = None, *, reason: str) -> None:
        super().__init__(message or "No worker answered inside the deadline; nothing was acknowledged. Send it again.")
        self.reason = reason


class SchemaWithoutChampion(ScorerUnavailable):
    """No model has been promoted for this schema, and sending again changes nothing until an operator promotes one."""

    title = "Schema without a champion"
    retry_after = False

    def __init__(self) -> None:
        message = (
            "This schema has no champion, the model that decides; nothing was acknowledged. An operator promotes one."
        )
        super().__init__(message, reason="worker")


class DatabaseUnavailable(RequestRefused):
    """The database does not answer; nothing was acknowledged. Send the same request again."""

    status = 503
    title = "Database unavailable"
    retry_after = True


class Overloaded(RequestRefused):
    """More requests are waiting than this server holds. Send the same request again later."""

    status = 429
    title = "Too many requests in flight"
    retry_after = True


class ReasonMissing(FraudsiteError):
    """Give a reason, of at most 1,000 characters. Nothing was changed."""


class LabelledMeanwhile(FraudsiteError):
    """Somebody labelled it meanwhile. Nothing was changed: look at the new label, and decide again."""


class UndoRefused(FraudsiteError):
    """It is too late to undo that. Relabel the transaction or reopen its review, with a reason."""


class TooManyKeys(FraudsiteError):
    """A client has at most two active keys, enough to change over. Revoke one first."""
