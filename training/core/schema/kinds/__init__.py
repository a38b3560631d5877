"""The kinds of values that a request may have, a module each. A new kind is a line in `KINDS`."""

from training.core.schema.kinds import addresses, categories, codes, dates, numbers
from training.core.schema.kinds.kind import Kind

KINDS: dict[str, Kind] = {
    "number": numbers.NUMBER,
    "integer": numbers.INTEGER,
    "boolean": numbers.BOOLEAN,
    "latitude": numbers.LATITUDE,
    "longitude": numbers.LONGITUDE,
    "category": categories.CATEGORY,
    "text": categories.TEXT,
    "country": codes.COUNTRY,
    "currency": codes.CURRENCY,
    "timezone": codes.TIMEZONE,
    "date": dates.DATE,
    "email": addresses.EMAIL,
    "ip": addresses.IP,
}
