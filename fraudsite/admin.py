from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest

from scoring import selectors

COUNTED_REVIEWS = 1_000


class FraudsiteAdmin(AdminSite):
    site_title = "Fraudsite"
    site_header = "Fraudsite"
    index_title = "Fraud operations"
    index_template = "admin/operations.html"
    site_url = None  # there is no other site to view

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        may_see_reviews = request.user.has_perm("scoring.view_review")
        # Every page shows the count, so it must not cost more when the queue is long.
        count = selectors.open_reviews(COUNTED_REVIEWS) if may_see_reviews else 0
        open_reviews = f"{COUNTED_REVIEWS - 1}+" if count == COUNTED_REVIEWS else count
        return super().each_context(request) | {"may_see_reviews": may_see_reviews, "open_reviews": open_reviews}
