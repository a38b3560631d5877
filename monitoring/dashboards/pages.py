"""The pages of the dashboards in the admin: the form of choices around a page's frame, and a plot's numbers as CSV."""

import csv
import io
from collections.abc import Callable
from datetime import date, timedelta

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from monitoring import access
from monitoring.dashboards import choices, drift, frame, model, review, rules, traffic
from monitoring.dashboards.frame import Page

# In the order of their tabs. A new page is a module with a `PAGE`, and its place here.
PAGES: tuple[Page, ...] = (traffic.PAGE, model.PAGE, drift.PAGE, rules.PAGE, review.PAGE)
APPS = {page.name: frame.make(page) for page in PAGES}


def page_view(page: Page) -> Callable[[HttpRequest], HttpResponse]:
    """The view of a page."""

    @admin.site.admin_view
    @require_safe
    def view(request: HttpRequest) -> HttpResponse:
        if not access.may_see(request, page.name):
            raise PermissionDenied
        choice = page.choice(request.GET, timezone.now())
        asked = page.asks(choice)
        shown = {*page.uses, *(entry.name for entry in asked)}
        others = {"client": choice.client, "version": choice.version, **choice.more}
        context = admin.site.each_context(request) | {
            "title": page.title,
            "page": page,
            "tabs": [
                (each, f"{reverse(each.address_name)}?{choice.query()}")
                for each in PAGES
                if access.may_see(request, each.name)
            ],
            "choice": choice,
            "interval_s": page.interval_s(choice),
            "windows": [(name, choices.WINDOWS[name][0]) for name in page.windows],
            "asked": asked,
            "hidden": {name: value for name, value in others.items() if value and name not in shown},
            "schemas": choices.schemas(),
            "clients": choices.clients() if "client" in page.uses else [],
            "versions": choices.versions(choice.schema) if "version" in page.uses else [],
            "query": request.GET.urlencode(),  # as it came, so that the frame tells what it does not understand
        }
        return TemplateResponse(request, "admin/monitoring/dashboard.html", context)

    return view


@admin.site.admin_view
@require_safe
def numbers(request: HttpRequest, page: str, plot: str) -> HttpResponse:
    """The numbers of a plot as CSV, of what the query asks for."""
    if not access.may_see(request, page):
        raise PermissionDenied
    found = next((each for each in PAGES if each.name == page), None)
    if found is None or plot not in {panel.name for panel in found.panels if panel.has_csv}:
        raise Http404("There is no such plot.")
    choice = found.choice(request.GET, timezone.now())
    shown, _ = frame.read(found, choice)
    text = io.StringIO()
    csv.writer(text).writerows(shown.rows_of(plot))
    name = f"{page}-{plot}-{choice.now:%Y-%m-%dT%H%M}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return HttpResponse(text.getvalue(), content_type="text/csv; charset=utf-8", headers=headers)


def urls() -> list[URLPattern]:
    """The address of each page, and of the numbers of plots."""
    return [
        *(path(f"admin/dashboard/{_place(page)}", page_view(page), name=page.address_name) for page in PAGES),
        path("admin/dashboard/<slug:page>/<slug:plot>.csv", numbers, name="dashboard_csv"),
    ]


def old_outcomes(request: HttpRequest) -> HttpResponse:
    """The address of the page that *Model* has taken the place of; its last day was included."""
    asked = request.GET.copy()
    for name, now, days in (("since", "from", 0), ("until", "to", 1)):
        day = _day(asked.pop(name, [""])[-1])
        if day:
            asked[now] = f"{day + timedelta(days=days if day < date.max else 0)}T00:00"
    asked.pop("csv", None)
    return redirect(f"{reverse('dashboard_model')}?{asked.urlencode()}".rstrip("?"))


def _place(page: Page) -> str:
    return "" if page.name == frame.FIRST else f"{page.name}/"


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
