"""The rates of exchange in the memory of a web process, by which it converts amounts."""

import time
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from scoring import served
from scoring.api.remembered import Remembered
from training import rates
from training.core.exchange.rates import Rates


class Courses(Remembered[Rates]):
    """The rates that hold at any event time that a request may have."""

    @property
    def keep_s(self) -> float:
        return settings.RATES_CACHE_S

    def read(self) -> Rates:
        past_days = max(schema.past_days for schema in served.now().schemas.values())
        return rates.known(since=timezone.now() - timedelta(days=past_days + 1))

    def now(self) -> Rates:
        """The rates, from the database if memory has none.

        Raises:
            DatabaseUnavailable: see `read_since`.
        """
        asked_at = time.monotonic()
        return self.kept() or self.read_since(asked_at)


courses = Courses()
