"""Lists of tables that grow without end."""

from typing import cast

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.utils.functional import cached_property

COUNTED = 10_000


class BoundedPaginator(Paginator):
    """Counts up to `COUNTED` rows only: narrow the list to see older ones."""

    @cached_property
    def count(self) -> int:
        return cast(QuerySet, self.object_list).order_by()[:COUNTED].count()

    @property
    def has_more(self) -> bool:
        """Whether there may be more rows than were counted."""
        return self.count == COUNTED
