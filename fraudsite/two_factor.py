"""The second factor of a sign-in: codes of an authenticator app, and recovery codes for when that is lost."""

import base64
from collections.abc import Callable
from typing import Any

import segno
from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django_otp import login, match_token, user_has_device
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from fraudsite.audit import trail
from fraudsite.audit.models import Action

RECOVERY_CODES = 10
WRONG = "The code is wrong, or was used before. Wait for the next one; after wrong codes each wait is longer."
# What somebody without a second factor may open where one is required.
OPEN = ("two_factor", "admin:login", "admin:logout", "admin:jsi18n")
# In sessions of people who came through single sign-on: whether the provider has asked for a second factor.
BY_PROVIDER = "second_factor_by_provider"


class SignInForm(AdminAuthenticationForm):
    code = forms.CharField(
        required=False,
        label="Code, if you have set one up:",
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "text", "maxlength": 20}),
    )

    def confirm_login_allowed(self, user: Any) -> None:
        super().confirm_login_allowed(user)
        if not user_has_device(user):
            return
        device = _matching(user, self.cleaned_data.get("code", ""))
        if device is None:
            raise ValidationError(WRONG, code="code")
        user.otp_device = device  # django-otp keeps it in the session


def _matching(user: User, code: str) -> Any:
    """The device whose code this is, which is used up by that. None if it is wrong."""
    device = match_token(user, code.replace(" ", "")) if code else None
    if device is None:
        trail.record(Action.REFUSED, person=user.get_username(), detail="Wrong code of the second factor.")
    return device


class TwoFactorMiddleware:
    """Where a second factor is required, leads people without one to the page where they set it up or show it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if _is_due(request):
            is_file = request.path.startswith(settings.STATIC_URL)
            if not is_file and request.path not in {reverse(name) for name in OPEN}:
                return redirect("two_factor")
        return self._get_response(request)


def _is_due(request: HttpRequest) -> bool:
    """Whether somebody has yet to show, or to set up, a second factor. With a password, the form has asked for it."""
    if not (settings.TWO_FACTOR_REQUIRED or settings.SSO_ISSUER):
        return False  # and the session is not asked for
    user: Any = request.user
    by_provider = request.session.get(BY_PROVIDER)
    if by_provider or not user.is_authenticated or user.is_verified():
        return False
    return bool(settings.TWO_FACTOR_REQUIRED or (by_provider is not None and user_has_device(user)))


@never_cache
def two_factor_page(request: HttpRequest) -> HttpResponse:
    """Set up a second factor; show its code if the session has not; or replace it or its recovery codes."""
    user: Any = request.user
    code = request.POST.get("code", "")
    has_one = user_has_device(user)
    context: dict[str, Any] = admin.site.each_context(request) | {
        "title": "Second factor",
        "has_one": has_one,
        "is_verified": user.is_verified(),
        "is_required": settings.TWO_FACTOR_REQUIRED,
        "left": StaticToken.objects.filter(device__user=user).count(),
    }
    if request.method == "POST":
        device = _matching(user, code) if has_one else _confirmed(user, code)
        if device is None:
            messages.error(request, WRONG)
            return redirect("two_factor")
        login(request, device)
        if has_one and "remove" in request.POST:
            remove(user)
            messages.success(request, "The second factor is removed.")
            return redirect("two_factor")
        if has_one and "renew" not in request.POST:
            return redirect("admin:index")
        context["codes"] = _new_recovery_codes(user)
    elif not has_one:
        context |= _setting_up(_unconfirmed(user))
    return TemplateResponse(request, "admin/two_factor.html", context)


def _unconfirmed(user: User) -> TOTPDevice:
    return TOTPDevice.objects.get_or_create(user=user, confirmed=False, defaults={"name": "app"})[0]


def _setting_up(device: TOTPDevice) -> dict[str, str]:
    picture = segno.make(device.config_url).svg_data_uri(scale=5, border=2, light="#fff")
    return {"picture": picture, "secret": base64.b32encode(device.bin_key).decode().rstrip("=")}


def _confirmed(user: User, code: str) -> TOTPDevice | None:
    """The new device, if this is its code."""
    with transaction.atomic():
        device = TOTPDevice.objects.select_for_update().filter(user=user, confirmed=False).first()
        if device is None or not device.verify_token(code.replace(" ", "")):
            return None
        device.confirmed = True
        device.save()
    trail.record(Action.ADDED, kind="auth.user", object_id=user.pk, detail="Set up a second factor.")
    return device


@transaction.atomic
def _new_recovery_codes(user: User) -> list[str]:
    """Each can be used once in place of a code. Earlier ones end."""
    StaticDevice.objects.filter(user=user).delete()
    device = StaticDevice.objects.create(user=user, name="recovery")
    codes = [StaticToken.random_token() for _ in range(RECOVERY_CODES)]
    StaticToken.objects.bulk_create(StaticToken(device=device, token=code) for code in codes)
    trail.record(Action.CHANGED, kind="auth.user", object_id=user.pk, detail="Got new recovery codes.")
    return codes


@transaction.atomic
def remove(user: User) -> None:
    """Remove the second factor of somebody, who can set up another."""
    for model in (TOTPDevice, StaticDevice):
        model.objects.filter(user=user).delete()
    trail.record(
        Action.CHANGED, kind="auth.user", object_id=user.pk, detail=f"The second factor of {user} was removed."
    )
