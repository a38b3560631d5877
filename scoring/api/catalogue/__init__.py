"""The catalogue of problems: every kind of error of the API, what it means and what to do.

The `type` of a problem document is the address of its kind's page. Code, the OpenAPI document, these pages and
docs/problems.md are made of it: `python -m scoring.api.catalogue > docs/problems.md`.
"""

from scoring.api.catalogue.kind import PAGES, Kind, name_of
from scoring.api.catalogue.refused import REFUSED
from scoring.api.catalogue.unavailable import UNAVAILABLE

__all__ = ["BY_NAME", "KINDS", "PAGES", "Kind", "name_of", "page"]

KINDS = (*REFUSED, *UNAVAILABLE)
BY_NAME = {kind.name: kind for kind in KINDS}

HEAD = """\
# Problems

Every error of the API is `application/problem+json` (RFC 9457). Its `type` is the address of a page of your
installation, `/problems/` and a name, which says the same as this one. It is the same text everywhere, so compare
it as one. [Errors](errors.md) tells what else a problem has. This page is made of `scoring/api/catalogue/`.

| status | name | what it means | what to do | the same again? |
| --- | --- | --- | --- | --- |
"""


def page() -> str:
    """docs/problems.md"""
    rows = (f"| {one.status} | `{one.name}` | {one.meaning} | {one.remedy} | {one.again} |\n" for one in KINDS)
    return HEAD + "".join(rows)
