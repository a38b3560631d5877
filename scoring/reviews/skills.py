"""Which queues somebody works on: analysts on those of their groups, all others who may look at reviews on all."""

from django.contrib.auth.models import User
from django.db.models import Q

from scoring.models import Review, ReviewQueue
from scoring.tenancy import restriction


def sees_all(user: User) -> bool:
    """Whether somebody sees every queue: supervisors, and those who do not decide."""
    return user.has_perm("scoring.supervise_review") or not user.has_perm("scoring.change_review")


def queues_of(user: User) -> list[ReviewQueue]:
    """The queues that somebody sees, in order. Without groups it is for every analyst, or else for supervisors. Asked
    once for each request."""
    if not hasattr(user, "queues_seen"):
        queues = ReviewQueue.objects.all()
        if not sees_all(user):
            for_all = Q(groups=None, is_for_supervisors=False)
            queues = queues.filter(for_all | Q(groups__in=user.groups.all())).distinct()
        user.queues_seen = list(queues)  # type: ignore[attr-defined]
    return user.queues_seen  # type: ignore[attr-defined]


def seen_by(user: User) -> Q:
    """The condition on the reviews that somebody sees and is given. Those without a queue are for everybody, and those
    that were handed to a colleague are for that colleague, too, whatever the queue. Those of other clients are for
    nobody who is restricted to some."""
    of_clients = restriction.condition(Review, user)
    if sees_all(user):
        return of_clients
    mine = Q(queue=None) | Q(queue__in=[queue.pk for queue in queues_of(user)]) | Q(assigned_to=user)
    return of_clients & mine
