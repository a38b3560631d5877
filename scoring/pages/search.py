"""The search of the admin's lists: by Fraudsite's id, the client's id, a part of either, by request, or by amounts."""

import re
from collections.abc import Iterator
from contextlib import suppress
from math import isfinite
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import CharField, Q, QuerySet, Value
from django.db.models.functions import Cast, Replace
from django.http import HttpRequest

from scoring import served
from scoring.lists.keys import EntryRefused, subject_in
from scoring.messages import traces
from scoring.models import Client, Transaction
from scoring.tenancy import tenants
from training.core.schema.tokens import OWN

HEX_DIGITS = 32
# With fewer digits of a token, too many cards would fit.
CARD_BEGINNING = re.compile(rf"[0-9a-f]{{6,32}}|[0-9a-f]{{31}}{OWN}", re.IGNORECASE)
# As pages show amounts, or as people type them: 12.34, 1,234.50 EUR, €12.
CURRENCY = r"(?:[A-Za-z]{3}|[^\w\s.,+-])?"
AMOUNT = re.compile(rf"(-?){CURRENCY}\s*(\d[\d,]*\.?\d*|\.\d+)\s*{CURRENCY}", re.ASCII)
THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+(\.\d*)?", re.ASCII)


class TransactionSearch(admin.ModelAdmin):
    """Searches for the text as typed; Django would split it at spaces and quotes.

    A whole id finds its transaction and nothing else. Otherwise all rows are searched for ids that begin with the text,
    by index, and the latest `SEARCH_RECENT_ROWS` of the list for other parts of ids and for amounts and their ranges.
    """

    transaction_path = "transaction"  # from a row of the list to its transaction; "pk" if it is one
    search_fields = ["pk"]  # without it the page has no search box
    search_help_text = (
        "An id, Fraudsite's or the client's, whole or a part of it; a request or a trace; "
        "or an amount: 12.34, 100..250, 100.."
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term:
            return queryset, False
        if whole := _whole_ids(search_term):
            return queryset.filter(**{f"{self.transaction_path}__in": whole}), False
        limit = settings.SEARCH_RESULTS_LIMIT
        # Fraudsite's ids (UUIDv7) increase with time.
        latest_first = queryset.order_by(f"-{self.transaction_path}")
        number = settings.SEARCH_RECENT_ROWS
        oldest = latest_first.values_list(self.transaction_path, flat=True)[number : number + 1].first()
        keys = set()
        for found in _parts(search_term.strip(), oldest):
            rows = latest_first.filter(**{f"{self.transaction_path}__in": found.values("pk")})
            keys |= set(rows.values_list("pk", flat=True)[:limit])
        if len(keys) >= limit and request.method == "GET":
            messages.info(request, f"{limit:,} or more fit, and the latest are shown. Type more of the id.")
        return queryset.filter(pk__in=keys), False


def _whole_ids(term: str) -> list[UUID]:
    """The transactions that have this id, Fraudsite's in any spelling, or came with this request or in this trace. Each
    condition is one index look-up. Of a list, the latest are found."""
    ways = [Q(client__in=_clients(), transaction_id__in={term, term.strip()})]
    digits = _hex_digits(term.strip())
    if digits and len(digits) == HEX_DIGITS:
        ways += [Q(pk=UUID(digits)), Q(trace_id=UUID(digits))]
    if trace := traces.read(term.strip()):
        ways.append(Q(trace_id=UUID(trace.id)))
    ways += [Q(request_id=name) for name in {term.strip(), term.strip().lower()}]
    keys = (Transaction.objects.filter(way).order_by("-pk").values_list("pk", flat=True) for way in ways)
    return [key for found in keys for key in found[: settings.SEARCH_RESULTS_LIMIT]]


def beginning(term: str) -> Iterator[QuerySet[Transaction]]:
    """The transactions whose id begins with the text, by index."""
    yield Transaction.objects.filter(client__in=_clients(), transaction_id__startswith=term)
    if digits := _hex_digits(term):
        yield Transaction.objects.filter(pk__range=[UUID(digits.ljust(HEX_DIGITS, end)) for end in "0f"])


def _parts(term: str, after: UUID | None) -> Iterator[QuerySet[Transaction]]:
    """The transactions whose id begins with the text, and those after the id `after` that it matches in any way."""
    yield from beginning(term)
    fits = Q(transaction_id__contains=term)
    recent = Transaction.objects.filter(pk__gt=after) if after else Transaction.objects.all()
    if digits := _hex_digits(term):
        recent = recent.alias(digits=Replace(Cast("pk", CharField()), Value("-"), Value("")))
        fits |= Q(digits__contains=digits)
    if (amount := read_amount(term)) is not None:
        fits |= _is_shown_as(amount)
    if bounds := read_range(term):
        fits |= Q(**bounds)
    yield recent.filter(fits)


def _is_shown_as(amount: float) -> Q:
    """Whether a transaction's amount is shown as this one, with the decimals of its schema."""
    found = Q(amount=amount)
    for name, schema in served.now().schemas.items():
        half = 0.5 * 10**-schema.amount_decimals
        found |= Q(schema=name, amount__gte=amount - half, amount__lt=amount + half)
    return found


def of_card(term: str, may_see_personal: bool) -> Q | None:
    """Reviews of a card, by the beginning of its token or, for those who see personal values, by what clients send of
    it. None if the text is neither."""
    term = term.strip().removesuffix("…")
    found = Q(card__startswith=term.lower()) if CARD_BEGINNING.fullmatch(term) else None
    tokens: set[str] = set()
    clients = tenants.by_name().values()
    for schema in served.now().schemas.values():
        if schema.card and may_see_personal:
            subject = subject_in(schema, schema.card)
            with suppress(EntryRefused):
                tokens.update(subject.keys_of(dict.fromkeys(subject.parts, term), clients))
    if tokens:
        found = Q(card__in=tokens) | (found or Q())
    return found


def read_amount(text: str) -> float | None:
    """Read an amount with or without a currency; None if the text is not one.

    >>> read_amount("12.34"), read_amount("1,234.50 EUR"), read_amount("12,5"), read_amount("order-12")
    (12.34, 1234.5, 12.5, None)
    """
    found = AMOUNT.fullmatch(text)
    if found is None:
        return None
    sign, number = found.groups()
    number = number.replace(",", "") if THOUSANDS.fullmatch(number) else number.replace(",", ".")
    try:
        amount = float(sign + number)
    except ValueError:
        return None
    return amount if isfinite(amount) else None


def read_range(text: str) -> dict[str, float] | None:
    """Read a range of amounts, bounds included, as conditions of a query; None if the text is not one.

    >>> read_range("100..1,250 EUR"), read_range("100.."), read_range("..5"), read_range(".."), read_range("100")
    ({'amount__gte': 100.0, 'amount__lte': 1250.0}, {'amount__gte': 100.0}, {'amount__lte': 5.0}, None, None)
    """
    ends = [end.strip() for end in text.split("..")]
    if len(ends) != 2 or not any(ends):
        return None
    bounds = {name: read_amount(end) for name, end in zip(("amount__gte", "amount__lte"), ends, strict=True) if end}
    found = {name: amount for name, amount in bounds.items() if amount is not None}
    return found if len(found) == len(bounds) else None


def _hex_digits(term: str) -> str | None:
    """The hexadecimal digits of Fraudsite's id or a part of it; None if the text is neither."""
    digits = term.lower().replace("-", "")
    return digits if re.fullmatch(rf"[0-9a-f]{{1,{HEX_DIGITS}}}", digits) else None


def _clients() -> list[int]:
    """The keys of all clients: the index of client ids begins with the client."""
    return list(Client.objects.values_list("pk", flat=True))
