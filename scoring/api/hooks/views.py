"""The endpoints of the API about webhooks. A key needs the scope `webhooks`, and reaches its client's own alone."""

from typing import Any
from uuid import UUID

import msgspec
from django.db import Error, transaction
from django.http import Http404, HttpResponse
from django.urls import reverse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from scoring.api.declaring import OF_BODIES, problems
from scoring.api.decoding import Body
from scoring.api.hooks import bodies
from scoring.api.hooks.serializers import (
    DeliveryPageSerializer,
    NewWebhookSerializer,
    ReplayedSerializer,
    ReplaySerializer,
    RotationSerializer,
    SecretSerializer,
    SecretWebhookSerializer,
    TestSentSerializer,
    WebhookChangeSerializer,
    WebhookListSerializer,
    WebhookSerializer,
)
from scoring.api.permissions import key_of
from scoring.api.reads import cursors
from scoring.api.reads.cursors import Position
from scoring.clients.models import Scope
from scoring.exceptions import DatabaseUnavailable, FieldError, InvalidFields
from scoring.webhooks import endpoints, outbox
from scoring.webhooks.endpoints import EndpointRefused, EndpointRemoved
from scoring.webhooks.models import WebhookDelivery, WebhookEndpoint

PROBLEMS = problems(*OF_BODIES)
OF_ONE = problems(*OF_BODIES, "not-found")
OF_READS = problems("not-found")
KEY = [OpenApiParameter("key", UUID, OpenApiParameter.PATH, description="The endpoint's id.")]
FIELDS = ("url", "description", "event_types", "schemas")
PARAMETERS = ("state", "cursor")
PAGE = 100


def _answer(content: Any, status: int = 200) -> HttpResponse:
    headers = {"Cache-Control": "no-store"}
    return HttpResponse(msgspec.json.encode(content), status=status, content_type="application/json", headers=headers)


class HookView(APIView):
    """What all of these have in common."""

    scope = Scope.WEBHOOKS
    parser_classes = ()

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, EndpointRemoved):
            exc = Http404()
        return super().handle_exception(DatabaseUnavailable() if isinstance(exc, Error) else exc)

    def own(self, request: Request) -> list[WebhookEndpoint]:
        """The endpoints that the key may see: its client's, and of no other schemas than the key's."""
        key = key_of(request)
        found = endpoints.of_client(key.client)
        seen = set(key.schemas)
        return [row for row in found if not seen or (row.schemas and seen.issuperset(row.schemas))]

    def note(self, request: Request, row: WebhookEndpoint, detail: str, action: str = "changed") -> None:
        key = key_of(request)
        endpoints.noted(row, action, f"{detail} By the key {key} of {key.client}.")

    def find(self, request: Request, key: UUID) -> WebhookEndpoint:
        row = next((row for row in self.own(request) if row.key == key), None)
        if row is None:
            raise Http404
        return row


class WebhooksView(HookView):
    @extend_schema(
        operation_id="webhooks",
        summary="List your webhook endpoints",
        description="All of them, the oldest first.",
        responses={200: WebhookListSerializer} | problems(),
    )
    def get(self, request: Request) -> HttpResponse:
        return _answer({"results": [bodies.told(row) for row in self.own(request)], "next": None})

    @extend_schema(
        operation_id="webhook_add",
        summary="Make a webhook endpoint",
        description="The answer has the secret that signs its messages, which is shown now and never again.",
        request={"application/json": NewWebhookSerializer},
        responses={201: SecretWebhookSerializer} | PROBLEMS,
    )
    @transaction.atomic
    def post(self, request: Request) -> HttpResponse:
        key = key_of(request)
        body: Body = {"schemas": []} | bodies.read(request._request, *FIELDS, needed=("url", "event_types"))
        try:
            row, secret = endpoints.create(client=key.client, **bodies.checked(body, key))
        except EndpointRefused as refusal:
            raise bodies.refused(refusal) from None
        self.note(request, row, "Made.", "added")
        response = _answer(bodies.told(row) | {"secret": secret}, 201)
        response["Location"] = reverse("webhook", args=[row.key])
        return response


