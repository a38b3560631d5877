"""The pages of schemas in the admin: the list, one schema, and the text of a declaration."""

from itertools import pairwise
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString

from monitoring.schemas import report
from scoring.pages.personal import may_see_personal
from scoring.pages.read_only import ReadOnlyAdmin
from training import declarations, registry
from training.core import places
from training.core.exceptions import SchemaNotFound
from training.core.figures import at
from training.core.schema import Schema, comparison, loaded
from training.models import ModelVersion, SchemaVersion

FILE = "file"  # as one of the two declarations to compare: what the file declares now


@admin.register(SchemaVersion)
class SchemaAdmin(ReadOnlyAdmin):
    """Lists schemas, not rows: a row is a declaration, which the page of its schema lists."""

    fields = ["schema", "hash", "seen", "written"]

    @admin.display(description="First seen")
    def seen(self, row: SchemaVersion) -> str:
        return at(row.first_seen_at)

    @admin.display(description="File")
    def written(self, row: SchemaVersion) -> SafeString:
        return format_html('<pre class="declaration">{}</pre>', row.text)

    def get_urls(self) -> list[URLPattern]:
        one = path("of/<str:name>/", self.admin_site.admin_view(self.schema_view), name="training_schemaversion_of")
        return [one, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        counts, faults = report.transactions(), loaded.faults
        names = sorted({*loaded.names, *ModelVersion.objects.values_list("schema", flat=True).distinct()})
        schemas = [
            {
                "name": name,
                "declared": (declared := loaded.current.get(name)),
                "fault": faults.get(name),
                "file": _file(name),
                "models": report.models_of(name, declared, all_stages=False),
                "transactions": counts.get(name, 0),
            }
            for name in names
        ]
        context = self.admin_site.each_context(request) | {
            "title": "Schemas",
            "opts": self.opts,
            "schemas": schemas,
            "days": report.COUNTED_DAYS,
        }
        return TemplateResponse(request, "admin/monitoring/schemas.html", context)

    def schema_view(self, request: HttpRequest, name: str) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        champion = registry.champion_or_none(name)
        now = loaded.current.get(name)
        champions = _declaration(champion)
        shown = now or champions
        fault = loaded.faults.get(name)
        if shown is None and fault is None:
            raise Http404(f"There is no schema {name}.")
        personal = may_see_personal(request)
        known = report.measured(champion)
        versions = _versions(name)
        context = self.admin_site.each_context(request) | {
            "title": name,
            "opts": self.opts,
            "declared": shown,
            "fault": fault,
            "file": _file(name),
            "champion": champion,
            "days": report.COUNTED_DAYS,
            "transactions": report.transactions().get(name, 0),
            "models": report.models_of(name, now),
            "change": report.change_of(champions, now) if champions and now else None,
            "values": report.fields_of(shown, known, personal=personal) if shown else [],
            "computed": report.computed_of(shown, known, personal=personal) if shown else [],
            "lately": bool(known.lately),
            "latest": report.LATEST,
            "versions": list(reversed(versions)),
            "compared": _compared(request, name, now),
            "asked": {end: request.GET.get(end, "") for end in ("before", "after")},
        }
        return TemplateResponse(request, "admin/monitoring/schema.html", context)


def _file(name: str) -> str:
    found = places.schema_files(name)
    return str(found[-1]) if found else ""


def _declaration(champion: ModelVersion | None) -> Schema | None:
    return report.declaration_of(champion) if champion else None


def _versions(name: str) -> list[tuple[SchemaVersion, list[str]]]:
    """Every declaration that was seen, the first first, and what it changed of the one before."""
    rows = list(SchemaVersion.objects.filter(schema=name).order_by("first_seen_at", "pk"))
    declared = [_found(name, row.hash) for row in rows]
    changes = [comparison.differences(*pair) if all(pair) else [] for pair in pairwise(declared)]  # type: ignore[arg-type]
    return list(zip(rows, [[], *changes], strict=True)) if rows else []


def _found(name: str, hash_: str) -> Schema | None:
    try:
        return declarations.find(name, hash_)
    except SchemaNotFound:
        return None


def _compared(request: HttpRequest, name: str, now: Schema | None) -> report.Change | None:
    """The two declarations that the page was asked to compare."""
    asked = [request.GET.get(end, "") for end in ("before", "after")]
    before, after = (now if hash_ == FILE else _found(name, hash_[:64]) for hash_ in asked)
    return report.change_of(before, after) if before and after else None
