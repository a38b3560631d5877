"""The statement that stores a batch on PostgreSQL."""

# One statement, so one round trip and one commit. Values are sent as arrays, which the server need not parse;
# docs/performance.md compares this with COPY and with a long VALUES list.
# Lines that begin with + are only for schemas with computed features, those with ~ only for batches with alerts.
STATEMENT = """
WITH sent AS (
    SELECT * FROM unnest(
        %b::text[], %b::bigint[], %b::text[], %b::float8[], %b::text[], %b::text[], %b::float8[], %b::float8[],
        %b::float8[], %b::text[], %b::float8[], %b::text[], %b::text[], %b::text[], %b::float8[], %b::float8[],
        %b::text[], %b::text[], %b::text[]
+       , %b::text[], %b::bigint[], %b::text[]
    ) AS sent(
        id, client_id, transaction_id, amount, fields, body_sha256, event_time, received_at,
        fraud_score, decision, threshold, evidence, reasons, explanation, latency_ms, queue_ms, conversion,
        request_id, trace_id
+       , tokens, sequence, derived
    )
), inserted AS (
    INSERT INTO scoring_transaction
        (id, client_id, transaction_id, schema, amount, fields, body_sha256, event_time, received_at, conversion,
         request_id, trace_id
+       , tokens, sequence
        )
    SELECT id::uuid, client_id, transaction_id, %b, amount, fields::jsonb, body_sha256,
        to_timestamp(event_time), to_timestamp(received_at), conversion::jsonb,
        request_id, trace_id::uuid
+       , tokens::jsonb, sequence
    FROM sent ORDER BY client_id, transaction_id, id
    ON CONFLICT DO NOTHING
    RETURNING id
), predicted AS (
    INSERT INTO scoring_prediction
        (transaction_id, model_version_id, policy_id, fraud_score, decision, threshold, evidence, reasons, explanation,
         latency_ms, queue_ms, features_ms, model_ms, created_at
+        , derived
        )
    SELECT inserted.id, %b, %b, fraud_score, decision, threshold, evidence::jsonb, reasons::jsonb,
        explanation::jsonb, latency_ms, queue_ms, %b, %b, %b
+       , derived::jsonb
    FROM inserted JOIN sent ON inserted.id = sent.id::uuid
    RETURNING transaction_id
), reviews AS (
    INSERT INTO scoring_review
        (prediction_id, state, fraud_score, expected_loss, client_id, schema, amount, decision, reason, rules, card,
         queue_id, due_at, opened_at)
    SELECT opened.* FROM unnest(
        %b::uuid[], %b::text[], %b::float8[], %b::float8[], %b::bigint[], %b::text[], %b::float8[], %b::text[],
        %b::text[], %b::text[], %b::text[], %b::bigint[], %b::timestamptz[], %b::timestamptz[]
    ) AS opened(prediction_id) JOIN predicted ON transaction_id = prediction_id
), links AS (
    INSERT INTO scoring_reviewlink (review_id, name, key)
    SELECT transaction_id, name, key
    FROM unnest(%b::text[], %b::text[], %b::text[]) AS linked(id, name, key)
    JOIN predicted ON transaction_id = linked.id::uuid
~), told AS (
~   INSERT INTO scoring_webhookdelivery
~       (endpoint_id, event_id, type, object, payload, created_at, since, due_at, span, state, attempts, fault)
~   SELECT endpoint.id, event.id, event.type, event.object, event.payload, event.at, event.at, event.at,
~       event.span, 'pending', 0, ''
~   FROM unnest(%b::uuid[], %b::text[], %b::text[], %b::text[], %b::bigint[], %b::text[], %b::timestamptz[],
~       %b::text[]) AS event(id, type, object, payload, client_id, schema, at, span)
~   JOIN predicted ON transaction_id = event.object::uuid
~   JOIN scoring_webhookendpoint AS endpoint ON endpoint.client_id = event.client_id
~       AND endpoint.state IN ('active', 'paused') AND endpoint.event_types ? event.type
~       AND (endpoint.schemas = '[]' OR endpoint.schemas ? event.schema)
+), remembered AS (
+   UPDATE scoring_history SET events = seen.events, last_sequence = seen.last_sequence, updated_at = %b
+   FROM unnest(%b::text[], %b::bytea[], %b::bigint[]) AS seen(token, events, last_sequence)
+   WHERE scoring_history.token = seen.token
)
SELECT id::text FROM inserted
"""


def _with(marks: str) -> str:
    """The statement with the lines that begin with one of these marks, and without those of other marks."""
    lines = STATEMENT.splitlines(keepends=True)
    return "".join(line[1:] if line[0] in marks else line for line in lines if line[0] not in {"+", "~"} - {*marks})


STATEMENTS = {marks: _with(marks) for marks in ("", "+", "~", "+~")}

# The columns of a review in the statement, in its order.
REVIEW_COLUMNS = (
    *("prediction_id", "state", "fraud_score", "expected_loss", "client_id", "schema", "amount", "decision", "reason"),
    *("rules", "card", "queue_id", "due_at", "opened_at"),
)
# Those of an event.
EVENT_COLUMNS = ("id", "type", "object", "payload", "client", "schema", "at", "span")
