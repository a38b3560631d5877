"""The provider of single sign-on, asked by Authlib: addresses, keys, codes and tokens, and what can go wrong there."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

from authlib.common.urls import add_params_to_uri
from authlib.integrations.base_client.errors import MismatchingStateError, OAuthError
from authlib.integrations.django_client import DjangoIntegration, DjangoOAuth2App
from django.conf import settings
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse
from joserfc.errors import ExpiredTokenError, InvalidClaimError, JoseError
from requests import RequestException

from fraudsite.sign_on import claims as claims_of
from fraudsite.sign_on.refusals import NotBegunHere, NotUnderstood, OutOfTime, ProviderDown, Refused, RefusedThere

logger = logging.getLogger(__name__)
# How long the provider's addresses and keys are kept. A key that was taken back is refused after this time; one that is
# new is fetched at once.
KEPT_S = 300
BEGUN_LIMIT = 10
# Neither "none" nor those whose key is the client's secret.
ALGORITHMS = {*(f"{kind}{bits}" for kind in ("RS", "PS", "ES") for bits in (256, 384, 512)), "EdDSA", "Ed25519"}
REFUSALS = {"access_denied", "login_required", "interaction_required", "consent_required", "account_selection_required"}
BREAKDOWNS = {"server_error", "temporarily_unavailable"}


class SignedIn(NamedTuple):
    """What the provider says of somebody, checked."""

    claims: dict[str, Any]
    # What the provider is shown when the person signs out, and where. Empty if it ends no sessions.
    id_token: str
    end_session: str
    # Where the person wanted to go.
    after: str


def begin(request: HttpRequest, after: str) -> HttpResponseRedirect:
    """Send somebody to the provider, with state, nonce and PKCE challenge of this browser's session."""
    with _told():
        app = _app()
        callback = request.build_absolute_uri(reverse("sign_on_callback"))
        begun = app.create_authorization_url(callback)
        _forget_oldest(request)
        app.save_authorize_data(request, redirect_uri=callback, after=after, **begun)
    return HttpResponseRedirect(begun["url"])


def _forget_oldest(request: HttpRequest) -> None:
    """Keep a few sign-ins that were begun and not ended, of several windows, so that no session grows without end."""
    kept = [key for key in request.session.keys() if key.startswith("_state_sign_on_")]  # noqa: SIM118  # no mapping
    for key in kept[: -BEGUN_LIMIT + 1]:
        del request.session[key]


def complete(request: HttpRequest) -> SignedIn:
    """Take the person who comes back: redeem the code, check the ID token."""
    with _told():
        app = _app()
        state = request.GET.get("state", "")
        begun = app.framework.get_state_data(request.session, state)
        if not begun:
            raise NotBegunHere("The state is unknown in this browser.")
        if error := request.GET.get("error"):
            app.framework.clear_state_data(request.session, state)
            raise _refusal_there(error, request.GET.get("error_description", ""))
        issuer = app.server_metadata["issuer"]
        required = {"iss": issuer, "aud": settings.SSO_CLIENT_ID}
        token = app.authorize_access_token(
            request,
            leeway=settings.SSO_CLOCK_SKEW_S,
            claims_options={name: {"essential": True, "value": value} for name, value in required.items()},
        )
        if not token.get("userinfo"):
            raise NotUnderstood("The answer has no ID token.")
        claims = dict(token["userinfo"])
        if claims_of.find(claims, settings.SSO_ROLES_CLAIM) is None and "userinfo_endpoint" in app.server_metadata:
            claims = _more(app.userinfo(token=token), claims)
    return SignedIn(claims, token["id_token"], app.server_metadata.get("end_session_endpoint") or "", begun["after"])


def _more(said: dict[str, Any], claims: dict[str, Any]) -> dict[str, Any]:
    """The claims, with those of the provider's page about the person that the token has not."""
    if said.get("sub") != claims["sub"]:
        raise NotUnderstood("The provider's page about the person is about somebody else.")
    return {**said, **claims}


