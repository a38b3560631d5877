"""Proposes a first set of computed features, and the entities whose histories they read."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

from training.core.drafts.columns import Column
from training.core.drafts.fields import FROM_BIRTH, Fields, Proposed
from training.core.drafts.roles import REPEATED, Roles, says_only

WINDOWS_DAYS = (1, 7, 30)
PAIR_WINDOWS_DAYS = (*WINDOWS_DAYS, 90)
HISTORY_LIMITS = (50, 100, 200, 400, 600, 1_000)
SMOOTHING = 10.0  # so many events with the share of fraud of the whole file
FEWEST, MOST = 3, 100  # values of a category within which an entity's history is looked at
Tables = list[tuple[str, Proposed]]


def entities(roles: Roles, span_days: float, delay_days: float, share: float) -> Tables:
    """The tables of the entities, with so many events as nearly each has in the longest window, if this share of them
    is known."""
    single = [("entity", _entity(column, roles, span_days, delay_days, share)) for column in roles.entities]
    return single + [("entity", _pair(payer, payee)) for payer, payee in _pairs(roles)]


def _entity(column: Column, roles: Roles, span_days: float, delay_days: float, share: float) -> Proposed:
    rows = np.bincount(column.codes[column.codes >= 0])
    window = WINDOWS_DAYS[-1] + delay_days + 1
    in_window = float(np.quantile(rows, 0.999)) / share * min(1.0, window / max(span_days, 1.0)) * 2
    limit = next((limit for limit in HISTORY_LIMITS if limit >= in_window), HISTORY_LIMITS[-1])
    does = "pays" if column in roles.payers else "is paid"
    table: dict[str, Any] = {"name": column.ours, "description": f"Who {does}: column {column.name} of the file."}
    optional = {"optional": True} if column.missing else {}
    remark = f"{column.distinct:,} different, {len(column.codes) / column.distinct:.1f} rows each"
    return Proposed(table | {"history_limit": limit} | optional, [remark])


def _pairs(roles: Roles) -> list[tuple[Column, Column]]:
    """The first payer with each payee, such as a card at a merchant, if many of its transactions are with one that it
    had before."""
    return [
        (payer, payee)
        for payer in roles.payers[:1]
        for payee in roles.payees
        if len(payer.codes) / len(np.unique(payer.codes * payee.distinct + payee.codes)) >= REPEATED
    ]


def _pair(payer: Column, payee: Column) -> Proposed:
    name, described = _pair_name(payer, payee), f"A {payer.ours} with one {payee.ours}."
    return Proposed(
        {"name": name, "of": [payer.ours, payee.ours], "description": described, "history_limit": HISTORY_LIMITS[0]}
    )


def _pair_name(payer: Column, payee: Column) -> str:
    return f"{payer.ours}_with_{payee.ours}"


def calendar(fields: Fields) -> Tables:
    tables: Tables = [
        ("calendar", Proposed({"name": "hour", "of": "hour", "description": "Hour of the day, in UTC."})),
        ("calendar", Proposed({"name": "weekday", "of": "weekday", "description": "Day of the week, 0 is Monday."})),
    ]
    zones = [one.table["name"] for one in fields.fields.values() if one.table.get("kind") == "timezone"]
    for zone in zones:
        described = f"Hour of the day on the clocks of {zone}."
        tables.append(
            ("calendar", Proposed({"name": f"{zone}_hour", "of": "hour", "zone": zone, "description": described}))
        )
    return tables


def of_request(columns: list[Column], fields: Fields) -> Tables:
    """Ages of dates, and distances between all points."""
    tables: Tables = []
    by_name = {column.name: column for column in columns}
    for name, proposed in fields.fields.items():
        if proposed.table.get("kind") == "date":
            ours = proposed.table["name"]
            unit = "years" if any(word in by_name[name].plain_name for word in FROM_BIRTH) else "days"
            described = f"{unit.capitalize()} from {ours} to the transaction."
            tables.append(
                ("age", Proposed({"name": f"{ours}_age", "of": ours, "unit": unit, "description": described}))
            )
    points = [proposed.table["name"] for proposed in fields.points]
    for place, first in enumerate(points):
        for second in points[place + 1 :]:
            described = f"Kilometres between {first} and {second}."
            names = {"name": f"{first}_to_{second}_km", "between": [first, second], "description": described}
            tables.append(("distance", Proposed(names)))
    return tables


def velocity(
    columns: list[Column], roles: Roles, fields: Fields, span_days: float, delay_days: float, currency: str
) -> Tables:
    """Aggregates over the entities' events, in windows that the file is long enough for."""
    days = [window for window in WINDOWS_DAYS if window == 1 or window * 2 <= span_days]
    tables: list[dict[str, Any]] = []
    for column in roles.payers:
        tables += _of_payer(column.ours, days, currency)
        if category := _telling_category(columns, roles, fields, column):
            tables += _within_category(column.ours, category, days[-1], currency)
        tables += _countries(column.ours, fields, days[-1])
        tables += _speeds(columns, column, fields, days[-1])
    for column in roles.payees:
        tables += _of_payee(column.ours, days, delay_days, round(float(roles.labels.mean()), 5))
    for payer, payee in _pairs(roles):
        tables += _of_pair(payer.ours, payee.ours, _pair_name(payer, payee), span_days)
    return [("velocity", Proposed(table)) for table in tables]


