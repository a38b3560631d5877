"""The documentation is correct: its commands are accepted, its calls answered, its links valid."""

import json
import re
import shlex
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command, get_commands, load_command_class

PAGES = [settings.BASE_DIR / "README.md", *sorted((settings.BASE_DIR / "docs").glob("*.md"))]
# What stands for a value of the reader's own, and what a command takes in its place.
STAND_INS = {
    "ENDPOINT": "0" * 32,
    "NAME": "ulb",
    "N": "5",
    "VERSION": "a-version",
    "FILE": "a-file",
    "<client>": "Shop",
}


def commands_of(page: Path) -> list[list[str]]:
    """The arguments of every command of `manage.py` that a page names, in a block or a line of text."""
    text = page.read_text()
    found = re.findall(r"^ *(?:\S+ )*?(manage\.py [a-z_].*)$", "\n".join(blocks_of(text)), re.MULTILINE)
    found += re.findall(r"`((?:manage\.py|models) [a-z_][^`]*)`", text.replace("\n", " "))
    lines = [shlex.split(line.split(" | ")[0], comments=True) for line in found]
    return [words[1:] if words[0] == "manage.py" else words for words in lines]


def blocks_of(text: str) -> list[str]:
    fenced = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    indented = re.findall(r"^    (.+)$", text, re.MULTILINE)
    return [*(block.replace("\\\n", " ") for block in fenced), *indented]


COMMANDS = sorted({shlex.join(words) for page in PAGES for words in commands_of(page)})


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_docs_is_one_with_these_options(command):
    name, *arguments = shlex.split(command)
    arguments = [STAND_INS.get(word, word) for word in arguments]
    app = get_commands()[name]
    parser = load_command_class(app, name).create_parser("manage.py", name)
    if name == "models" and not arguments:
        arguments = ["list"]
    if arguments:
        parser.parse_args(arguments)  # text alone may name a command and leave out what it always wants


def test_the_docs_name_every_command_of_ours():
    ours = {name for name, app in get_commands().items() if app in ("fraudsite", "scoring", "training", "monitoring")}
    named = {shlex.split(command)[0] for command in COMMANDS} | {"demo"}  # which `make demo` runs
    assert ours <= named


def calls_of(page: Path) -> list[tuple[str, dict]]:
    """Address and body of each call of the demo with curl on a page, but for those with a part left out."""
    blocks = [block for block in blocks_of(page.read_text()) if "curl http" in block and "…" not in block]
    calls = []
    for block in blocks:
        words = shlex.split(block.replace("$FRAUDSITE_API_KEY", "key"))
        address = next(word for word in words if word.startswith("http"))
        calls.append((address.removeprefix("http://127.0.0.1:8000"), json.loads(words[words.index("-d") + 1])))
    return calls


CALLS = [call for page in PAGES for call in calls_of(page)]


def test_every_call_of_the_docs_is_answered_with_a_score(worker, champion, handbook_champion, acme_api, settings):
    settings.PREDICT_DEADLINE_MS = 60_000  # a worker that has just started builds its models first
    assert len(CALLS) >= 3
    for address, body in CALLS:
        response = acme_api.post(address, body, content_type="application/json")
        assert response.status_code == 200, response.content
        assert response.json()["fraud_score"] is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_between_pages_leads_to_a_page_and_a_heading(page):
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, (
                target
            )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_of_ours_that_a_page_names_is_there(page):
    named = re.findall(r"`((?:fraudsite|scoring|monitoring|training|benchmarks|docs)/[\w/.-]+\.\w+)`", page.read_text())
    assert {name for name in named if not (settings.BASE_DIR / name).exists()} == set()


def test_help_of_the_demo_is_that_of_the_readme(capsys):
    with pytest.raises(SystemExit):
        call_command("demo", "--help")
    output = capsys.readouterr().out
    readme = PAGES[0].read_text()
    [arguments] = re.findall(r'make demo ARGS="([^"]+)"', readme)
    assert all(option in output for option in re.findall(r"--[\w-]+", arguments))
