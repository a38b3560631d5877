"""Prometheus metrics of the realtime path. Workers measure the stages, and the web process observes them."""

from collections.abc import Sequence

from prometheus_client import Counter, Histogram

from scoring.messages.replies import Reply
from scoring.messages.submission import Submission
from training import clock

BUCKETS_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

REQUESTS = Histogram(
    "fraudsite_request_seconds", "Arrival of a predict call to its answer.", ["status"], buckets=BUCKETS_S
)
STAGES = Histogram(
    "fraudsite_stage_seconds",
    "Where a transaction's time goes. queue: from its arrival to the start of a worker on it. For its whole batch: "
    "features, model, storage, and reply: from the worker's sending to the web process's receiving.",
    ["queue", "stage"],
    buckets=BUCKETS_S,
)
BATCH_SIZE = Histogram(
    "fraudsite_batch_transactions",
    "Transactions per batch.",
    ["queue"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 1000),
)
UNLIMITED = Counter(
    "fraudsite_unlimited_calls", "Calls whose limits were not enforced, as Redis did not answer.", ["scope"]
)
FALLBACKS = Counter("fraudsite_fallbacks", "Answers without a score.", ["reason"])


def observe_reply(queue: str, reply: Reply, submissions: Sequence[Submission]) -> None:
    if not submissions:
        return
    stage = _stages(queue)
    for submission in submissions:
        stage["queue"].observe(max(0.0, reply.started_at - submission.received_at))
    stage["features"].observe(reply.stages.features_s)
    stage["model"].observe(reply.stages.model_s)
    stage["storage"].observe(reply.stages.storage_s)
    stage["reply"].observe(max(0.0, clock.seconds() - reply.sent_at))
    BATCH_SIZE.labels(queue).observe(len(submissions))


def _stages(queue: str) -> dict[str, Histogram]:
    return {name: STAGES.labels(queue, name) for name in ("queue", "features", "model", "storage", "reply")}
