"""The answers to predict calls, made from stored values by web processes and workers."""

from typing import Any, NotRequired, Self, TypedDict

import msgspec

from scoring.messages.submission import Conversion
from scoring.models import Fallback, Prediction, Transaction
from scoring.policies import evidence
from scoring.policies.evidence import Basis, Evidence

# The relations that a transaction's answer needs.
ANSWER_PARTS = ("prediction__policy", "fallback", "pending")


class Reason(TypedDict):
    """A feature that raised the score of an alert, and the logits that it adds, above an ordinary transaction. The text
    tells its value and what is usual; reasons by older models have none."""

    feature: str
    contribution: float
    text: NotRequired[str]


def _in_order(reason: Reason) -> Reason:
    """The reason as a worker answered with it: PostgreSQL keeps no order of names."""
    ordered = Reason(feature=reason["feature"], contribution=reason["contribution"])
    if "text" in reason:
        ordered["text"] = reason["text"]
    return ordered


class Answer(msgspec.Struct):
    """The answer to a predict call. It is made of stored values only, so a repeated answer is the same to the byte.

    `policy_version` is the number of the policy that decided, null if the model's thresholds alone did; `basis` says
    what the decision was made by, and `rules` and `lists` are those that matched. `conversion` tells how an amount in
    another currency was converted. A degraded answer was given without a part of what decides, which `degraded` names;
    without a model it has no score, threshold or version.
    """

    id: str
    transaction_id: str | None
    fraud_score: float | None
    is_fraud: bool | None
    alert: bool
    decision: str
    reasons: list[Reason]
    threshold: float | None
    model_version: str | None
    policy_version: int | None
    basis: str
    rules: list[str]
    lists: list[str]
    latency_ms: float
    created_at: str
    degraded: str | None = None
    conversion: Conversion | None = None

    @classmethod
    def of(cls, prediction: Prediction) -> Self:
        policy = prediction.policy
        return cls(
            id=str(prediction.pk),
            transaction_id=prediction.transaction.transaction_id,
            fraud_score=prediction.fraud_score,
            is_fraud=prediction.is_alert,
            alert=prediction.is_alert,
            decision=prediction.decision,
            reasons=[_in_order(reason) for reason in prediction.reasons],
            threshold=prediction.threshold,
            model_version=prediction.model_version_id,
            policy_version=policy.number if policy else None,
            latency_ms=prediction.latency_ms,
            created_at=prediction.created_at.isoformat(),
            conversion=_conversion_of(prediction.transaction),
            **told(evidence.read(prediction.evidence)),
        )

    @classmethod
    def of_fallback(cls, fallback: Fallback) -> Self:
        return cls(
            id=str(fallback.pk),
            transaction_id=fallback.transaction.transaction_id,
            fraud_score=None,
            is_fraud=None,
            alert=fallback.is_alert,
            decision=fallback.decision,
            reasons=[],
            threshold=None,
            model_version=None,
            policy_version=None,
            basis=Basis.LIST if fallback.lists else Basis.FALLBACK,
            rules=[],
            lists=fallback.lists,
            latency_ms=fallback.latency_ms,
            created_at=fallback.created_at.isoformat(),
            degraded=fallback.reason,
            conversion=_conversion_of(fallback.transaction),
        )

    def to_json(self) -> bytes:
        return msgspec.json.encode(self)


class Told(TypedDict):
    """The part of an answer that is made of evidence."""

    basis: str
    rules: list[str]
    lists: list[str]
    degraded: str | None


def told(evidence: Evidence) -> Told:
    """What a client is told of the evidence: shadow rules are left out."""
    return Told(
        basis=evidence.basis,
        rules=evidence.active_rules,
        lists=[hit.list for hit in evidence.lists],
        degraded=evidence.degraded,
    )


def _conversion_of(transaction: Transaction) -> Conversion | None:
    return msgspec.convert(transaction.conversion, Conversion) if transaction.conversion else None


def answer_of(transaction: Transaction) -> Answer | None:
    """The answer that the client got; None while the transaction waits for a score."""
    if hasattr(transaction, "fallback"):
        return Answer.of_fallback(transaction.fallback)
    return Answer.of(transaction.prediction) if hasattr(transaction, "prediction") else None


def json_answer_of(transaction: Transaction) -> bytes | None:
    """The answer as JSON; a degraded one includes the prediction that followed, if any. None while there is none."""
    answer = answer_dict_of(transaction)
    return msgspec.json.encode(answer) if answer else None


def answer_dict_of(transaction: Transaction) -> dict[str, Any]:
    """The same by name, in its order. Empty while there is none."""
    answer = answer_of(transaction)
    if answer is None:
        return {}
    told = msgspec.structs.asdict(answer)
    if hasattr(transaction, "fallback") and hasattr(transaction, "prediction"):
        told["rescored"] = Answer.of(transaction.prediction)
    return told
