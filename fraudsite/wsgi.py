import os
from collections.abc import Iterable
from typing import Any, cast
from wsgiref.types import StartResponse, WSGIEnvironment

from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.http import HttpResponse

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fraudsite.settings")
pages = get_wsgi_application()


class MachineHandler(WSGIHandler):
    """Serves the API calls except predict calls, which have `fraudsite.asgi.RealtimeHandler`.

    API calls have keys instead of sessions, cookies and forms, so the pages' middleware and Django's request signals
    are left out. The signals would close database connections; this is done here, as few calls open one.
    """

    def load_middleware(self, is_async: bool = False) -> None:
        middleware_of_pages = settings.MIDDLEWARE
        settings.MIDDLEWARE = settings.MACHINE_MIDDLEWARE
        try:
            super().load_middleware(is_async)
        finally:
            settings.MIDDLEWARE = middleware_of_pages

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        request = self.request_class(environ)
        request.urlconf = "scoring.urls"
        try:
            response = self.get_response(request)
        finally:
            if connection.connection is not None:
                connection.close()
        start_response(f"{response.status_code} {response.reason_phrase}", list(response.items()))
        if response.streaming:  # the result of a file, which is made while it is sent, without the database
            return cast(Iterable[bytes], response)
        return [cast(HttpResponse, response).content]


machines = MachineHandler()


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    is_machine = environ["PATH_INFO"].startswith(settings.MACHINE_PATHS)
    return (machines if is_machine else pages)(environ, start_response)
