"""The way to the provider and back, and out again."""

from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.contrib.auth import authenticate, login
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from fraudsite.audit import trail
from fraudsite.audit.models import Action
from fraudsite.sign_on import accounts, claims
from fraudsite.sign_on.refusals import Refused
from fraudsite.two_factor import BY_PROVIDER

# What the session of somebody who came through the provider keeps of it, for signing out there.
SESSION = "sign_on"
NEXT_LENGTH = 2_000


@never_cache
@require_GET
def begin_page(request: HttpRequest) -> HttpResponse:
    """Off to the provider. `next` is the page to open afterwards, of this site alone."""
    provider = _provider()
    after = request.GET.get("next", "")
    hosts, secure = {request.get_host()}, request.is_secure()
    is_ours = url_has_allowed_host_and_scheme(after, allowed_hosts=hosts, require_https=secure)
    if not is_ours or len(after) > NEXT_LENGTH:
        after = reverse("admin:index")
    try:
        return provider.begin(request, after)
    except Refused as refusal:
        return _refused(request, refusal)


@never_cache
@require_GET
def callback_page(request: HttpRequest) -> HttpResponse:
    """Back from the provider."""
    provider = _provider()
    now = timezone.now().timestamp()
    subject = ""
    try:
        found = provider.complete(request)
        subject = str(found.claims.get("sub"))
        ends = claims.session_end(found.claims, now)
        account = accounts.account_of(found.claims)
    except Refused as refusal:
        return _refused(request, refusal, subject)
    # Through the backends, so that who is locked out by django-axes stays out this way, too.
    user = authenticate(request, username=account.get_username(), account=account)
    if user is None:
        return render(request, "429.html", status=429)
    login(request, user)
    request.session[SESSION] = {"id_token": found.id_token, "end_session": found.end_session}
    request.session[BY_PROVIDER] = claims.has_second_factor(found.claims)
    request.session.set_expiry(datetime.fromtimestamp(ends, UTC))
    return redirect(found.after)


def leaving(request: HttpRequest) -> dict[str, Any]:
    """For the page after signing out: where to sign out of the provider as well, if this person came from there."""
    kept = request.session.get(SESSION) or {}
    if request.method != "POST" or not kept.get("end_session"):
        return {}
    back = request.build_absolute_uri(reverse("admin:login"))
    return {"provider_logout": _provider().logout_address(kept["end_session"], kept["id_token"], back)}


def for_login_page() -> dict[str, Any]:
    """What the login page shows of single sign-on."""
    if not settings.SSO_ISSUER:
        return {}
    return {"sign_on_name": settings.SSO_NAME, "only_emergency": settings.PASSWORD_SIGN_IN == "emergency"}  # noqa: S105


def _provider() -> Any:
    """Where single sign-on is on. Imported late, as its libraries take half a second of each process's start."""
    if not settings.SSO_ISSUER:
        raise Http404
    from fraudsite.sign_on import provider

    return provider


def _refused(request: HttpRequest, refusal: Refused, subject: str = "") -> HttpResponse:
    told = [f"Single sign-on: {refusal.title}.", refusal.detail, f"Subject: {subject}" if subject else ""]
    trail.record(Action.REFUSED, person=refusal.person, detail=" ".join(filter(None, told)))
    context = admin.site.each_context(request) | {
        "title": refusal.title,
        "refusal": refusal,
        "sign_on_name": settings.SSO_NAME,
        "request_id": getattr(request, "request_id", ""),
    }
    return TemplateResponse(request, "admin/sign_on_refused.html", context, status=refusal.status)
