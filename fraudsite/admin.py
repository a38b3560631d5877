from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from django.conf import settings
from django.contrib import messages
from django.contrib.admin import AdminSite, ModelAdmin, RelatedFieldListFilter, ShowFacets
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME as CHOSEN
from django.contrib.admin.models import LogEntry
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import cached_property

from fraudsite.date_hierarchy import Periods
from fraudsite.sign_on.views import for_login_page, leaving
from fraudsite.two_factor import SignInForm
from monitoring.models import Alert
from scoring.pages.bounded import BoundedPaginator
from scoring.reviews import queue
from scoring.tenancy import restriction

COUNTED_REVIEWS = 1_000
CLIENTS = {"client", "transaction__client"}


class CarefulChangeList(ChangeList):
    """A list that treats values which no database can look up as wrong filters: the page shows all rows and says so.

    Django itself fails for some: years from 9999 on, impossible months and days, numbers too large for a column, NUL.
    """

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        _check_date(request, kwargs.get("date_hierarchy", args[4] if len(args) > 4 else None))
        if any("\0" in value for values in request.GET.lists() for value in (values[0], *values[1])):
            raise IncorrectLookupParameters
        try:
            super().__init__(request, *args, **kwargs)
        except (OverflowError, ValueError) as error:
            raise IncorrectLookupParameters from error

    @property
    def periods(self) -> Periods:
        return Periods(self)

    @cached_property
    def shown(self) -> list[str]:
        """The rows that "Select all" stands for, in the order of the list, for the page to send back. Only pages that
        offer it, of lists with more than one page, pay for the query."""
        keys = self.queryset.values_list("pk", flat=True)
        return [str(key) for key in keys[: settings.MASS_ACTION_LIMIT]] if self.multi_page else []


class OwnClients(RelatedFieldListFilter):
    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> Any:
        every = super().field_choices(field, request, model_admin)
        return [(key, name) for key, name in every if restriction.sees(request.user, cast(int, key))]


class CarefulAdmin(ModelAdmin):
    """The base of every list in the admin: it survives wrong filters, its cost does not grow with its table, and its
    actions take the rows that it showed."""

    paginator = BoundedPaginator
    show_facets = ShowFacets.NEVER  # they count all rows for each value of each filter

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return restriction.visible(super().get_queryset(request), request.user)

    def get_list_filter(self, request: HttpRequest) -> Any:
        """A list of clients to filter by has those whose rows the person sees."""
        found = super().get_list_filter(request)
        return [(each, OwnClients) if each in CLIENTS else each for each in found]

    gone_message = "{} of the chosen are not in this list any more: nothing was done with them."

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return CarefulChangeList

    def log_deletions(self, request: HttpRequest, queryset: Any) -> list[LogEntry]:
        """One by one: rows that are inserted in bulk send no signal, for which the audit trail waits."""
        log = super().log_deletions
        return [entry for row in queryset for entry in log(request, [row])]  # type: ignore[arg-type]

    def response_action(  # type: ignore[override]  # the stubs are those of another Django
        self, request: HttpRequest, queryset: QuerySet[Model]
    ) -> HttpResponse | None:
        """Run an action on exactly the rows that the page showed, ticked one by one or all at once.

        "Select all" sends the keys that the page holds, and the action gets them as if they were ticked. Django itself
        would take all rows that are in the list by now. Rows that were added or have left the list since are not
        touched, and messages say how many.
        """
        sent = request.POST.copy()
        if any(value not in ("", "0") for value in sent.getlist("select_across")):
            sent.setlist(CHOSEN, sent.get("shown", "").split() or sent.getlist(CHOSEN))
            sent["all_shown"] = "yes"  # a confirmation page sends it again
        sent.setlist("select_across", ["0"])
        try:
            keys = {self.opts.pk.to_python(key) for key in sent.getlist(CHOSEN)}
        except ValidationError:
            messages.error(request, "The chosen rows were not understood. Load the list again.")
            return None
        if gone := len(keys) - queryset.filter(pk__in=keys).count():
            messages.warning(request, self.gone_message.format(gone))
        request.POST = sent  # type: ignore[assignment]
        response = super().response_action(request, queryset)
        if "all_shown" in sent and (more := queryset.exclude(pk__in=keys).count()):
            messages.info(request, f"{more:,} more in this list were not among those chosen, and stay as they are.")
        return response


def _check_date(request: HttpRequest, field: str | None) -> None:
    """Check the dates of a filter. Django checks a month or day only with a year, and fails for the year 9999."""
    bounds = {"year": (1, 9998), "month": (1, 12), "day": (1, 31)}
    for part, (lowest, highest) in bounds.items():
        for value in request.GET.getlist(f"{field}__{part}"):
            if not (value.isascii() and value.isdecimal() and lowest <= int(value[:5]) <= highest):
                raise IncorrectLookupParameters


def _open_alerts(request: HttpRequest) -> int:
    """How many alerts are open, for those who see them."""
    if restriction.is_restricted(request.user) or not request.user.has_perm("monitoring.view_alert"):
        return 0
    return Alert.objects.filter(resolved_at=None).count()


class FraudsiteAdmin(AdminSite):
    site_title = "Fraudsite"
    site_header = "Fraudsite"
    index_title = "Fraud operations"
    login_form = SignInForm
    index_template = "admin/operations.html"
    site_url = None  # there is no other site to view

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        """Make every list of the site a `CarefulAdmin`, those of Django's own models too."""
        bases = (admin_class, CarefulAdmin) if admin_class else (CarefulAdmin,)
        careful = type("Careful", bases, {})
        super().register(model_or_iterable, cast(type[ModelAdmin], careful), **options)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().login(request, for_login_page() | (extra_context or {}))

    def logout(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return super().logout(request, leaving(request) | (extra_context or {}))

    def admin_view(self, view: Callable[..., Any], cacheable: bool = False) -> Any:
        """Every page asks whether it is for people who work for some clients only."""

        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            restriction.check(request)
            return view(request, *args, **kwargs)

        return super().admin_view(guarded, cacheable)

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        may_see_reviews = request.user.has_perm("scoring.view_review")
        # Every page shows the count, so it must not cost more when the queue is long.
        count = queue.open_reviews(cast(User, request.user), COUNTED_REVIEWS) if may_see_reviews else 0
        open_reviews = f"{COUNTED_REVIEWS - 1}+" if count == COUNTED_REVIEWS else count
        return super().each_context(request) | {
            "may_see_reviews": may_see_reviews,
            "open_reviews": open_reviews,
            "works_for": restriction.clients_of(request.user),
            "open_alerts": _open_alerts(request),
        }
