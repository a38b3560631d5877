"""What a server cannot do now."""

from scoring.api.catalogue.kind import ADMINISTRATOR, SERVER, Kind

UNAVAILABLE = (
    Kind(
        429,
        "Too many requests in flight",
        "More requests are waiting in this server than it holds. Nothing was stored.",
        "Wait for `Retry-After`, with some jitter, and send the same request with the same transaction id.",
        SERVER,
        "More requests are waiting than this server holds. Send the same request again later.",
    ),
    Kind(
        429,
        "Rate limit exceeded",
        "The key has been used more often than it may be. Nothing was stored.",
        "Wait for `Retry-After`. An administrator can raise the limit of the key.",
        SERVER,
        "With the scope predict this key may be used for 100 calls per second in the long run, and for 200 at once. "
        "Nothing was stored. Send it again in 1 s. An administrator can raise the limit of the key.",
    ),
    Kind(
        429,
        "Daily quota exhausted",
        "The key's transactions of this day are used up. Nothing was stored.",
        "Wait for `Retry-After`: the next day begins at midnight UTC. An administrator can raise the quota of the key.",
        SERVER,
        "This key may be used for 10000 transactions a day, and 0 of them are left; the next day begins at midnight "
        "UTC. Nothing was stored. An administrator can raise the quota of the key.",
    ),
    Kind(
        500,
        "Server error",
        "The server failed, and the failure is logged with the `request_id`.",
        "Tell the operator the `request_id`. A transaction may or may not be stored: send it again with the same id.",
        ADMINISTRATOR,
        "The server failed; the failure is logged.",
    ),
    Kind(
        503,
        "Scorer unavailable",
        "No worker scored the transaction within the deadline. Nothing was acknowledged.",
        "Wait for `Retry-After`, and send the same request with the same transaction id.",
        SERVER,
        "No worker answered inside the deadline; nothing was acknowledged. Send it again.",
    ),
    Kind(
        503,
        "Schema without a champion",
        "No model was promoted for this schema, so nothing decides. Nothing was stored.",
        "Sending it again changes nothing, so there is no `Retry-After`: an operator has to promote a model.",
        ADMINISTRATOR,
        "This schema has no champion, the model that decides; nothing was acknowledged. An operator promotes one.",
    ),
    Kind(
        503,
        "Database unavailable",
        "The database does not answer. Nothing was acknowledged.",
        "Wait for `Retry-After`, and send the same request with the same transaction id.",
        SERVER,
        "The database does not answer; nothing was acknowledged. Send the same request again.",
    ),
    Kind(
        503,
        "Storage unavailable",
        "The store of files does not answer. Nothing was acknowledged.",
        "Wait for `Retry-After`, and send the same request with the same `Idempotency-Key`.",
        SERVER,
        "The store of files does not answer; nothing was acknowledged. Send the same request again.",
    ),
    Kind(
        503,
        "Sandbox unavailable",
        "Redis, which keeps the answers to keys for tests, does not answer. Other keys are not affected.",
        "Wait for `Retry-After`, and send the same request.",
        SERVER,
        "Redis, which keeps the answers to calls with keys for tests, does not answer. Send the same request again.",
    ),
    Kind(
        503,
        "Histories unavailable",
        "The histories of the schema have to be built anew. Nothing was stored.",
        "Wait for `Retry-After`; an operator builds them with `manage.py rebuild_histories`.",
        SERVER,
        "The histories of the schema have to be rebuilt by an operator; nothing was stored. Send it again later.",
    ),
)
