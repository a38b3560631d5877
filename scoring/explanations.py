"""Explanations of scores, for pages and calls: the stored one of an alert, or one that a worker makes on demand."""

import time
from contextlib import closing
from functools import lru_cache
from math import isnan, nan
from typing import Any
from uuid import uuid4

import msgspec
import redis
from django.conf import settings
from kombu.exceptions import OperationalError

from scoring import tasks
from scoring.exceptions import NotExplained, ScorerUnavailable
from scoring.messages import replies
from scoring.messages.answers import Reason
from scoring.messages.explanation import Explanation
from scoring.messages.sending import Sender
from scoring.models import Fallback, Prediction
from training import registry
from training.core.exceptions import FraudsiteError
from training.core.features import typical
from training.core.features.declaration import Computed
from training.core.features.typical import Typical
from training.core.schema import Field, Schema
from training.models import ModelVersion

NO_ANSWER = "No worker has explained it in time. Ask again later."


def stored(prediction: Prediction) -> Explanation | None:
    """The explanation that is stored with an alert."""
    return msgspec.convert(prediction.explanation, Explanation) if prediction.explanation else None


def explanation_of(prediction: Prediction) -> Explanation:
    """The stored explanation, or one that a bulk worker makes now. Waits at most `EXPLAIN_DEADLINE_MS`.

    Raises:
        ScorerUnavailable: no worker answered in time, or the broker does not answer.
        NotExplained: the score cannot be explained any more.
    """
    return stored(prediction) or _ask(prediction)


def _ask(prediction: Prediction) -> Explanation:
    reply_to, wait_s = f"fraudsite:explanation:{uuid4()}", settings.EXPLAIN_DEADLINE_MS / 1000
    until = time.monotonic() + wait_s
    try:
        # Celery's own way connects again and again, for seconds, before it says that the broker is gone.
        with closing(Sender(tasks.explain, settings.BULK_QUEUE)) as sender:
            sender.send((reply_to, str(prediction.pk)), expires_s=wait_s)
        reply = None
        while reply is None and time.monotonic() < until:
            reply = replies.receive(reply_to, timeout_s=1)
    except (OperationalError, redis.RedisError, OSError) as error:
        raise ScorerUnavailable("The message broker does not answer.", reason=Fallback.Reason.BROKER) from error
    if reply is None:
        raise ScorerUnavailable(NO_ANSWER, reason=Fallback.Reason.DEADLINE)
    if reply.error:
        raise NotExplained(reply.error)
    return msgspec.json.decode(reply.outcomes[0].answer, type=Explanation)


def told(prediction: Prediction, explanation: Explanation) -> list[Reason]:
    """The contributions, the strongest in either direction first, each with the input's value and what is usual."""
    texts = _texts(prediction)
    return [
        Reason(feature=name, contribution=added) | ({"text": texts[name]} if name in texts else {})
        for name, added in explanation.by_strength()
    ]


def _texts(prediction: Prediction) -> dict[str, str]:
    """The sentence of each input of the model, by name; none if its bundle is gone, or is too old to say."""
    try:
        schema, usual = _known_of(prediction.model_version_id)
    except FraudsiteError:
        return {}
    fields, values = prediction.transaction.fields, _values(schema, prediction)
    found = {}
    for declared in schema.inputs:
        name = declared.name
        value = _learned(declared, fields.get(name)) if typical.is_category(declared) else values.get(name)
        if name in usual:
            found[name] = typical.in_words(declared, nan if value is None else value, usual[name])
    return found


def _learned(declared: Field | Computed, text: Any) -> Any:
    """What a model learns of the text of a category, such as the domain of an e-mail address."""
    return declared.of_kind.learned(text) if isinstance(declared, Field) and isinstance(text, str) else text


def percentiles(prediction: Prediction) -> dict[str, float]:
    """The percentile among training rows of each input that is a number and is not missing, by name."""
    try:
        schema, usual = _known_of(prediction.model_version_id)
    except FraudsiteError:
        return {}
    values = _values(schema, prediction)
    return {
        declared.name: typical.percentile(value, usual[declared.name].quantiles)
        for declared in schema.inputs
        if not (typical.is_category(declared) or typical.is_flag(declared))
        and (value := values.get(declared.name)) is not None
        and not isnan(value)
        and declared.name in usual
        and usual[declared.name].quantiles
    }


def _values(schema: Schema, prediction: Prediction) -> dict[str, float | None]:
    """The encoded values of the request and the computed features, by name."""
    fields = prediction.transaction.fields
    [encoded] = schema.encode([[fields.get(name) for name in schema.feature_names]]).tolist()
    return dict(zip(schema.feature_names, encoded, strict=True)) | (prediction.derived or {})


@lru_cache(maxsize=16)
def _known_of(version: str) -> tuple[Schema, dict[str, Typical]]:
    """What a version was trained under, and what is usual of each input, by name."""
    bundle = registry.load(ModelVersion.objects.get(pk=version))
    return bundle.declared, bundle.description.typical