def _of_payer(name: str, days: list[int], currency: str) -> Iterator[dict[str, Any]]:
    for window in days:
        of_window = {"entity": name, "window_days": window, "current": True}
        yield {
            "name": f"{name}_count_{window}d",
            "aggregate": "count",
            "of": "events",
            **of_window,
            "unit": "1",
            "description": f"Transactions of the {name} in {_days(window)}, this one among them.",
        }
        for aggregate in ("sum", "mean"):
            yield {
                "name": f"{name}_{aggregate}_{window}d",
                "aggregate": aggregate,
                "of": "amounts",
                **of_window,
                "unit": currency,
                "description": f"{aggregate.capitalize()} of its amounts in {_days(window)}, this one among them.",
            }
    longest = days[-1]
    yield _amount_to_mean(name, longest, f"the {name}'s earlier amounts")
    yield {
        "name": f"{name}_since_previous_s",
        "entity": name,
        "aggregate": "since_last",
        "of": "events",
        "window_days": longest,
        "empty": longest * 86_400.0,
        "unit": "s",
        "description": f"Since the {name}'s previous transaction, {longest} days at most.",
    }


def _amount_to_mean(name: str, window: int, amounts: str, category: str = "") -> dict[str, Any]:
    return {
        "name": f"{name}_{f'{category}_' if category else ''}amount_to_mean_{window}d",
        "entity": name,
        "aggregate": "mean",
        "of": "amounts",
        **({"same": category} if category else {}),
        "window_days": window,
        "relative": True,
        "empty": 1.0,
        "unit": "1",
        "description": f"The amount, divided by the mean of {amounts} in {_days(window)}.",
    }


def _telling_category(columns: list[Column], roles: Roles, fields: Fields, payer: Column) -> str:
    """The category that tells most about fraud, of those that differ within an entity; empty if there is none."""
    chosen = []
    for column in columns:
        table = fields.fields[column.name].table if column.name in fields.fields else {}
        is_able = table.get("kind") == "category" and table.get("model", True) and FEWEST <= column.distinct <= MOST
        if is_able and not says_only(column, payer):
            share = np.bincount(column.codes + 1, roles.labels) / np.maximum(np.bincount(column.codes + 1), 1)
            chosen.append((float(average_precision_score(roles.labels, share[column.codes + 1])), column.ours))
    return max(chosen, default=(0.0, ""))[1]


def _within_category(name: str, category: str, window: int, currency: str) -> Iterator[dict[str, Any]]:
    same = {"entity": name, "same": category, "window_days": window}
    before = f"earlier transactions with the same {category} in {_days(window)}"
    yield {
        "name": f"{name}_{category}_count_{window}d",
        "aggregate": "count",
        "of": "events",
        **same,
        "unit": "1",
        "description": f"The {name}'s {before}.",
    }
    yield {
        "name": f"{name}_{category}_mean_{window}d",
        "aggregate": "mean",
        "of": "amounts",
        **same,
        "unit": currency,
        "description": f"Mean amount of the {name}'s {before}.",
    }
    yield _amount_to_mean(name, window, f"the {name}'s earlier amounts with the same {category}", category)