class WebhookView(HookView):
    @extend_schema(
        operation_id="webhook",
        summary="Read a webhook endpoint",
        parameters=KEY,
        responses={200: WebhookSerializer} | OF_READS,
    )
    def get(self, request: Request, key: UUID) -> HttpResponse:
        return _answer(bodies.told(self.find(request, key)))

    @extend_schema(
        operation_id="webhook_change",
        summary="Change a webhook endpoint",
        description="Fields that are left out stay. `state` pauses it, or makes it active again.",
        parameters=KEY,
        request={"application/json": WebhookChangeSerializer},
        responses={200: WebhookSerializer} | OF_ONE,
    )
    @transaction.atomic
    def patch(self, request: Request, key: UUID) -> HttpResponse:
        row = self.find(request, key)
        values = bodies.checked(bodies.read(request._request, *FIELDS, "state"), key_of(request))
        endpoints.change(row, **values)
        self.note(request, row, f"Changed {', '.join(sorted(values)) or 'nothing'}.")
        return _answer(bodies.told(row))

    @extend_schema(
        operation_id="webhook_remove",
        summary="Remove a webhook endpoint",
        description="Nothing is sent to it any more. Its secrets are forgotten.",
        parameters=KEY,
        request=None,
        responses={204: None} | OF_READS,
    )
    @transaction.atomic
    def delete(self, request: Request, key: UUID) -> HttpResponse:
        row = self.find(request, key)
        endpoints.remove(row)
        self.note(request, row, "Removed.", "deleted")
        return HttpResponse(status=204)


class WebhookSecretsView(HookView):
    @extend_schema(
        operation_id="webhook_rotate",
        summary="Add a secret",
        description="Shown now and never again. Messages are signed with the earlier ones, too, for a day or `keep_s`.",
        parameters=KEY,
        request={"application/json": RotationSerializer},
        responses={201: SecretSerializer} | OF_ONE,
    )
    @transaction.atomic
    def post(self, request: Request, key: UUID) -> HttpResponse:
        row = self.find(request, key)
        keep_s = bodies.keep_s(bodies.read(request._request, "keep_s"))
        self.note(request, row, "Added a secret.")
        return _answer({"secret": endpoints.rotate(row, keep_s=keep_s)}, 201)


class WebhookTestView(HookView):
    @extend_schema(
        operation_id="webhook_test",
        summary="Send a test event",
        description="Of the type `webhook.test`, to this endpoint alone. The deliveries tell what became of it.",
        parameters=KEY,
        request=None,
        responses={202: TestSentSerializer} | OF_ONE,
    )
    def post(self, request: Request, key: UUID) -> HttpResponse:
        row = self.find(request, key)
        bodies.read(request._request)
        return _answer({"id": endpoints.send_test(row).message_id}, 202)


class WebhookDeliveriesView(HookView):
    @extend_schema(
        operation_id="webhook_deliveries",
        summary="List the deliveries to an endpoint",
        description=f"The latest first, {PAGE} a page.",
        parameters=[
            *KEY,
            OpenApiParameter("state", str, enum=WebhookDelivery.State.values, description="Those in this state alone."),
            OpenApiParameter("cursor", str, description="From `next` of the page before."),
        ],
        responses={200: DeliveryPageSerializer} | OF_READS,
    )
    def get(self, request: Request, key: UUID) -> HttpResponse:
        row, state, cursor = self.find(request, key), request.GET.get("state"), request.GET.get("cursor")
        if wrong := [name for name, texts in request.GET.lists() if name not in PARAMETERS or len(texts) > 1]:
            raise _wrong_parameter(wrong[0][:64], "unknown_parameter", "Send state and cursor only, each once.")
        found = WebhookDelivery.objects.filter(endpoint=row).order_by("-pk")
        if state is not None:
            if state not in WebhookDelivery.State.values:
                raise _wrong_parameter("state", "invalid_value", "state: send pending, delivered or dead.")
            found = found.filter(state=state)
        identity = ("deliveries", row.pk, state)
        if cursor is not None:
            found = found.filter(pk__lt=cursors.read(cursor, of=identity).key)
        rows = list(found[: PAGE + 1])
        following = None
        if len(rows) > PAGE:
            last = rows[PAGE - 1]
            written = cursors.write(Position(last.created_at, last.pk), of=identity)
            following = f"{request.path}?{f'state={state}&' if state else ''}cursor={written}"
        return _answer({"results": [bodies.told_delivery(one) for one in rows[:PAGE]], "next": following})


def _wrong_parameter(name: str, code: str, detail: str) -> InvalidFields:
    return InvalidFields(errors=[FieldError("", code, detail, parameter=name)])


class WebhookReplayView(HookView):
    @extend_schema(
        operation_id="webhook_replay",
        summary="Send deliveries again",
        description="The dead ones of an endpoint, those of events from a time on, or those named; with the same ids.",
        parameters=KEY,
        request={"application/json": ReplaySerializer},
        responses={202: ReplayedSerializer} | OF_ONE,
    )
    @transaction.atomic
    def post(self, request: Request, key: UUID) -> HttpResponse:
        row = self.find(request, key)
        body = bodies.read(request._request, "since", "all", "ids")
        named, since, of_all = bodies.ids(body), bodies.since(body), bodies.whether_all(body)
        chosen = outbox.of_endpoint(row, since=since, only_dead=not (of_all or named))
        if named:
            chosen = chosen.filter(event_id__in=named)
        count = outbox.replay(chosen)
        self.note(request, row, f"Sent {count:,} deliveries again.")
        return _answer({"replayed": count}, 202)
