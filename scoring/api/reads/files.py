"""The files that a client sent, and how far each is."""

from collections.abc import Sequence
from typing import Any

from django.db.models import Q, QuerySet

from scoring import served
from scoring.api.reads.listing import Listing
from scoring.api.reads.parameters import one_of, range_of
from scoring.files.models import BatchFile, Mode, State
from scoring.files.progress import TOLD, progress_of

STATES = [state for state in State.values if state != State.RECEIVING]


class Files(Listing):
    name = "files"
    time = "created_at"
    key = "id"
    filters = (
        *range_of("created_at", "created", "Sent"),
        one_of("schema", lambda: served.now().schemas, lambda names: Q(schema__in=names), "Of these dataset schemas."),
        one_of("state", STATES, lambda names: Q(state__in=names), "In these states."),
        one_of("mode", Mode.values, lambda names: Q(mode__in=names), "Of these modes."),
    )
    names = TOLD

    def rows(self, client_id: int) -> QuerySet[BatchFile]:
        return BatchFile.objects.filter(client=client_id).exclude(state=State.RECEIVING)

    def tell(self, row: BatchFile, names: Sequence[str]) -> dict[str, Any]:
        told = progress_of(row)
        return {name: told[name] for name in names}
