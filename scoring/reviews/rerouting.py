"""Routes open reviews again, after queues were changed."""

import logging
from collections import defaultdict
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet
from django.utils import timezone

from scoring.models import Review
from scoring.policies import versions
from scoring.worker.routing import Router, Rows, active_queues, count_failures
from training import registry
from training.core.exceptions import FraudsiteError

logger = logging.getLogger(__name__)
CHUNK = 500


def routable(now: datetime) -> QuerySet[Review]:
    """Open reviews, apart from those that somebody is at and those that were escalated to the supervisors."""
    free = Q(claimed_by=None) | Q(claimed_until__lte=now)
    return Review.objects.filter(free, state=Review.State.OPEN).exclude(queue__is_for_supervisors=True)


def reroute() -> int:
    """Route the open reviews again. One that changes its queue is due as long after now as a new one after its opening.
    Returns how many changed."""
    now = timezone.now()
    rows = routable(now).select_related("prediction__transaction").defer("prediction__explanation")
    routers: dict[str, Router | None] = {}
    changed, last = 0, None
    while chunk := list((rows.filter(pk__gt=last) if last else rows).order_by("pk")[:CHUNK]):
        moves: defaultdict[tuple[int | None, int | None, datetime | None], list[Any]] = defaultdict(list)
        for review in chunk:
            if review.schema not in routers:
                routers[review.schema] = _router(review.schema)
            router, before = routers[review.schema], review.queue_id
            if router:
                router.route(review, review.prediction, at=now)
                if review.queue_id != before:
                    moves[before, review.queue_id, review.due_at].append(review.pk)
        for (before, queue, due_at), keys in moves.items():
            # Not those that somebody opened, closed or moved meanwhile.
            still = routable(timezone.now()).filter(pk__in=keys, queue=before)
            changed += Review.objects.filter(pk__in=list(still.values_list("pk", flat=True))).update(
                queue=queue, due_at=due_at
            )
        last = chunk[-1].pk
    for router in filter(None, routers.values()):
        count_failures(router)
    return changed


def _router(schema: str) -> Router | None:
    try:
        declared = registry.declaration_in_force(schema)
        document = versions.content(versions.live(schema))
        return Router(Rows(declared, document, tuple(versions.list_names(schema)), active_queues()))
    except FraudsiteError as error:
        logger.warning("Reviews of %s stay in their queues: %s", schema, error)
        return None
