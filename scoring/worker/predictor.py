"""The champions that a worker process holds in memory.

A thread follows the register: it loads and warms a new champion while the old one scores, and then replaces it. A batch
takes its predictor once, so one version scores and decides the whole batch.
"""

import atexit
import copy
import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Self

import numpy as np
from django.conf import settings
from django.db import DatabaseError, close_old_connections

from scoring.decisions import Thresholds
from scoring.messages import request_ids
from scoring.messages.answers import Reason
from scoring.messages.explanation import Explanation
from scoring.policies.engine import Policy
from scoring.telemetry import logs, tracing
from scoring.worker import metrics, policies, routing, rule_counts, workers
from scoring.worker.routing import Router
from training import registry
from training.core import families
from training.core.exceptions import BundleRefused, FraudsiteError, NoChampion
from training.core.families import encoding
from training.core.features import typical
from training.models import ModelVersion

logger = logging.getLogger(__name__)

# A transaction for the log: the name of its request, and its id.
About = tuple[str, str]

SWITCH_INTERVAL_S = 0.0005
# Of contributions. Even of a hundred, what rounding leaves is far below a thousandth of a logit.
DECIMALS = 6


class Predictor:
    """A loaded, warmed model with its policy. Immutable: see `under`.

    Raises:
        BundleRefused: the bundle of this version is damaged, or not signed with our key.
    """

    def __init__(self, version: ModelVersion) -> None:
        # Imported late, as it takes seconds.
        from training.core.features.replay import warm

        bundle = registry.load(version)
        self.scorer = families.scorer_of(bundle)
        self.scorer.warm()
        self.encode = encoding.of_bundle(bundle)
        self._typical = bundle.description.typical
        self.schema = bundle.declared
        warm(self.schema)
        self.version = version
        self._calls = metrics.MODEL_CALLS.labels(version.pk)
        self.policy = Policy(self.schema, Thresholds(version.review_threshold, version.block_threshold))
        self.router = Router.none(self.schema)

    def under(self, policy: Policy, router: Router | None = None) -> Self:
        """The same model under another policy, and another router of reviews if one is given."""
        other = copy.copy(self)
        other.policy, other.router = policy, router or self.router
        return other

    def score(self, features: np.ndarray, about: Sequence[About] = ()) -> np.ndarray:
        """Score rows of encoded inputs, [n, f] float32. Returns [n] float64 in [0, 1]; NaN if the model fails.

        `about` says for each row which transaction it is, and of which request, for the log.
        """
        began = time.perf_counter()
        try:
            with tracing.part("model", version=self.version.pk, rows=len(features)):
                return self.scorer.score(features).astype(np.float64)
        except Exception:  # a model may raise anything, and one bad row must not keep the others from being scored
            if len(features) == 1:
                metrics.FAILURES.labels("model").inc()
                request, key = about[0] if about else ("", "")
                with request_ids.working_for([request]), logs.of_transaction(key):
                    logger.exception("The model cannot score a transaction.")
                return np.array([np.nan])
            return np.concatenate([self.score(row[None], about[i : i + 1]) for i, row in enumerate(features)])
        finally:
            self._calls.observe(time.perf_counter() - began)

    def explain(self, features: np.ndarray, scores: np.ndarray) -> list[Explanation]:
        """Why rows of encoded inputs, [n, f] float32, have the `scores` [n] that the model gave."""
        base, contributions, logits = self.scorer.explain(features, scores)
        rounded = contributions.round(DECIMALS)  # of a float64, JSON would have all seventeen digits
        residuals = logits - base - rounded.sum(axis=1)
        return [
            Explanation(base, residual, dict(zip(self.schema.input_names, row, strict=True)))
            for residual, row in zip(residuals.tolist(), rounded.tolist(), strict=True)
        ]

    def reasons(self, row: np.ndarray, explanation: Explanation) -> list[Reason]:
        """The features that raised a row's score most, strongest first. `row` is [f] float32."""
        added = list(explanation.contributions.values())
        strongest = sorted(range(len(added)), key=added.__getitem__, reverse=True)[: settings.REASONS_PER_ALERT]
        return [self._reason(column, float(row[column]), added[column]) for column in strongest if added[column] > 0]

    def _reason(self, column: int, value: float, contribution: float) -> Reason:
        declared = self.schema.inputs[column]
        reason = Reason(feature=declared.name, contribution=round(contribution, 4))
        if usual := self._typical.get(declared.name):  # which older models do not have
            shown = self.encode.value_of(column, value)
            reason["text"] = typical.in_words(declared, shown, usual)
        return reason


