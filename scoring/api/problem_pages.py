"""The pages of the kinds of problems, which the `type` of each problem is the address of. They need no login."""

import json

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from scoring.api import catalogue


def problems_page(request: HttpRequest) -> HttpResponse:
    """All kinds."""
    kinds = [(kind, marked(kind.meaning)) for kind in catalogue.KINDS]
    return render(request, "scoring/problems.html", {"kinds": kinds})


def problem_page(request: HttpRequest, name: str) -> HttpResponse:
    """One kind: what it means, what to do, an example."""
    kind = catalogue.BY_NAME.get(name)
    if kind is None:
        raise Http404
    told = {
        "meaning": marked(kind.meaning),
        "remedy": marked(kind.remedy),
        "example": json.dumps(kind.example, indent=2),
    }
    return render(request, "scoring/problem.html", {"kind": kind} | told)


def marked(text: str) -> SafeString:
    """Words of the catalogue for a page: what stands between backticks is code."""
    parts = text.split("`")
    return format_html_join("", "{}", ((code(part) if number % 2 else part,) for number, part in enumerate(parts)))


def code(text: str) -> SafeString:
    return format_html("<code>{}</code>", text)
