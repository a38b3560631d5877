"""What happened, in words: of a schema's roles where it has them, else of its values by name."""

from datetime import UTC
from typing import Any

from scoring.models import Transaction
from scoring.pages.conversions import sent_amount
from scoring.pages.display import Hiding, hiding, money
from training.core.features.declaration import Computed, Velocity
from training.core.features.typical import quantity
from training.core.schema import Schema

# What a value tells of a purchase, by words in its name.
PLACES = ("merchant", "shop", "store", "seller", "payee", "terminal")
TRADES = ("category", "mcc", "sector", "branch")
ENTRIES = ("entry", "channel")


def told(schema: Schema | None, row: Transaction, *, personal: bool) -> list[str]:
    """One or two sentences about a transaction. Values that are personal are told if `personal`; of a schema that is
    gone, None, only the amount and the time are told."""
    if schema is None:
        return [f"{money(row)}{_when(row)}"]
    hides = hiding(row.schema, personal=personal)
    shown = {name: value for name, value in row.fields.items() if value is not None and not hides(name)}
    texts = [
        field.name
        for field in schema.features
        if field.kind in ("category", "text") and isinstance(shown.get(field.name), str) and not field.personal
    ]
    trade, entry = _named(texts, TRADES), _named(texts, ENTRIES)
    place = _named([name for name in texts if name not in (trade, entry)], PLACES)
    country = next((field.name for field in schema.features if field.kind == "country" and field.name in shown), None)
    sentence = f"{money(row)}"
    if row.conversion:
        sentence += f" (sent as {sent_amount(row)})"
    if place:
        sentence += f" at {shown[place]}"
    if trade:
        sentence += f" ({_plain(shown[trade])})" if place else f" for {_plain(shown[trade])}"
    if country:
        sentence += f" in {country_name(shown[country])}"
    if entry:
        sentence += f", {_plain(shown[entry])}"
    sentences = [f"{sentence}{_when(row)}"]
    if moves := _moves(schema, row, hides):
        sentences.append(moves)
    return sentences


def _when(row: Transaction) -> str:
    return f", on {row.event_time.astimezone(UTC):%A, %d %B %Y at %H:%M:%S} UTC."


def country_name(code: str) -> str:
    """The name of a country by its two letters; the letters if there is none."""
    import pycountry  # reads its tables when they are first used

    found = pycountry.countries.get(alpha_2=code)
    return str(getattr(found, "common_name", found.name)) if found else code


def _named(names: list[str], words: tuple[str, ...]) -> str | None:
    return next((name for word in words for name in names if word in name), None)


def _plain(value: Any) -> str:
    return str(value).replace("_", " ")


def _moves(schema: Schema, row: Transaction, hides: Hiding) -> str:
    """The computed distances and counts of the card that say most of it in few words."""
    derived: dict[str, float | None] = (row.prediction.derived if hasattr(row, "prediction") else None) or {}
    wanted: list[Computed] = [
        *schema.distances,
        *(each for each in schema.velocity if each.aggregate in ("distance", "since_last")),
    ]
    wanted = [each for each in wanted if not hides(each.name)]
    told = [
        f"{each.description.rstrip('.')}: {quantity(value, getattr(each, 'unit', 'km'))}"
        for each in wanted[:3]
        if (value := derived.get(each.name)) is not None and not (isinstance(each, Velocity) and value == each.empty)
    ]
    return "; ".join(told) + "." if told else ""
