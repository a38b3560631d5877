"""Messages with a button that undoes what they tell."""

from django.conf import settings
from django.http import HttpRequest, HttpResponseRedirect
from django.template.loader import render_to_string
from django.utils.http import url_has_allowed_host_and_scheme


def with_undo(request: HttpRequest, message: str, address: str, back_to: str = "") -> str:
    """A message with a button that posts to `address` and comes back to this page, or to `back_to`. The button is shown
    for as long as undoing is possible."""
    if not settings.UNDO_S:
        return message
    context = {
        "message": message,
        "address": address,
        "seconds": settings.UNDO_S,
        "back": back_to or request.get_full_path(),
    }
    return render_to_string("admin/scoring/undo.html", context, request)


def back(request: HttpRequest, otherwise: str) -> HttpResponseRedirect:
    """A redirect to the page that the form names."""
    address = request.POST.get("back", "")
    return HttpResponseRedirect(address if url_has_allowed_host_and_scheme(address, allowed_hosts=None) else otherwise)
