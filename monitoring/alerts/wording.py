"""What messages look like: an e-mail's text, the JSON of a webhook, the JSON of a chat. Pure."""

from collections.abc import Sequence
from typing import Any

import msgspec

Lines = Sequence[dict[str, Any]]
MARKS = {"critical": "🔴", "warning": "🟠", "info": "🔵"}
TEST_LINE = {
    "event": "test",
    "said": "A test",
    "name": "This route works",
    "severity": "info",
    "of": "",
    "value": "",
    "detail": "",
    "by": "",
    "note": "",
    "address": "",
    "runbook": "",
}


def subject(lines: Lines) -> str:
    """The subject of an e-mail: the first line, and how many more there are."""
    first, more = lines[0], count(lines) - 1
    of = f" ({first['of']})" if first["of"] else ""
    return f"[Fraudsite] {first['said']}: {first['name']}{of}" + (f", and {more} more" if more else "")


def count(lines: Lines) -> int:
    """How many alerts are told of."""
    return sum(line.get("more", 1) for line in lines)


def text(lines: Lines) -> str:
    """The text of an e-mail."""
    return "\n\n".join("\n".join(_paragraph(line)) for line in lines) + "\n"


def _paragraph(line: dict[str, Any]) -> list[str]:
    if "more" in line:
        return [f"And {line['more']} more: see the alerts in the admin."]
    head = f"{line['said']}: {line['name']}" + (f", {line['of']}" if line["of"] else "")
    parts = [f"{head} [{line['severity']}]"]
    # With its time, as a mail server that was away takes the message later.
    parts += [f"  at {line['at'][:16].replace('T', ' ')} UTC: {line['value']}"] if line["value"] else []
    parts += [f"  {line['detail']}"] if line["detail"] else []
    parts += [f"  by {line['by']}: {line['note']}".rstrip(": ")] if line["by"] else []
    parts += [f"  {line['note']}"] if line["note"] and not line["by"] else []
    parts += [f"  {line['address']}"] if line["address"] else []
    parts += [f"  what to do: {line['runbook']}"] if line["runbook"] else []
    return parts


def webhook(lines: Lines, at: str) -> str:
    """The body of a webhook: as those of clients, with the type `monitoring.alerts`."""
    alerts = [line for line in lines if "more" not in line]
    data = {"alerts": alerts, "left_out": count(lines) - len(alerts)}
    return msgspec.json.encode({"type": "monitoring.alerts", "timestamp": at, "data": data}).decode()


def chat(lines: Lines) -> str:
    """The body for an incoming webhook of a chat (https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks):
    a text, in which `&`, `<` and `>` are escaped as Slack asks for, so that no name becomes a mention or a link."""
    return msgspec.json.encode({"text": "\n".join(map(_chat_line, lines))}).decode()


def _chat_line(line: dict[str, Any]) -> str:
    if "more" in line:
        return f"And {line['more']} more."
    mark = "✅" if line["event"] == "resolved" else MARKS.get(line["severity"], "")
    name = f"<{line['address']}|{_escaped(line['name'])}>" if line["address"].startswith("http") else line["name"]
    parts = [f"{mark} *{line['said']}*: {name if line['address'].startswith('http') else _escaped(name)}"]
    parts += [_escaped(str(line[part])) for part in ("of", "value", "detail", "note") if line[part]]
    parts += [f"<{line['runbook']}|what to do>"] if line["runbook"].startswith("http") else []
    return " · ".join(parts)


def _escaped(words: str) -> str:
    return words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
