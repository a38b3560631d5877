"""What a process that scores does before it takes work."""

import gc
import logging

from django.conf import settings
from django.db import Error

from scoring.worker import predictor, prepared
from training import registry
from training.core.exceptions import FraudsiteError

logger = logging.getLogger(__name__)


def get_ready(name: str, queue: str) -> None:
    """Load the champions before the first transaction comes, and follow the register from then on. `name` is that of
    this process, `queue` where its work comes from."""
    prepared.install()
    predictor.limit_threads()
    for schema in _schemas_to_load():
        try:
            predictor.current(schema)
        except (FraudsiteError, Error) as error:
            logger.warning("No model of %s is loaded yet: %s", schema, error)
    # What is loaded by now stays for good, so the garbage collector need not traverse it again.
    gc.collect()
    gc.freeze()
    predictor.follow(name, queue)


def _schemas_to_load() -> set[str]:
    try:
        return registry.live_schemas() | {settings.DEFAULT_SCHEMA}
    except Error:
        return {settings.DEFAULT_SCHEMA}