def limit_threads() -> None:
    """Leave the machine's other cores to other workers. Call it before the first model is loaded."""
    from training.core.families.networks import limit_threads

    limit_threads(settings.MODEL_THREADS)


# By schema. Values are replaced, never changed. A refusal stays until its bundle loads or another is promoted.
_loaded: dict[str, Predictor] = {}
_refused: dict[str, workers.Refusal] = {}
_one_at_a_time = threading.Lock()


def current(schema: str) -> Predictor:
    """The champion of a schema, loaded at first use. Take it once per batch.

    Raises:
        NoChampion: the schema has none.
        BundleRefused: its bundle is refused, and no earlier champion is loaded.
    """
    return _loaded.get(schema) or refresh(schema)


def of_version(version: ModelVersion) -> Predictor:
    """Any version, also a retired one. A few are kept, beside the champions.

    Raises:
        BundleRefused: its bundle is refused.
    """
    loaded = _loaded.get(version.schema)
    return loaded if loaded and loaded.version == version else _of_other_version(version.pk)


@lru_cache(maxsize=settings.EXPLAIN_VERSIONS_KEPT)
def _of_other_version(pk: str) -> Predictor:
    return Predictor(ModelVersion.objects.get(pk=pk))


def refresh(schema: str) -> Predictor:
    """Load the register's current champion and the live policy, if they changed.

    Raises:
        NoChampion, BundleRefused: as `current`.
    """
    with _one_at_a_time:
        loaded = _loaded.get(schema)
        try:
            champion = registry.champion(schema)
            changed = loaded is None or loaded.version.pk != champion.pk
            predictor = Predictor(champion) if changed or loaded is None else loaded
            # A policy is compiled for the values of one declaration.
            before = loaded.policy if loaded and loaded.schema == predictor.schema else None
            policy = policies.current(champion, before)
            if before and policy is not before:
                rule_counts.flush(before)
            router = routing.current(predictor.schema, policy.document, policy.lists.names, predictor.router)
            if changed or policy is not predictor.policy or router is not predictor.router:
                _loaded[schema] = predictor.under(policy, router)
            if changed:
                logger.info("Champion %s is loaded and warm.", champion)
            _refused.pop(schema, None)
        except NoChampion:
            _loaded.pop(schema, None)
            raise
        except BundleRefused as error:
            refusal = workers.Refusal(champion.pk, str(error))
            if _refused.get(schema) != refusal:  # logged once, but tried again each time: it may still be copied
                _refused[schema] = refusal
                goes_on = f"{loaded.version} goes on" if loaded else "there is no older one to go on with"
                logger.error("Champion %s is refused, and %s: %s", champion, goes_on, error)
            if loaded is None:
                raise
        return _loaded[schema]


def follow(worker: str, queue: str) -> None:
    """Follow the register from now on, in a thread, and publish the status of this process.

    `worker` is the name of the process, `queue` where its work comes from.
    """
    end = threading.Event()
    thread = threading.Thread(target=_follow, args=(worker, queue, end), name="follower", daemon=True)
    thread.start()
    # TensorFlow crashes if the interpreter ends while it works, so the thread is joined first.
    atexit.register(thread.join, timeout=10)
    atexit.register(end.set)


def _follow(worker: str, queue: str, end: threading.Event) -> None:
    began = time.monotonic()
    while not end.wait(max(0.01, began + settings.MODEL_REFRESH_S - time.monotonic())):
        began = time.monotonic()
        close_old_connections()
        try:
            with _in_small_steps():
                for schema in registry.live_schemas() | _loaded.keys():
                    _keep_up(schema)
                rule_counts.flush_in_time(predictor.policy for predictor in list(_loaded.values()))
                for predictor in list(_loaded.values()):
                    routing.count_failures(predictor.router)
        except DatabaseError as error:
            logger.warning("The register was not read: %s", error)
        versions = {schema: predictor.version.pk for schema, predictor in _loaded.items()}
        policies_held = {schema: each.policy.number for schema, each in _loaded.items() if each.policy.number}
        workers.publish(workers.Status(worker, versions, dict(_refused), policies_held, queue=queue))


def _keep_up(schema: str) -> None:
    try:
        refresh(schema)
    except (NoChampion, BundleRefused):
        pass  # predict calls are answered with the error, and `refresh` has logged it
    except FraudsiteError as error:
        logger.warning("The champion of %s was not loaded: %s", schema, error)
    except DatabaseError:
        raise
    except Exception:  # building a model may raise anything; the old one goes on
        logger.exception("The champion of %s was not loaded.", schema)


@contextmanager
def _in_small_steps() -> Iterator[None]:
    """Return the interpreter to the thread that scores after half a millisecond instead of five. A batch needs it a
    dozen times, and building a model holds it for most of a second."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
