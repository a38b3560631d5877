"""Which clients' rows a person sees in the admin: of those that they are restricted to, or of all.

This is the one place of the rule. Lists and pages of rows follow it by their query (`visible`, in the base of every
list of the admin), other pages by their address (`check`, in the base of every view of the admin). A page that is not
named here is refused to people who are restricted, so that a new one has to be decided on.
"""

from functools import cache
from typing import Any, TypeVar

from django.apps import apps
from django.core.exceptions import PermissionDenied
from django.db.models import ForeignKey, Model, Q, QuerySet
from django.http import HttpRequest
from django.urls import resolve

from scoring.clients.models import ClientOfPerson

Row = TypeVar("Row", bound=Model)

# From rows to their client, where the shortest way is not the right one: a label's own client is that of its sender,
# and the client of a review is a copy that may be empty in the model, though no row is without it.
PATHS = {
    "scoring.client": "pk",
    "scoring.label": "transaction__client",
    "scoring.listentry": "client",
    "scoring.review": "client",
}

HOOK_ACTS = ("replay", "rotate", "test")
OWN, ROLE, READ, REFUSED = "own", "role", "read", "refused"
# What a person who is restricted to some clients finds at an address. OWN: rows of these clients only. ROLE: as the
# role says, as the page shows no rows of clients. READ: likewise, but nothing may be changed, as that would matter to
# all clients. REFUSED: it tells of all clients together. Pages of rows with a client are OWN without being named.
MANNERS: dict[str | None, str] = {
    **dict.fromkeys(
        ("index", "login", "logout", "password_change", "password_change_done", "jsi18n", "two_factor", "app_list"),
        ROLE,
    ),
    **dict.fromkeys(("autocomplete", "view_on_site", None), ROLE),
    **{
        f"{model}_{page}": ROLE
        for model in (
            "training_modelversion",
            "training_trainingrun",
            "training_exchangerate",
            "training_schemaversion",
        )
        for page in ("changelist", "change", "add", "history", "plot", "card", "progress", "of")
    },
    **{f"monitoring_driftreport_{page}": ROLE for page in ("changelist", "change", "history")},
    **{
        f"scoring_{model}_{page}": READ
        for model in ("policylist", "reviewqueue", "reviewreason")
        for page in ("changelist", "change", "history")
    },
    **dict.fromkeys(("scoring_policylist_entry", "scoring_policylist_import", "scoring_policylist_export"), OWN),
    **dict.fromkeys(
        ("scoring_client_add", "scoring_policylist_add", "scoring_reviewqueue_add", "scoring_reviewreason_add"), REFUSED
    ),
    **dict.fromkeys(("scoring_reviewqueue_reroute", "at_work"), REFUSED),
    **dict.fromkeys(("dashboard", "dashboard_csv"), REFUSED),
    **dict.fromkeys((f"dashboard_{page}" for page in ("model", "drift", "rules", "review")), REFUSED),
    **dict.fromkeys(("scoring_listentry_of_transaction", "scoring_listentry_undo"), OWN),
    **dict.fromkeys(("scoring_label_import", "scoring_label_undo"), OWN),
    **{
        f"scoring_review_{page}": OWN
        for page in (
            *("second_next", "second", "disagreements", "quality", "claim", "leave", "pass-on", "attach", "together"),
            *("next", "open", "views"),
        )
    },
    **dict.fromkeys(("scoring_attachment", "scoring_attachment_remove"), OWN),
    **dict.fromkeys(("scoring_apikey_rotate", *(f"scoring_webhookendpoint_{act}" for act in HOOK_ACTS)), OWN),
    **dict.fromkeys(("scoring_apikey_add", "scoring_webhookendpoint_add"), REFUSED),
    **dict.fromkeys(("sign_on", "sign_on_callback", "runbooks"), ROLE),
    **{f"scoring_batchfile_{page}": OWN for page in ("send", "progress", "cancel", "download")},
    **dict.fromkeys(("scoring_transaction_explanation", "scoring_transaction_entity"), OWN),
}
PAGES = ("changelist", "change", "add", "history", "delete")


def clients_of(user: Any) -> frozenset[int] | None:
    """The keys of the clients that a person is restricted to; None for all. Asked once for each request."""
    if user.pk is None:
        return None
    if not hasattr(user, "restricted_to"):
        rows = ClientOfPerson.objects.filter(person=user.pk).values_list("client", flat=True)
        user.restricted_to = frozenset(rows) or None
    return user.restricted_to


def is_restricted(user: Any) -> bool:
    return clients_of(user) is not None


def sees(user: Any, client_id: int) -> bool:
    """Whether a person sees the rows of a client."""
    keys = clients_of(user)
    return keys is None or client_id in keys


def condition(model: type[Model], user: Any) -> Q:
    """The condition on the rows of a table that a person sees. A row that counts for all clients is not among those of
    some."""
    keys, path = clients_of(user), path_to_client(model)
    return Q() if keys is None or path is None else Q(**{f"{path}__in": keys})


def visible(rows: QuerySet[Row], user: Any) -> QuerySet[Row]:
    """Those of these rows that a person sees."""
    return rows.filter(condition(rows.model, user))


@cache
def path_to_client(model: type[Model]) -> str | None:
    """The way from a row to its client, as conditions of queries write it; None if rows are of no client."""
    ways: list[tuple[str, Any]] = [("", model)]
    looked_at: set[Any] = set()
    while ways:
        for before, each in ways:
            if (label := each._meta.label_lower) in PATHS:
                return (before + PATHS[label]).removesuffix("__pk")
        looked_at |= {each for _, each in ways}
        ways = [
            (f"{before}{column.name}__", column.related_model)
            for before, each in ways
            for column in each._meta.concrete_fields
            if isinstance(column, ForeignKey) and not column.null and column.related_model not in looked_at
        ]
    return None


def manner_of(name: str | None) -> str:
    """What people who are restricted find at the address of this name in the admin."""
    if name in MANNERS:
        return MANNERS[name]
    for page in PAGES:
        label = (name or "").removesuffix(f"_{page}")
        if label != name and "_" in label and (model := _model(*label.split("_", 1))):
            return OWN if path_to_client(model) else REFUSED
    return REFUSED


def _model(app: str, name: str) -> type[Model] | None:
    try:
        return apps.get_model(app, name)
    except LookupError:
        return None


def check(request: HttpRequest) -> None:
    """Refuse a page of the admin to people who are restricted, if it tells of all clients.

    Raises:
        PermissionDenied: it does, or it would change what matters to all clients.
    """
    if not is_restricted(request.user):
        return
    match = request.resolver_match or resolve(request.path_info)
    manner = manner_of(match.url_name)
    if manner == REFUSED or (manner == READ and request.method not in ("GET", "HEAD")):
        raise PermissionDenied("This is about all clients, and you work for some of them.")
