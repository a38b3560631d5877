"""Prometheus metrics of scoring, in the process that scores, whatever the transactions came with: calls, files, pending
transactions, shadows."""

from functools import cache

from prometheus_client import Counter, Histogram

from scoring.messages.replies import Stages

BUCKETS_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

BATCH_SIZE = Histogram(
    "fraudsite_worker_batch_transactions",
    "Transactions that a worker scored and stored together.",
    ["schema"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000),
)
STAGES = Histogram(
    "fraudsite_worker_stage_seconds",
    "How long the stages of a batch took in a worker.",
    ["schema", "stage"],
    buckets=BUCKETS_S,
)
MODEL_CALLS = Histogram("fraudsite_model_call_seconds", "Calls of a model.", ["version"], buckets=BUCKETS_S)
FAILURES = Counter("fraudsite_scoring_failures", "What was not scored, by its cause.", ["kind"])
RETRIES = Counter("fraudsite_scoring_retries", "What was scored once more, by its cause.", ["reason"])


def observe_batch(schema: str, size: int, stages: Stages) -> None:
    """Count a batch that was scored and stored, and the time of its stages."""
    sizes, features, model, storage = _of_schema(schema)
    sizes.observe(size)
    features.observe(stages.features_s)
    model.observe(stages.model_s)
    storage.observe(stages.storage_s)


@cache
def _of_schema(schema: str) -> tuple[Histogram, ...]:
    """Looking a measure up by its labels takes as long as writing it."""
    return BATCH_SIZE.labels(schema), *(STAGES.labels(schema, stage) for stage in ("features", "model", "storage"))
