"""The queues of reviews in the admin."""

from typing import Any

import redis
from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from kombu.exceptions import OperationalError as BrokerError

from scoring import served
from scoring.models import Review, ReviewQueue
from scoring.policies import checking, versions
from scoring.policies.document import Document, PolicyInvalid
from scoring.policies.forms import EXPRESSION
from scoring.reviews import rerouting, tasks
from scoring.tenancy import restriction
from scoring.worker.routing import OF_REVIEWS, routing_names

FIELDS = ("name", "position", "is_active", "expression", "groups", "due_minutes", "when_due", "is_for_supervisors")


def faults_by_schema(source: str) -> dict[str, list[checking.Fault]]:
    """The faults of a queue's expression under each schema that is served."""
    found = {}
    for name, schema in served.now().schemas.items():
        try:
            document = versions.content(versions.live(name))
        except PolicyInvalid:
            document = Document()
        names = routing_names(schema, document, list(versions.list_names(name)))
        found[name] = checking.expression_faults(source, names)
    return found


def _told(schema: str, fault: checking.Fault) -> str:
    return f"Line {fault.line}, column {fault.column}: {fault.message} (Schema {schema}.)"


class QueueForm(forms.ModelForm):
    class Meta:
        model = ReviewQueue
        fields = FIELDS
        widgets = {"expression": EXPRESSION}
        help_texts = {
            "position": "A review goes to the first queue, by position, whose expression is true of it.",
            "expression": "As in rules: values of the schema, fraud_score, lists, constants; and "
            + ", ".join(f"{name.name} ({name.description[0].lower()}{name.description[1:]})" for name in OF_REVIEWS)
            + '. For example: expected_loss > 500.0 || "large" in rules. Empty: every review.',
            "groups": "The groups whose analysts work on the queue. None: every analyst.",
            "due_minutes": "How many minutes after its opening a review is due. Empty: never.",
            "when_due": "What happens to a review that nobody decided in time.",
        }

    def clean_expression(self) -> str:
        source: str = self.cleaned_data["expression"]
        if not source.strip():
            return ""
        faults = faults_by_schema(source)
        if faults and all(faults.values()):
            raise forms.ValidationError([_told(schema, found[0]) for schema, found in faults.items()])
        return source


@admin.register(ReviewQueue)
class ReviewQueueAdmin(admin.ModelAdmin):
    """Queues are made inactive, not deleted: reviews refer to them."""

    form = QueueForm
    fields = FIELDS
    filter_horizontal = ["groups"]
    list_display = ["name", "position", "expression", "worked_by", "due", "when_due", "open", "failures", "is_active"]
    change_list_template = "admin/scoring/reviewqueue/change_list.html"

    class Media:
        css = {"all": ["scoring/admin.css", "scoring/policy.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[ReviewQueue]:
        keys = restriction.clients_of(request.user)
        is_open = Q(reviews__state=Review.State.OPEN) & (Q() if keys is None else Q(reviews__client__in=keys))
        return super().get_queryset(request).annotate(open_reviews=Count("reviews", filter=is_open))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="Open")
    def open(self, queue: Any) -> SafeString:
        address = reverse("admin:scoring_review_changelist", query={"queue": queue.pk})
        return format_html('<a href="{}">{}</a>', address, f"{queue.open_reviews:,}")

    @admin.display(description="Worked by")
    def worked_by(self, queue: ReviewQueue) -> str:
        groups = ", ".join(group.name for group in queue.groups.all())
        return groups or ("supervisors" if queue.is_for_supervisors else "every analyst")

    @admin.display(description="Due after", ordering="due_minutes")
    def due(self, queue: ReviewQueue) -> str:
        return "-" if queue.due_minutes is None else f"{queue.due_minutes:,} min"

    def save_model(self, request: HttpRequest, obj: ReviewQueue, form: forms.ModelForm, change: bool) -> None:
        if "expression" in form.changed_data:
            obj.failures = 0
        super().save_model(request, obj, form, change)
        if obj.expression and (lacking := [name for name, found in faults_by_schema(obj.expression).items() if found]):
            messages.info(request, f"The queue takes no reviews of {', '.join(lacking)}: the expression is not theirs.")
        if change and {"expression", "position", "is_active"} & set(form.changed_data):
            address = reverse("admin:scoring_reviewqueue_reroute")
            told = (
                'New reviews follow at once; open ones stay where they are until you <a href="{}">route them again</a>.'
            )
            messages.info(request, format_html(told, address))

    def get_urls(self) -> list[URLPattern]:
        again = path("reroute/", self.admin_site.admin_view(self.reroute_view), name="scoring_reviewqueue_reroute")
        return [again, *super().get_urls()]

    def reroute_view(self, request: HttpRequest) -> HttpResponse:
        """A page that asks whether open reviews shall be routed again; once confirmed, a worker does so."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            try:
                tasks.reroute_reviews.apply_async(retry=False)
                messages.success(request, "The open reviews are being routed again.")
            except (BrokerError, redis.RedisError, OSError):
                messages.error(request, "Nothing was routed: the message broker does not answer. Try again later.")
            return HttpResponseRedirect(reverse("admin:scoring_reviewqueue_changelist"))
        opened = Review.objects.filter(state=Review.State.OPEN).count()
        routed = rerouting.routable(timezone.now()).count()
        context = self.admin_site.each_context(request) | {
            "title": "Route open reviews again",
            "opts": self.opts,
            "media": self.media,
            "routed": routed,
            "left": opened - routed,
        }
        return TemplateResponse(request, "admin/scoring/reviewqueue/reroute.html", context)
