"""What clients and their caches may do with an answer."""

import hashlib
from typing import cast

from django.http import HttpResponse
from django.utils.cache import get_conditional_response
from django.utils.http import quote_etag
from rest_framework.request import Request


def revalidated(request: Request, response: HttpResponse) -> HttpResponse:
    """The answer with its ETag, or 304 to a client that has it already. No cache may answer another key with it, or
    anybody without asking again."""
    etag = quote_etag(hashlib.sha256(response.content).hexdigest()[:32])
    response["ETag"] = etag
    response["Cache-Control"] = "private, no-cache"
    response["Vary"] = "Authorization"
    return cast(HttpResponse, get_conditional_response(request._request, etag=etag, response=response))