def _countries(name: str, fields: Fields, window: int) -> Iterator[dict[str, Any]]:
    for proposed in fields.fields.values():
        if proposed.table.get("kind") == "country":
            ours = proposed.table["name"]
            yield {
                "name": f"{name}_distinct_{ours}_{window}d",
                "entity": name,
                "aggregate": "distinct",
                "of": ours,
                "window_days": window,
                "current": True,
                "unit": "1",
                "description": f"Different values of {ours} of the {name} in {_days(window)}, this one among them.",
            }


def _speeds(columns: list[Column], payer: Column, fields: Fields, window: int) -> Iterator[dict[str, Any]]:
    """Of the points that move, unlike a home."""
    by_name = {column.ours: column for column in columns}
    for proposed in fields.points:
        point = proposed.table["name"]
        if not says_only(by_name[proposed.table["latitude"]], payer):
            yield {
                "name": f"{payer.ours}_{point}_kmh",
                "entity": payer.ours,
                "aggregate": "speed",
                "of": point,
                "window_days": window,
                "unit": "km/h",
                "description": f"Speed from {point} of the {payer.ours}'s previous transaction to this one's.",
            }


def _of_payee(name: str, days: list[int], delay_days: float, frauds: float) -> Iterator[dict[str, Any]]:
    for window in days:
        yield {
            "name": f"{name}_count_{window}d",
            "entity": name,
            "aggregate": "count",
            "of": "events",
            "window_days": window,
            "current": True,
            "unit": "1",
            "description": f"Transactions with the {name} in {_days(window)}, this one among them.",
        }
    for window in days[1:] or days:
        yield {
            "name": f"{name}_risk_{window}d",
            "entity": name,
            "aggregate": "share",
            "of": "frauds",
            "window_days": window,
            "delay_days": delay_days,
            "smoothing": SMOOTHING,
            "empty": frauds,
            "unit": "1",
            "description": f"Share of known frauds with the {name} in the {window} days that ended {delay_days:g} days "
            "ago, smoothed.",
        }


def _of_pair(payer: str, payee: str, pair: str, span_days: float) -> Iterator[dict[str, Any]]:
    for entity, of in ((payer, payee), (payee, payer)):
        yield {
            "name": f"{entity}_distinct_{of}_1d",
            "entity": entity,
            "aggregate": "distinct",
            "of": of,
            "window_days": 1,
            "current": True,
            "unit": "1",
            "description": f"Different values of {of} with the {entity} in the last day, this one among them.",
        }
    window = max((days for days in PAIR_WINDOWS_DAYS if days * 2 <= span_days), default=1)
    yield {
        "name": f"{pair}_count_{window}d",
        "entity": pair,
        "aggregate": "count",
        "of": "events",
        "window_days": window,
        "unit": "1",
        "description": f"Earlier transactions of the {payer} with this {payee} in {_days(window)}.",
    }
    yield _amount_to_mean(pair, window, f"the {payer}'s earlier amounts with this {payee}")


def with_own_names(tables: Tables, taken: set[str]) -> Tables:
    """The same tables, with other names for what is made, where a column of the file has the name already."""
    renamed: dict[str, str] = {}
    for kind, proposed in tables:
        table = proposed.table
        is_made = kind in ("calendar", "age", "distance", "velocity") or (kind == "entity" and "of" in table)
        if is_made and table["name"] in taken:
            name = f"{table['name']}_made"
            while name in taken:
                name += "_"
            renamed |= {table["name"]: name} if kind == "entity" else {}
            table["name"] = name
        if kind == "velocity":
            table["entity"] = renamed.get(table["entity"], table["entity"])
    return tables


def _days(window: int) -> str:
    return "the last day" if window == 1 else f"the last {window} days"
