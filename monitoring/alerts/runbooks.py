"""The runbook: docs/runbooks.md, which has a section for each measure, as pages show it."""

import re
from functools import cache
from pathlib import Path

from django.conf import settings
from markdown_it import MarkdownIt

PAGE = Path("docs", "runbooks.md")
# A heading of a measure ends with its name: "## Silence of a client (`client_silence`)".
HEADING = re.compile(r"^## .*\(`(?P<measure>\w+)`\)$", re.MULTILINE)


@cache
def sections() -> dict[str, str]:
    """The Markdown of each measure's section, without its heading."""
    text = (settings.BASE_DIR / PAGE).read_text()
    found = list(HEADING.finditer(text))
    ends = [*(each.start() for each in found[1:]), len(text)]
    return {each["measure"]: text[each.end() : end].strip() for each, end in zip(found, ends, strict=True)}


@cache
def section(measure: str) -> str:
    """The HTML of a measure's section; empty if it has none."""
    return shown(sections().get(measure, ""))


def shown(text: str) -> str:
    """Markdown as HTML. Raw HTML in it is escaped, and links between pages of the documentation are left out, as the
    site has none of them."""
    without_links = re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]+\)", r"\1", text)
    return str(MarkdownIt("commonmark", {"html": False}).enable("table").render(without_links))
