"""What a dashboard was asked for, by its address: so it can be sent to a colleague."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from urllib.parse import urlencode

from django.conf import settings
from django.http import QueryDict

from monitoring.rollups.windows import Window
from scoring.models import Client
from training import registry
from training.models import ModelVersion

WINDOWS = {
    "15m": ("15 min", timedelta(minutes=15)),
    "1h": ("1 hour", timedelta(hours=1)),
    "6h": ("6 hours", timedelta(hours=6)),
    "24h": ("24 hours", timedelta(days=1)),
    "7d": ("7 days", timedelta(days=7)),
    "30d": ("30 days", timedelta(days=30)),
    "90d": ("90 days", timedelta(days=90)),
    "26w": ("26 weeks", timedelta(weeks=26)),
    "52w": ("52 weeks", timedelta(weeks=52)),
}
FIRST = "1h"
LONGEST = timedelta(days=3_650)
LONGEST_QUERY = 2_000
LONGEST_INTERVAL_S = 300
# What single pages ask for besides. Each page keeps all of it in its address, so that no tab loses it.
MORE = ("matured", "review_cost", "blocked_cost", "input")
LONGEST_VALUE = 64
# The versions that can be chosen: those promoted last, and the newest.
VERSIONS = 20


@dataclass
class Choice:
    """`window` is read at `now`: the steps of the time from `start` to `end`. `name` is one of `WINDOWS`, or empty for
    a time from–to. `more` is what single pages ask for, of `MORE`. `faults` are what was not understood, and what holds
    in its place. Without a client or a version, all of the schema are meant."""

    now: datetime
    start: datetime
    end: datetime
    window: Window
    name: str
    schema: str
    client: int | None = None
    version: str | None = None
    is_paused: bool = False
    more: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def days(self) -> tuple[date, date]:
        """The first and the last day, UTC, that it has a part of."""
        last = (min(self.end, self.now) - timedelta.resolution).astimezone(UTC).date()
        return self.start.astimezone(UTC).date(), last

    @property
    def words(self) -> str:
        """The window as a sentence has it."""
        if self.name:
            return f"the last {WINDOWS[self.name][0]}"
        return f"{self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M} UTC"

    @property
    def interval_s(self) -> int:
        """How often a page asks again: a few times in each step, and not at all about a time that is over."""
        if self.is_paused or self.window.end <= self.now:
            return 0
        step_s = self.window.step.total_seconds()
        return int(min(LONGEST_INTERVAL_S, max(settings.DASHBOARD_REFRESH_S, step_s / 30)))

    def query(self, **changes: str) -> str:
        """The query that asks for the same, but for some changes."""
        asked = {
            "window": self.name,
            "from": "" if self.name else _told(self.start),
            "to": "" if self.name else _told(self.end),
            "schema": self.schema,
            "client": str(self.client or ""),
            "version": self.version or "",
            "refresh": "paused" if self.is_paused else "",
            **self.more,
        }
        return urlencode({name: value for name, value in (asked | changes).items() if value})


def read(query: QueryDict, now: datetime, *, first: str = FIRST, windows: Collection[str] = WINDOWS) -> Choice:
    """What a query asks for. What makes no sense is told, and its default taken. Without a window, or with one that is
    none of a page's `windows`, it is the `first`."""
    faults: list[str] = []
    version = query.get("version", "")[:LONGEST_VALUE].replace("\0", "")
    schema = query.get("schema") or _schema_of(version) or default_schema()
    if schema not in settings.SCHEMAS:
        faults.append(f"There is no such schema; this is {default_schema()}.")
        schema = default_schema()
    client = query.get("client", "")
    if client and not (client.isascii() and client.isdigit() and len(client) < 18 and _is_client(int(client))):
        faults.append("There is no such client; these are all clients.")
        client = ""
    if version and not ModelVersion.objects.filter(pk=version, schema=schema).exists():
        faults.append(f"There is no such model version of {schema}; these are all versions.")
        version = ""
    start, end, name = _window(query, now, first, windows, faults)
    window = Window.last(end - start, now=now) if name else Window.between(start, end, now=now)
    is_paused = query.get("refresh") == "paused"
    more = {name: text[:LONGEST_VALUE] for name in MORE if (text := query.get(name, ""))}
    chosen = int(client) if client else None
    return Choice(now, start, end, window, name, schema, chosen, version or None, is_paused, more, faults)


def of_address(search: object) -> QueryDict:
    """The query part of an address, as the page's script sends it: anything at all."""
    return QueryDict(search[:LONGEST_QUERY].removeprefix("?") if isinstance(search, str) else "")


def default_schema() -> str:
    """The default schema if it has a champion, else one that has."""
    live = sorted(registry.live_schemas())
    return settings.DEFAULT_SCHEMA if settings.DEFAULT_SCHEMA in live or not live else live[0]


def schemas() -> list[str]:
    """Those that can be chosen: they have a champion."""
    return sorted({default_schema(), *registry.live_schemas()})


def versions(schema: str) -> list[str]:
    """The versions of a schema that can be chosen, those promoted last first."""
    rows = ModelVersion.objects.filter(schema=schema, promoted_at__isnull=False).order_by("-promoted_at")
    return list(rows.values_list("pk", flat=True)[:VERSIONS])


def clients() -> list[tuple[int, str]]:
    """Key and name of every client."""
    return list(Client.objects.order_by("name").values_list("pk", "name"))


def _schema_of(version: str) -> str:
    """The schema of a version, which its name alone says; empty without one."""
    return ModelVersion.objects.filter(pk=version).values_list("schema", flat=True).first() or "" if version else ""


def _is_client(key: int) -> bool:
    return Client.objects.filter(pk=key).exists()


def _window(
    query: QueryDict, now: datetime, first: str, windows: Collection[str], faults: list[str]
) -> tuple[datetime, datetime, str]:
    start, end = (_moment(query, name, faults) for name in ("from", "to"))
    if start and (end or now) > start and (end or now) - start <= LONGEST:
        return start, min(end or now, now) if start < now else end or now, ""
    if start or end:
        faults.append(f"From must be before to, and at most ten years; this is {WINDOWS[first][0]}.")
    name = query.get("window") or first
    if name not in WINDOWS:
        faults.append(f"The window is one of {', '.join(windows)}; this is {first}.")
    if name not in windows:
        name = first
    return now - WINDOWS[name][1], now, name


def _moment(query: QueryDict, name: str, faults: list[str]) -> datetime | None:
    text = query.get(name, "")
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text[:40])
        if not 2000 <= found.year <= 2200:
            raise ValueError
    except ValueError:
        faults.append(f"{name} takes a time in UTC, such as 2026-03-01T12:00.")
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _told(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M}"
