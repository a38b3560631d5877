"""The endpoints that read: listings, and single rows."""

from typing import Any, ClassVar
from uuid import UUID

import msgspec
from django.http import Http404, HttpResponse, QueryDict
from rest_framework.request import Request
from rest_framework.views import APIView

from scoring.api.caching import revalidated
from scoring.api.permissions import key_of, refuse_other_schemas
from scoring.api.reads import cursors
from scoring.api.reads.describing import described_listing, described_row
from scoring.api.reads.labels import Labels
from scoring.api.reads.listing import Listing, page
from scoring.api.reads.parameters import read_fields, read_listing
from scoring.api.reads.reviews import Reviews
from scoring.api.reads.serializers import (
    LabelPageSerializer,
    PredictionPageSerializer,
    ReviewPageSerializer,
    ReviewSerializer,
    TransactionPageSerializer,
    TransactionSerializer,
)
from scoring.api.reads.transactions import Predictions, Transactions
from scoring.clients.models import Scope


class ReadView(APIView):
    """What all reads have in common. A key needs the scope `read`."""

    scope = Scope.READ
    parser_classes = ()
    listing: ClassVar[Listing]


class ListView(ReadView):
    def get(self, request: Request) -> HttpResponse:
        listing, key = self.listing, key_of(request)
        asked = read_listing(request.GET, listing.filters, listing.names)
        identity = (listing.name, key.client_id, asked.identity)
        after = cursors.read(asked.cursor, of=identity) if asked.cursor is not None else None
        found = page(listing, asked, key, after)
        following = None
        if found.next:
            query = QueryDict(mutable=True)
            query.update({name: str(request.GET[name]) for name in request.GET if name != "cursor"})
            query["cursor"] = cursors.write(found.next, of=identity)
            following = f"{request.path}?{query.urlencode(safe=',:')}"
        response = told({"results": found.rows, "next": following})
        if following:
            response["Link"] = f'<{following}>; rel="next"'
        response["Cache-Control"] = "no-store"
        return response


class RowView(ReadView):
    def get(self, request: Request, key: UUID) -> HttpResponse:
        listing = self.listing
        names = read_fields(request.GET, listing.names)
        own = listing.rows(key_of(request).client_id).filter(pk=key)
        row = listing.load(own, names).first()
        if row is None:
            raise Http404
        refuse_other_schemas(key_of(request), row.schema)
        return revalidated(request, told(listing.tell(row, names)))


def told(content: Any) -> HttpResponse:
    return HttpResponse(msgspec.json.encode(content), content_type="application/json")


@described_listing(
    "transactions",
    TransactionPageSerializer,
    "List your transactions",
    "The transactions of yours that are stored, the latest first, with what became of each.",
)
class TransactionsView(ListView):
    listing = Transactions()


@described_row("transaction", TransactionSerializer, "Read a transaction", "A transaction as it is stored.")
class TransactionView(RowView):
    listing = Transactions()


@described_listing(
    "predictions",
    PredictionPageSerializer,
    "List your predictions",
    "The answers that were given, in the order in which the transactions arrived, the latest first. Transactions that "
    "wait for their score are left out.",
)
class PredictionsView(ListView):
    listing = Predictions()


@described_listing(
    "reviews",
    ReviewPageSerializer,
    "List the reviews of your alerts",
    "What the analysts decided, the latest opened first. With `decided_from` or `decided_to` they come in the order of "
    "their decisions.",
)
class ReviewsView(ListView):
    listing = Reviews()


@described_row(
    "review",
    ReviewSerializer,
    "Read a review",
    "What the analysts decided about an alert. Its id is that of the prediction.",
)
class ReviewView(RowView):
    listing = Reviews()


@described_listing(
    "labels",
    LabelPageSerializer,
    "List the labels that you sent",
    "The labels of yours that are stored, the latest first. Those that wait for their transaction are left out.",
)
class LabelsView(ListView):
    listing = Labels()
