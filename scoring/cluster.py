"""Work of long commands on a cluster of Dask, the optional extra `growth` of pyproject.toml.

What travels are names and plain values: the cluster's workers have the same code and settings, and read from the
database themselves.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from training.core.exceptions import FraudsiteError

CONNECT_S = 10
# A part whose worker dies is begun again by another one.
ATTEMPTS = 3


class ClusterUnavailable(FraudsiteError):
    """The cluster does not answer."""


class Cluster:
    """A connection to the scheduler at an address such as tcp://10.0.0.1:8786."""

    def __init__(self, scheduler: str) -> None:
        """
        Raises:
            ClusterUnavailable: it does not answer, or Dask is not installed.
        """
        try:
            from distributed import Client
        except ImportError as error:
            raise ClusterUnavailable("Dask is not installed: pip install 'dask[dataframe,distributed]'.") from error
        try:
            self._client = Client(scheduler, timeout=CONNECT_S)
        except (OSError, ValueError) as error:
            raise ClusterUnavailable(f"There is no Dask scheduler at {scheduler}: {error}") from error

    def each(self, function: str, parts: Sequence[Sequence[Any]]) -> Iterator[Any]:
        """Call a function of ours, by its dotted name, with the arguments of each part. Gives the results as they come.

        A part may be done twice, if its worker dies.
        """
        from distributed import as_completed

        began = self._client.map(_perform, [function] * len(parts), parts, pure=False, retries=ATTEMPTS - 1)
        for _, result in as_completed(began, with_results=True):
            yield result

    def close(self) -> None:
        self._client.close()


def _perform(function: str, arguments: Sequence[Any]) -> Any:
    """Runs in a worker of the cluster, which knows nothing of Django before its first part."""
    import os

    import django
    from django.apps import apps
    from django.db import connection
    from django.utils.module_loading import import_string

    if not apps.ready:
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fraudsite.settings")
        django.setup()
    try:
        return import_string(function)(*arguments)
    finally:
        connection.close()
