from typing import Any, cast

from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest

from scoring import selectors

COUNTED_REVIEWS = 1_000


class CarefulChangeList(ChangeList):
    """A list that calls what no database can look up a wrong filter, after which the page shows all and says so.

    Django itself lets some through: years from 9999 on, months and days that no calendar has, numbers too large for
    a column, the character NUL.
    """

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        _check_date(request, kwargs.get("date_hierarchy", args[4] if len(args) > 4 else None))
        if any("\0" in value for values in request.GET.lists() for value in (values[0], *values[1])):
            raise IncorrectLookupParameters
        try:
            super().__init__(request, *args, **kwargs)
        except (OverflowError, ValueError) as error:
            raise IncorrectLookupParameters from error


def _check_date(request: HttpRequest, field: str | None) -> None:
    """Django checks a month or day only beside a year, which itself must leave room for the year after."""
    bounds = {"year": (1, 9998), "month": (1, 12), "day": (1, 31)}
    for part, (lowest, highest) in bounds.items():
        for value in request.GET.getlist(f"{field}__{part}"):
            if not (value.isascii() and value.isdecimal() and lowest <= int(value[:5]) <= highest):
                raise IncorrectLookupParameters


class FraudsiteAdmin(AdminSite):
    site_title = "Fraudsite"
    site_header = "Fraudsite"
    index_title = "Fraud operations"
    index_template = "admin/operations.html"
    site_url = None  # there is no other site to view

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        """Give every list of the site the careful change list, those of Django's own models too."""
        careful = type("Careful", (admin_class or ModelAdmin,), {"get_changelist": lambda *_, **__: CarefulChangeList})
        careful = cast(type[ModelAdmin], careful)
        super().register(model_or_iterable, careful, **options)

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        may_see_reviews = request.user.has_perm("scoring.view_review")
        # Every page shows the count, so it must not cost more when the queue is long.
        count = selectors.open_reviews(COUNTED_REVIEWS) if may_see_reviews else 0
        open_reviews = f"{COUNTED_REVIEWS - 1}+" if count == COUNTED_REVIEWS else count
        return super().each_context(request) | {"may_see_reviews": may_see_reviews, "open_reviews": open_reviews}