def logout_address(end_session: str, id_token: str, back: str) -> str:
    """Where the provider ends its own session, and returns to `back`."""
    parameters = {"id_token_hint": id_token, "client_id": settings.SSO_CLIENT_ID, "post_logout_redirect_uri": back}
    return str(add_params_to_uri(end_session, list(parameters.items())))


def _app() -> DjangoOAuth2App:
    """The client of the provider, with its addresses loaded."""
    chosen = (settings.SSO_ISSUER, settings.SSO_CLIENT_ID, settings.SSO_CLIENT_SECRET, settings.SSO_SCOPES)
    app = _made(*chosen, settings.SSO_TIMEOUT_S, int(time.time() // KEPT_S))
    metadata = app.load_server_metadata()
    if str(metadata.get("issuer")).rstrip("/") != settings.SSO_ISSUER.rstrip("/"):
        raise NotUnderstood(f"The provider calls itself {metadata.get('issuer')!r}, not as SSO_ISSUER says.")
    known = metadata.get("id_token_signing_alg_values_supported") or ["RS256"]
    safe = metadata["id_token_signing_alg_values_supported"] = [name for name in known if name in ALGORITHMS]
    if not safe:
        raise NotUnderstood("The provider signs its tokens with no key of its own.")
    ways = metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
    if settings.SSO_CLIENT_SECRET and "client_secret_basic" not in ways:
        app.client_kwargs["token_endpoint_auth_method"] = "client_secret_post"  # noqa: S105  # the name of a way
    return app


@lru_cache(maxsize=1)
def _made(issuer: str, client_id: str, secret: str, scopes: str, timeout_s: float, period: int) -> DjangoOAuth2App:
    return DjangoOAuth2App(
        DjangoIntegration("sign_on"),
        client_id=client_id,
        client_secret=secret or None,
        server_metadata_url=f"{issuer.rstrip('/')}/.well-known/openid-configuration",
        client_kwargs={"scope": scopes, "code_challenge_method": "S256", "default_timeout": timeout_s},
    )


@contextmanager
def _told() -> Iterator[None]:
    """Turn whatever goes wrong with the provider into a refusal with a page, and tell the log of what is not a
    person's doing."""
    try:
        yield
    except (NotBegunHere, RefusedThere, OutOfTime):
        raise
    except Exception as error:  # whatever the provider answers: it is input like any other, and never ends in a 500
        refusal = _refusal(error)
        if isinstance(refusal, NotUnderstood):
            _made.cache_clear()  # the next try reads addresses and keys anew
        if isinstance(refusal, NotUnderstood | ProviderDown):
            logger.error("Single sign-on: %s: %s", type(error).__name__, error)
        raise refusal from error


def _refusal(error: Exception) -> Refused:
    status = getattr(getattr(error, "response", None), "status_code", None)
    match error:
        case Refused():
            return error
        case MismatchingStateError():
            return NotBegunHere("The state is unknown in this browser.")
        case OAuthError(error="invalid_grant"):
            return NotBegunHere("The provider does not know the code, or not any more.")
        case ExpiredTokenError():
            return OutOfTime("The token has expired.")
        case InvalidClaimError(claim="iat" | "nbf"):
            return OutOfTime("The token is not valid yet.")
        case JoseError():
            return NotUnderstood("The token does not pass the checks.")
        case RequestException() if status is None or status >= 500:
            return NotUnderstood("The answer cannot be read.") if isinstance(error, ValueError) else ProviderDown()
        case _:
            return NotUnderstood(type(error).__name__)


def _refusal_there(error: str, description: str) -> Refused:
    said = f"{error}: {description}"[:200]
    if error in REFUSALS:
        return RefusedThere(said)
    return ProviderDown(said) if error in BREAKDOWNS else NotUnderstood(said)
