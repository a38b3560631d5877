import os
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fraudsite.settings")
pages = get_wsgi_application()


class MachineHandler(WSGIHandler):
    """Serves the calls of machines, which have keys in place of sessions, cookies and forms.

    The middleware that pages need would be a third of what a predict call costs the web process.
    """

    def load_middleware(self, is_async: bool = False) -> None:
        middleware_of_pages = settings.MIDDLEWARE
        settings.MIDDLEWARE = settings.MACHINE_MIDDLEWARE
        try:
            super().load_middleware(is_async)
        finally:
            settings.MIDDLEWARE = middleware_of_pages


machines = MachineHandler()


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    is_machine = environ["PATH_INFO"].startswith(settings.MACHINE_PATHS)
    return (machines if is_machine else pages)(environ, start_response)
