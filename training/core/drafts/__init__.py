"""Drafts: from a file of transactions to a schema of them, and to a training configuration.

A draft is a proposal: what it takes for what, and what speaks against others, is told in comments.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from training.core import stages
from training.core.datasets.storage import DAY_S
from training.core.drafts import columns, doubts, features, fields, forms, roles, sample, splits, writing
from training.core.drafts.columns import Column
from training.core.drafts.doubts import Doubt
from training.core.drafts.fields import Fields
from training.core.drafts.roles import Chosen, Roles
from training.core.schema import EVENT_TIME, TRANSACTION_ID, Schema, parse_schema
from training.core.schema.files import FileForm

PAST_DAYS = 30
DELAY_DAYS = 7
NO_CURRENCY = "XXX"  # of ISO 4217
# Trees that train in a minute or two on half a million rows.
QUICK = {"epochs": 300, "learning_rate": 0.1, "depth": 7}
LONG_DAYS = 60  # a shorter file is too short to wait a week for labels


@dataclass(frozen=True, eq=False)
class Draft:
    """A drafted schema, the texts of its file and of its training configuration, what was found in one line, and what
    to look at."""

    schema: Schema
    text: str
    config_text: str
    summary: str
    warnings: list[str]


def draft(path: Path, name: str, chosen: Chosen, *, values: int, currency: str | None = None) -> Draft:
    """Draft a schema of this name from a CSV, JSON Lines or Parquet file, of which about so many values are looked at.

    Raises:
        DatasetError: the file cannot be read, or has no rows.
        ConfigurationError: a role cannot be found out, or a chosen column does not suit; names the option.
    """
    stages.enter(f"Reading {path.name}")
    form = forms.find_out(path)
    frame, rows = sample.read(path, form, values)
    share = len(frame) / rows
    read, form = columns.of_frame(frame, form)
    stages.enter("Finding out what the columns are")
    found = roles.find_out(read, chosen)
    stages.enter("Looking for doubts")
    found_doubts = doubts.find(read, found)
    gone = {doubt.name: doubt.why for doubt in found_doubts if doubt.left_out}
    unit = currency or _currency_of(read) or NO_CURRENCY
    span = splits.span_days(found.time.moments)
    delay = DELAY_DAYS if span >= LONG_DAYS else int(span // 10)
    ours = {column.name: column.ours for column in read}
    proposed = fields.propose(read, found, gone, unit)
    lists = _lists(read, found, proposed, delay, unit, share)
    by_name = {proposal.table.get("name"): proposal for _, proposal in lists}
    for doubt in found_doubts:
        if at := by_name.get(ours.get(doubt.name)):
            at.remarks.insert(0, f"DOUBT: it {doubt.why}.")
    form = replace(
        form,
        dates="" if proposed.dates == fields.ISO else proposed.dates,
        fraud=found.fraud,
        origin=found.time.origin if found.time.event else "",
        row_ids=found.time.event and found.id is None,
    )
    text = writing.schema_text(
        _head(path, rows, read, found, found_doubts, proposed.left_out),
        _declared(name, found, delay),
        {"file": _differing(form), "source": _source(read, found, proposed)},
        lists,
    )
    return Draft(
        schema=parse_schema(name, text),
        text=text,
        config_text=_config(name, found, delay),
        summary=_summary(found, form),
        warnings=[
            *(f"DOUBT {doubt.name or 'file'}: {doubt.why}." for doubt in found_doubts if not doubt.left_out),
            *(f"LEFT OUT {name}: {why}." for name, why in proposed.left_out.items()),
        ],
    )


def _currency_of(read: list[Column]) -> str | None:
    """The currency that all rows have, if the file says it."""
    all_rows = [column for column in read if column.distinct == 1 and fields.code_kind(column) == "currency"]
    return all_rows[0].texts[0].upper() if all_rows else None


def _summary(found: Roles, form: FileForm) -> str:
    time = found.time
    written = time.format or (f"{time.unit} since {time.origin or 1970}" if time.unit else "")
    said = {
        "label": found.label.name,
        "amount": found.amount.name,
        "time": f"{time.column.name}{f' ({written})' if written else ''}",
        "id": found.id.name if found.id else "none",
        "entities": ", ".join(column.name for column in found.entities) or "none",
    }
    said |= {
        name: repr(value) for name, value in _differing(form).items() if name in ("separator", "encoding", "decimal")
    }
    return "; ".join(f"{role}: {name}" for role, name in said.items()) + "."


def _head(
    path: Path, rows: int, read: list[Column], found: Roles, found_doubts: list[Doubt], left_out: dict[str, str]
) -> list[str]:
    seen, frauds = len(found.labels), int(found.labels.sum())
    lines = [
        f"A draft, made by `manage.py schema draft` from {path.name}: {rows:,} rows"
        f"{f', of which {seen:,} were looked at (DRAFT_VALUES)' if seen < rows else ''}, {frauds:,} of them fraud "
        f"({frauds / seen:.3%}), {len(read)} columns. Read it before you rely on it.",
        *(f"DOUBT: the file: {doubt.why}." for doubt in found_doubts if not doubt.name),
    ]
    if left_out:
        lines += ["", "Left out. A column that clients do know before they ask for a score can be declared below:"]
        lines += [f"  {name}: {why}." for name, why in left_out.items()]
    return lines


def _declared(name: str, found: Roles, delay: int) -> dict[str, Any]:
    is_event = found.time.event
    declared: dict[str, Any] = {
        "title": f"Transactions of {name}",
        "time": EVENT_TIME if is_event else found.time.column.ours,
        "amount": found.amount.ours,
        "amount_decimals": fields.decimals(found.amounts),
        "label": found.label.ours,
        "past_days": PAST_DAYS,
    }
    if is_event and found.entities:
        declared |= {"label_delay_days": delay, "card": found.entities[0].ours}
    if is_event and found.time.unit:
        declared["event_time_unit"] = found.time.unit
    if is_event and found.time.format:
        declared["event_time_format"] = found.time.format
    return declared


def _differing(form: FileForm) -> dict[str, Any]:
    default = asdict(FileForm())
    return {name: value for name, value in asdict(form).items() if value != default[name]}


def _source(read: list[Column], found: Roles, proposed: Fields) -> dict[str, str]:
    """Our columns, where the file has other names."""
    named = {found.label.name, *proposed.fields, *(column.name for column in found.entities)}
    source = {column.ours: column.name for column in read if column.name in named and column.ours != column.name}
    if found.time.event:
        source |= {TRANSACTION_ID: found.id.name} if found.id else {}
        source |= {EVENT_TIME: found.time.column.name}
    return source


def _lists(read: list[Column], found: Roles, proposed: Fields, delay: int, unit: str, share: float) -> features.Tables:
    tables: features.Tables = [("feature", field) for field in proposed.fields.values()]
    if not found.time.event:
        return tables
    tables += [("point", point) for point in proposed.points]
    span = splits.span_days(found.time.moments)
    tables += features.entities(found, span, delay, share)
    tables += features.calendar(proposed) if span * DAY_S > DAY_S else []
    tables += features.of_request(read, proposed)
    tables += features.velocity(read, found, proposed, span, delay, unit)
    return features.with_own_names(tables, {column.ours for column in read})


def _config(name: str, found: Roles, delay: int) -> str:
    sections = {"split": splits.propose(found, delay), "model": {"architecture": "xgboost"}, "xgboost": QUICK}
    sections["policy"] = {"choose": "f1"}
    head = [
        f"How {name} is trained, where that differs from the defaults; see docs/hyperparameters.md. Boosted trees need "
        "no tuning to begin with; `bag` is the architecture of the networks. The review threshold balances precision "
        "and recall, for which no file is too hard; `precision`, `cost` or `alerts_per_day` choose it by your needs."
    ]
    return writing.config_text(head, sections)
