"""The answers of the API, made by make_models.py from the OpenAPI document. Do not edit it."""

from __future__ import annotations

from typing import Literal
from pydantic import AwareDatetime, BaseModel, Field


class Conversion(BaseModel):
    sent: float = Field(..., description="The amount that was sent.")
    currency: str = Field(..., description="Its currency.")
    amount: float = Field(..., description="The amount that was scored.")
    base: str = Field(..., description="The schema's currency, in which it is.")
    rate: str = Field(..., description="How many units of the currency one unit of the base buys.")
    rate_from: AwareDatetime = Field(..., description="Since when this rate holds.")
    rate_stale: bool = Field(..., description="The rate was older than the operator allows.")


class FieldError(BaseModel):
    pointer: str = Field(..., description="JSON pointer to the field (RFC 6901).")
    code: str
    detail: str
    parameter: str | None = Field(None, description="The parameter of the query, if it is one.")


class Problem(BaseModel):
    """
    An error (RFC 9457).
    """

    type: str = Field(..., description="The address of the page of its kind, which is the same everywhere.")
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[FieldError]


class Reason(BaseModel):
    feature: str
    contribution: float = Field(..., description="Logits that the feature adds, above an ordinary transaction.")
    text: str | None = Field(None, description="The value, and what is usual, in words.")


class Explanation(BaseModel):
    """
    Why a transaction has its score, in logits.
    """

    id: str
    model_version: str = Field(..., description="The version that scored it, and that explains it.")
    fraud_score: float
    base: float = Field(..., description="The logit of an ordinary transaction.")
    contributions: list[Reason] = Field(
        ..., description="Of every input, raising or lowering the score, the strongest first."
    )
    residual: float = Field(..., description="What rounding leaves of the logit of `fraud_score`.")


class File(BaseModel):
    """
    A file of transactions, and how far it is.
    """

    id: str
    name: str
    state: Literal["receiving", "waiting", "scoring", "done", "refused", "failed", "cancelled", "expired"] | str
    mode: Literal["traffic", "score"] | str
    schema_: str = Field(..., alias="schema")
    format: Literal["csv", "jsonl", "parquet"] | str
    size_bytes: int = Field(..., description="As it was sent.")
    sha256: str = Field(..., description="Of the file as it was sent.")
    rows: int | None = Field(..., description="Null until the file was read.")
    rows_done: int = Field(..., description="Scored or refused.")
    scored: int
    refused: int
    rows_per_second: float | None
    eta_s: float | None = Field(..., description="Seconds until it is done, at the rate so far.")
    detail: str | None = Field(..., description="Why it was refused, failed or waits.")
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    expires_at: AwareDatetime | None = Field(..., description="When its results are deleted.")


class LabelReceipt(BaseModel):
    status: Literal["stored", "waiting"] | str
    id: str | None = Field(..., description="Our id of the transaction; null while it has not arrived.")
    until: AwareDatetime | None = Field(..., description="How long the label waits for its transaction.")


class LabelResult(BaseModel):
    """
    What became of one label of a batch.
    """

    status: int = Field(..., description="The status that a call of its own would have had.")
    label: LabelReceipt | None = None
    problem: Problem | None = None


class Pending(BaseModel):
    """
    A transaction that is stored and waits for its score.
    """

    id: str
    status: Literal["pending"] | str
    location: str = Field(..., description="The address of the prediction, once it is made.")
    detail: str | None = Field(None, description="What it waits for, once an attempt has failed.")


class Prediction(BaseModel):
    """
    Describes `Answer` in the OpenAPI document.
    """

    id: str = Field(..., description="Fraudsite's id of the transaction and its prediction.")
    transaction_id: str | None = Field(..., description="The client's own id, when it sent one.")
    fraud_score: float | None = Field(..., description="Higher is riskier; null when degraded.")
    is_fraud: bool | None = Field(..., description="The decision is review or block.")
    alert: bool = Field(..., description="The transaction is put before an analyst.")
    decision: Literal["approve", "challenge", "review", "block"] | str
    reasons: list[Reason] = Field(..., description="Alerts only: what raised the score most.")
    threshold: float | None = Field(..., description="The review threshold that held.")
    model_version: str | None
    policy_version: int | None = Field(
        ..., description="The number of the policy that decided; null if the model's thresholds alone did."
    )
    basis: Literal["score", "rule", "list", "fallback", "control"] | str = Field(
        ..., description="What the decision was made by."
    )
    rules: list[str] = Field(..., description="The active rules that matched.")
    lists: list[str] = Field(..., description="The lists that decided.")
    latency_ms: float = Field(..., description="From arrival of the request to just before the commit.")
    created_at: AwareDatetime
    degraded: Literal["deadline", "no_worker", "broker", "worker", "rule", "policy", "list"] | str | None = Field(
        ...,
        description="What was left out of the decision: the score, if there is none, or a rule, a list or the policy, if there is one. Null in an ordinary answer.",
    )
    conversion: Conversion | None = Field(
        ..., description="How the amount was converted; null if it was sent in the schema's currency."
    )


class Result(BaseModel):
    """
    The result of one transaction of a batch.
    """

    status: int = Field(..., description="The status that a call of its own would have had.")
    prediction: Prediction | None = None
    problem: Problem | None = None
    id: str | None = Field(None, description="The id of a transaction that waits for its score (202).")


class SecretWebhook(BaseModel):
    """
    An endpoint that is told of events.
    """

    id: str
    url: str
    description: str
    event_types: list[
        Literal[
            "alert.opened",
            "review.decided",
            "decision.changed",
            "batch.finished",
            "model.promoted",
            "policy.changed",
            "drift.detected",
        ]
        | str
    ]
    schemas: list[str]
    state: Literal["active", "paused", "disabled", "removed"] | str
    fault: str = Field(..., description="Why it is disabled.")
    created_at: AwareDatetime
    last_success_at: AwareDatetime | None
    last_failure_at: AwareDatetime | None
    secret: str = Field(..., description="Shown now and never again.")


class Webhook(BaseModel):
    """
    An endpoint that is told of events.
    """

    id: str
    url: str
    description: str
    event_types: list[
        Literal[
            "alert.opened",
            "review.decided",
            "decision.changed",
            "batch.finished",
            "model.promoted",
            "policy.changed",
            "drift.detected",
        ]
        | str
    ]
    schemas: list[str]
    state: Literal["active", "paused", "disabled", "removed"] | str
    fault: str = Field(..., description="Why it is disabled.")
    created_at: AwareDatetime
    last_success_at: AwareDatetime | None
    last_failure_at: AwareDatetime | None


class BatchAnswer(BaseModel):
    results: list[Result] = Field(..., description="One per transaction, in order.")


class LabelBatchAnswer(BaseModel):
    results: list[LabelResult] = Field(..., description="One per label, in order.")