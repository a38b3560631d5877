"""The filters of the list of reviews. All of them look at the review's own row: see `scoring.worker.opening`."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from scoring import served
from scoring.decisions import Decision
from scoring.models import Client, PolicyVersion, Review
from scoring.policies.document import PolicyInvalid
from scoring.policies.versions import content
from scoring.reviews.skills import queues_of
from scoring.reviews.snoozing import awake
from scoring.tenancy import restriction
from scoring.worker.opening import part_of
from training.core.schema import schema_names

Choices = list[tuple[str, str]]

AMOUNTS = ((0, 50), (50, 200), (200, 1_000), (1_000, 5_000), (5_000, None))
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
AGES = {
    "under-1h": ("Under an hour", "opened_at__gt", HOUR),
    "over-1h": ("Over an hour", "opened_at__lte", HOUR),
    "over-4h": ("Over 4 hours", "opened_at__lte", 4 * HOUR),
    "over-1d": ("Over a day", "opened_at__lte", DAY),
    "over-7d": ("Over a week", "opened_at__lte", 7 * DAY),
}
NO_QUEUE = "none"
SNOOZED = "snoozed"


class ReviewFilter(admin.SimpleListFilter):
    """A filter that is folded up and shows what is chosen."""

    template = "admin/scoring/review/filter.html"

    def choices(self, changelist: Any) -> Any:
        for choice in super().choices(changelist):
            yield choice | {
                "is_default": choice["query_string"] == changelist.get_query_string({}, [self.parameter_name])
            }


class CopyFilter(ReviewFilter):
    """A filter on a column of the review that has the name of the parameter."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        raise NotImplementedError

    def queryset(self, request: HttpRequest, queryset: QuerySet[Review]) -> QuerySet[Review]:
        return queryset.filter(**{str(self.parameter_name): self.value()}) if self.value() else queryset


class StateFilter(ReviewFilter):
    """Shows the open reviews that are not snoozed by default."""

    title = parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> Choices:
        return [*Review.State.choices, (SNOOZED, "Snoozed"), ("all", "All")]

    def choices(self, changelist: Any) -> Any:
        for value, title in self.lookup_choices:
            yield {
                "selected": (self.value() or Review.State.OPEN) == value,
                "query_string": changelist.get_query_string({self.parameter_name: value}),
                "display": title,
                "is_default": value == Review.State.OPEN,
            }

    def queryset(self, request: HttpRequest, queryset: QuerySet[Review]) -> QuerySet[Review]:
        state = self.value() or Review.State.OPEN
        if state == SNOOZED:
            return queryset.filter(~awake(), state=Review.State.OPEN)
        if state == Review.State.OPEN:
            queryset = queryset.filter(awake())
        return queryset if state == "all" else queryset.filter(state=state)


class QueueFilter(ReviewFilter):
    title = parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> Choices:
        queues = queues_of(request.user)  # type: ignore[arg-type]
        return [*((str(queue.pk), queue.name) for queue in queues), (NO_QUEUE, "No queue")] if queues else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Review]) -> QuerySet[Review]:
        if self.value() == NO_QUEUE:
            return queryset.filter(queue=None)
        return queryset.filter(queue=int(self.value() or 0)) if self.value() else queryset


class ClaimFilter(ReviewFilter):
    title, parameter_name = "claim", "claim"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> Choices:
        return [("mine", "Mine"), ("free", "Free"), ("others", "Of others")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Review]) -> QuerySet[Review]:
        free, user = Q(claimed_by=None) | Q(claimed_until__lte=timezone.now()), request.user.pk
        match self.value():
            case "mine":
                return queryset.filter(~free, claimed_by=user)
            case "free":
                return queryset.filter(free)
            case "others":
                return queryset.filter(~free).exclude(claimed_by=user)
        return queryset


class DueFilter(ReviewFilter):
    title, parameter_name = "due time", "due"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> Choices:
        return [("late", "Late"), ("1h", "Within an hour"), ("1d", "Within a day"), ("none", "Without")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Review]) -> QuerySet[Review]:
        now = timezone.now()
        match self.value():
            case "late":
                return queryset.filter(due_at__lte=now)
            case "1h":
                return queryset.filter(due_at__lte=now + HOUR)
            case "1d":
                return queryset.filter(due_at__lte=now + DAY)
            case "none":
                return queryset.filter(due_at=None)
        return queryset


class AgeFilter(ReviewFilter):
    title, parameter_name = "age", "age"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> Choices:
        return [(value, title) for value, (title, _, _) in AGES.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Review]) -> QuerySet[Review]:
        if self.value() not in AGES:
            return queryset
        _, lookup, age = AGES[str(self.value())]
        return queryset.filter(**{lookup: timezone.now() - age})


class AmountFilter(ReviewFilter):
    title, parameter_name = "amount", "amount"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> Choices:
        return [
            (f"{low}..{high or ''}", f"{low:,} to {high:,}" if high else f"{low:,} and more") for low, high in AMOUNTS
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Review]) -> QuerySet[Review]:
        for low, high in AMOUNTS:
            if self.value() == f"{low}..{high or ''}":
                queryset = queryset.filter(amount__gte=low)
                return queryset.filter(amount__lt=high) if high else queryset
        return queryset


class SchemaFilter(CopyFilter):
    title = parameter_name = "schema"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> Choices:
        return [(name, name) for name in schema_names()]


class ClientFilter(CopyFilter):
    title = parameter_name = "client"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> Choices:
        clients = restriction.visible(Client.objects.order_by("name"), request.user)
        return [(str(client.pk), client.name) for client in clients]


class DecisionFilter(CopyFilter):
    title = parameter_name = "decision"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> Choices:
        return list(Decision.choices)


class ReasonFilter(CopyFilter):
    """By the field that raised the score most."""

    title = parameter_name = "reason"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> Choices:
        names = {declared.name for schema in served.now().schemas.values() for declared in schema.inputs}
        return [(name, name) for name in sorted(names, key=str.lower)]


class RuleFilter(ReviewFilter):
    """By a rule of a live policy that fired."""

    title = parameter_name = "rule"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> Choices:
        chosen = request.GET.get("rule")  # which may be of an earlier policy
        names = {chosen} if chosen else set()
        for version in PolicyVersion.objects.filter(state=PolicyVersion.State.LIVE):
            try:
                names |= {rule.name for rule in content(version).rules}
            except PolicyInvalid:
                continue
        return [(name, name) for name in sorted(names)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Review]) -> QuerySet[Review]:
        return queryset.filter(rules__contains=part_of(self.value() or "")) if self.value() else queryset


class ReviewerFilter(CopyFilter):
    """By who closed the review."""

    title = parameter_name = "reviewer"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> Choices:
        return [(str(user.pk), user.username) for user in User.objects.filter(is_staff=True).order_by("username")]


ALL_FILTERS = (
    *(QueueFilter, ClaimFilter, DueFilter, AgeFilter, AmountFilter, ReasonFilter, RuleFilter),
    *(SchemaFilter, ClientFilter, DecisionFilter, StateFilter, ReviewerFilter),
)
