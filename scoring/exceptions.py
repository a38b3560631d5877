"""The errors of a request. Each class defines an answer: its status, its title and, as the detail, its docstring."""

from dataclasses import dataclass

from training.core.exceptions import FraudsiteError


@dataclass(frozen=True)
class FieldError:
    """One fault of a request. `pointer` is a JSON pointer (RFC 6901) into its body, or `parameter` the name of a
    parameter of its query; the offending value is never repeated."""

    pointer: str
    code: str
    detail: str
    parameter: str = ""

    def told(self) -> dict[str, str]:
        """As it stands in a problem document."""
        told = {"pointer": self.pointer, "code": self.code, "detail": self.detail}
        return told | {"parameter": self.parameter} if self.parameter else told


class RequestRefused(FraudsiteError):
    """The request was refused."""

    status = 400
    title = "Bad request"
    retry_after = False
    # In how many seconds, where that is known better than by `RETRY_AFTER_S`.
    retry_after_s: int | None = None

    def __init__(self, message: str | None = None, *, errors: list[FieldError] | None = None) -> None:
        super().__init__(message)
        self.errors = errors or []


class ScopeMissing(RequestRefused):
    """The key has not the scope that this call needs."""

    status = 403
    title = "Scope missing"

    def __init__(self, scope: str) -> None:
        super().__init__(
            f"This call needs a key with the scope {scope}, which this key has not. An administrator adds it to the "
            "key, or makes another key."
        )


class AddressOutside(RequestRefused):
    """The call comes from an address that is in no network of its key."""

    status = 403
    title = "Address outside the networks of the key"

    def __init__(self, address: str | None) -> None:
        super().__init__(
            f"This key is accepted from its own networks only, and {address or 'a caller without an address'} is in "
            "none of them. An administrator adds the network to the key."
        )


class SchemaNotAllowed(RequestRefused):
    """The key may not be used for this schema."""

    status = 403
    title = "Schema not allowed"

    def __init__(self, schema: str) -> None:
        super().__init__(
            f"This key may not be used for the schema {schema}. Use a key of that schema, or have an administrator add "
            "it to this one."
        )


class TestKeyRefused(RequestRefused):
    """A key for tests is accepted for predict calls, lists of transactions and reading one of their answers. For
    everything else use another key."""

    status = 403
    title = "Key for tests"


class MalformedBody(RequestRefused):
    """The body must be one JSON object in UTF-8."""

    title = "Malformed body"


class BodyCutOff(MalformedBody):
    """The body was cut off: it ended before its announced length, or before its last chunk. Send all of it again."""


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


class UnsupportedFile(RequestRefused):
    """Send a file as `text/csv`, `application/x-ndjson` (JSON Lines) or `application/vnd.apache.parquet`."""

    status = 415
    title = "Unsupported media type"


class FileUnacceptable(RequestRefused):
    """The file cannot be taken."""

    title = "File refused"


class FileTooLarge(RequestRefused):
    """The file is larger than this server takes. Send it in parts."""

    status = 413
    title = "Body too large"


class FileConflict(RequestRefused):
    """This Idempotency-Key was used before with another file. Send the same file to repeat, or choose another key."""

    status = 409
    title = "Idempotency key already used"


class ResultNotReady(RequestRefused):
    """There is no result yet, or no longer: `state` of the file tells which."""

    status = 409
    title = "Result not ready"


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


class StorageUnavailable(RequestRefused):
    """The store of files does not answer; nothing was acknowledged. Send the same request again."""

    status = 503
    title = "Storage unavailable"
    retry_after = True


class SandboxUnavailable(RequestRefused):
    """Redis, which keeps the answers to calls with keys for tests, does not answer. Send the same request again."""

    status = 503
    title = "Sandbox unavailable"
    retry_after = True


class Overloaded(RequestRefused):
    """More requests are waiting than this server holds. Send the same request again later."""

    status = 429
    title = "Too many requests in flight"
    retry_after = True


class RateLimited(RequestRefused):
    """The key has been used more often than it may be. Nothing was stored; `Retry-After` says when to send it again."""

    status = 429
    title = "Rate limit exceeded"
    retry_after = True

    def __init__(self, *, per_s: float, most: float, unit: str, scope: str, retry_after_s: int) -> None:
        super().__init__(
            f"With the scope {scope} this key may be used for {per_s:g} {unit} per second in the long run, and for "
            f"{most:.0f} at once. Nothing was stored. Send it again in {retry_after_s} s. An administrator can raise "
            "the limit of the key."
        )
        self.retry_after_s = retry_after_s


class QuotaExhausted(RequestRefused):
    """The key's transactions of this day are used up. Nothing was stored; `Retry-After` tells when the next begins."""

    status = 429
    title = "Daily quota exhausted"
    retry_after = True

    def __init__(self, *, quota: float, left: int, retry_after_s: int) -> None:
        super().__init__(
            f"This key may be used for {quota:.0f} transactions a day, and {left} of them are left; the next day "
            "begins at midnight UTC. Nothing was stored. An administrator can raise the quota of the key."
        )
        self.retry_after_s = retry_after_s


class ReasonMissing(FraudsiteError):
    """Give a reason, of at most 1,000 characters. Nothing was changed."""


class LabelledMeanwhile(FraudsiteError):
    """Somebody labelled it meanwhile. Nothing was changed: look at the new label, and decide again."""


class TransactionDeleted(FraudsiteError):
    """Retention has deleted this transaction, or is about to. Nothing was changed."""


class UndoRefused(FraudsiteError):
    """It is too late to undo that. Relabel the transaction or reopen its review, with a reason."""


class KeyRevoked(FraudsiteError):
    """This key is revoked. Make a new one."""


class TooManyKeys(FraudsiteError):
    """A client has at most two active keys of one name, enough to change over. Revoke one first, or choose another."""
