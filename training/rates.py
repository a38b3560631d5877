"""The table of rates of exchange: reads it for conversions, and adds to it."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Max, Q

from training.core.exchange.rates import Quote, Rates
from training.models import ExchangeRate

ROWS_AT_A_TIME = 1_000


def known(since: datetime | None = None) -> Rates:
    """The rates that hold at any time, or at `since` or later."""
    rows = ExchangeRate.objects.all()
    if since is not None:
        before = rows.filter(valid_from__lte=since).values("base", "currency").annotate(last=Max("valid_from"))
        rows = rows.filter(Q(valid_from__gt=since) | Q(valid_from__in={row["last"] for row in before}))
    quotes = rows.order_by("pk").values_list("base", "currency", "rate", "valid_from")
    return of((base, Quote(currency, rate, valid_from)) for base, currency, rate, valid_from in quotes.iterator())


def of(quotes: Iterable[tuple[str, Quote]]) -> Rates:
    """Rates of these bases and quotes, which may be as old as the settings say."""
    return Rates.of(
        quotes,
        max_age=timedelta(days=settings.RATES_MAX_AGE_DAYS),
        use_last=settings.RATES_POLICY == "last",
    )


@transaction.atomic
def add(quotes: Sequence[Quote], *, base: str, source: str, by: str) -> int:
    """Add the quotes that are not known yet, all or none. Returns how many that were."""
    kept = ExchangeRate.objects.filter(base=base).order_by("pk").values_list("currency", "valid_from", "rate")
    counting = {(currency, valid_from): rate for currency, valid_from, rate in kept.iterator()}
    new = [
        ExchangeRate(base=base, source=source[:100], by=by, **quote._asdict())
        for quote in quotes
        if counting.get((quote.currency, quote.valid_from)) != quote.rate
    ]
    ExchangeRate.objects.bulk_create(new, batch_size=ROWS_AT_A_TIME)
    return len(new)
