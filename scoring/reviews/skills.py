"""Which queues somebody works on: analysts on those of their groups, all others who may look at reviews on all."""

from django.contrib.auth.models import User
from django.db.models import Q

from scoring.models import ReviewQueue


def sees_all(user: User) -> bool:
    """Whether somebody sees every queue: supervisors, and those who do not decide."""
    return user.has_perm("scoring.supervise_review") or not user.has_perm("scoring.change_review")


def queues_of(user: User) -> list[ReviewQueue]:
    """The queues that somebody sees, in order. Without groups it is for every analyst, or else for supervisors."""
    queues = ReviewQueue.objects.all()
    if not sees_all(user):
        for_all = Q(groups=None, is_for_supervisors=False)
        queues = queues.filter(for_all | Q(groups__in=user.groups.all())).distinct()
    return list(queues)


def seen_by(user: User) -> Q:
    """The condition on the reviews that somebody sees and is given. Those without a queue are for everybody, and those
    that were handed to a colleague are for that colleague, too, whatever the queue."""
    if sees_all(user):
        return Q()
    return Q(queue=None) | Q(queue__in=[queue.pk for queue in queues_of(user)]) | Q(assigned_to=user)
