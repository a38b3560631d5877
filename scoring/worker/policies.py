"""The live policies that a worker process decides by."""

import logging

from scoring.decisions import Thresholds
from scoring.policies import versions
from scoring.policies.document import PolicyInvalid
from scoring.policies.engine import Policy
from scoring.policies.evidence import Degraded
from scoring.worker import lists
from training import registry
from training.models import ModelVersion

logger = logging.getLogger(__name__)

# The policy versions that could not be read, by schema: each is logged once.
_refused: dict[str, int] = {}


def current(champion: ModelVersion, before: Policy | None) -> Policy:
    """The live policy of a champion's schema with the champion's thresholds and the schema's lists: `before` itself if
    it still is.

    A version that cannot be read decides nothing: the document before it goes on, or else the model's thresholds alone,
    and answers say that they are degraded.
    """
    of_model = Thresholds(champion.review_threshold, champion.block_threshold)
    version = versions.live(champion.schema)
    pk, live_at = (version.pk, version.live_at) if version else (None, None)
    refused = pk is not None and _refused.get(champion.schema) == pk
    schema = before.lists.schema if before else registry.declaration(champion)
    held = lists.current(schema, before.lists if before else None)
    if (
        before
        and before.of_model == of_model
        and before.lists is held
        and ((before.pk, before.live_at) == (pk, live_at) or (refused and before.degraded))
    ):
        return before
    try:
        document = versions.content(version)
        policy = Policy(
            schema, of_model, document, pk=pk, number=version.number if version else None, live_at=live_at, lists=held
        )
        _refused.pop(champion.schema, None)
        return policy
    except (PolicyInvalid, ValueError) as error:
        if not refused:
            logger.error("%s is refused, and the policy before it goes on: %s", version, error)
        _refused[champion.schema] = pk or 0
        if before:
            return Policy(
                schema,
                of_model,
                before.document,
                pk=before.pk,
                number=before.number,
                live_at=before.live_at,
                lists=held,
                degraded=Degraded.POLICY,
            )
        return Policy(schema, of_model, lists=held, degraded=Degraded.POLICY)
