"""Settings come from the environment, are documented, and stop the process by name when they make no sense."""

import ast
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

SETTINGS = settings.BASE_DIR / "fraudsite" / "settings.py"
NUMBERS = {"integer": int, "number": float}
READERS = {"boolean", "choice", "day", "secret", "text", "texts", "url", *NUMBERS}


def variables_read() -> Iterator[tuple[str, str, list[ast.expr]]]:
    """The reader's name, the variable's, and the further arguments of every reading of the environment."""
    for node in ast.walk(ast.parse(SETTINGS.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in READERS:
            name, *others = node.args
            yield ast.unparse(node.func), ast.literal_eval(name), others


BOUNDS = {
    name: [kind(ast.literal_eval(value)) for value in others]
    for reader, name, others in variables_read()
    if (kind := NUMBERS.get(reader))
}
SWITCHES = [name for reader, name, _ in variables_read() if reader == "boolean"]
CHOICES = {
    name: ast.literal_eval(others[1])
    for reader, name, others in variables_read()
    if reader == "choice" and name != "DEFAULT_SCHEMA"  # which is the name of a file, and the page says so
}
SECRETS = [name for reader, name, _ in variables_read() if reader == "secret"]


def documented() -> dict[str, list[str]]:
    """The rows of the page's tables about the site itself: by variable, default and what it may be."""
    page, _ = (settings.BASE_DIR / "docs" / "settings.md").read_text().split("## Of single commands")
    return {name: rest.split(" | ")[:2] for name, rest in re.findall(r"^\| `(\w+)` \| (.+) \|$", page, re.MULTILINE)}


def read(monkeypatch, **environment):
    """Read the settings as a starting process does."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return runpy.run_path(str(SETTINGS))


def test_every_variable_is_documented_and_no_other():
    assert documented().keys() == {name for _, name, _ in variables_read()}


@pytest.mark.parametrize("name", BOUNDS)
def test_the_page_tells_the_default_and_the_bounds_of_a_number(name):
    default, minimum, maximum = (f"{value:,}".removesuffix(".0") for value in BOUNDS[name])
    assert documented()[name] == [default, f"{minimum} to {maximum}"]


@pytest.mark.parametrize("name", SWITCHES)
def test_the_page_tells_the_default_of_a_switch(name):
    assert documented()[name] == ["false", "a switch"]


@pytest.mark.parametrize("name", CHOICES)
def test_the_page_tells_what_may_be_chosen(name):
    assert documented()[name][1] == ", ".join(f"`{word}`" for word in CHOICES[name])


def test_the_variables_of_single_commands_are_documented():
    page = (settings.BASE_DIR / "docs" / "settings.md").read_text()
    reading = re.compile(r'(?:os\.environ\.get\(|os\.environ\[|default\()"([A-Z_]+)"')
    sources = [*settings.BASE_DIR.glob("*/management/commands/*.py"), Path(__file__).with_name("__main__.py")]
    names = {name for path in sources for name in reading.findall(path.read_text())} - {"CI"}
    assert names >= {"DEMO_PORT", "FRAUDSITE_API_KEY", "TEST_DATABASE_URL"}
    assert [name for name in names if f"`{name}`" not in page] == []


@pytest.mark.parametrize("name", BOUNDS)
def test_it_takes_the_bounds_of_a_number_and_refuses_what_lies_beyond(monkeypatch, name):
    _, minimum, maximum = BOUNDS[name]
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1/fraudsite")
    for value in (minimum, maximum):
        read(monkeypatch, **{name: str(value)})
    for value in (minimum - 1, maximum * 2, "many", "nan", "inf", "1e999", "0x10", "1_000x"):
        with pytest.raises(ImproperlyConfigured, match=name):
            read(monkeypatch, **{name: str(value)})


@pytest.mark.parametrize("name", SWITCHES)
def test_it_refuses_a_misspelt_switch(monkeypatch, name):
    with pytest.raises(ImproperlyConfigured, match=name):
        read(monkeypatch, **{name: "ture"})


@pytest.mark.parametrize("name", [*CHOICES, "DEFAULT_SCHEMA"])
def test_it_refuses_a_word_that_is_no_choice(monkeypatch, name):
    with pytest.raises(ImproperlyConfigured, match=name):
        read(monkeypatch, **{name: "perhaps"})


@pytest.mark.parametrize("name", SECRETS)
def test_it_refuses_a_short_secret_without_repeating_it(monkeypatch, name):
    with pytest.raises(ImproperlyConfigured, match=name) as refusal:
        read(monkeypatch, **{name: "hunter2"})
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("url", ["mysql://127.0.0.1/fraudsite", "fraudsite.sqlite3", "http://127.0.0.1"])
def test_it_refuses_a_database_that_it_does_not_know(monkeypatch, url):
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL"):
        read(monkeypatch, DATABASE_URL=url)


def test_a_refused_address_is_not_repeated(monkeypatch):
    with pytest.raises(ImproperlyConfigured) as refusal:
        read(monkeypatch, REDIS_URL="http://:hunter2@127.0.0.1")
    assert "hunter2" not in str(refusal.value)


def test_it_refuses_a_broker_that_is_no_redis(monkeypatch):
    with pytest.raises(ImproperlyConfigured, match="REDIS_URL"):
        read(monkeypatch, REDIS_URL="amqp://127.0.0.1")


def test_an_empty_variable_counts_as_not_set(monkeypatch):
    # With no file of settings and no directory to write to given, it would take the developer's own.
    empty = {name: "" for _, name, _ in variables_read() if name not in ("ENV_FILE", "VAR_DIR")}
    values = read(monkeypatch, **empty)
    assert values["PREDICT_DEADLINE_MS"] == BOUNDS["PREDICT_DEADLINE_MS"][0]
    assert values["DATABASES"]["default"]["ENGINE"] == "django.db.backends.sqlite3"
    assert values["REDIS_URL"] == "redis://127.0.0.1:6379/0"
    assert values["ALLOWED_HOSTS"] == ["localhost", "127.0.0.1", "[::1]"]
    assert len(values["SECRET_KEY"]) >= 32


def test_a_secret_is_drawn_once_and_only_its_owner_reads_it(monkeypatch, tmp_path):
    monkeypatch.delenv("SECRET_KEY", raising=False)
    first = read(monkeypatch, VAR_DIR=str(tmp_path))["SECRET_KEY"]
    assert read(monkeypatch)["SECRET_KEY"] == first
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"bundle_signing_key", "entity_hash_key", "secret_key"}


def test_a_file_gives_settings_and_the_environment_wins(monkeypatch, tmp_path):
    file = tmp_path / "env"
    file.write_text("RETRY_AFTER_S=7\nREASONS_PER_ALERT=7\n")
    monkeypatch.setenv("RETRY_AFTER_S", "8")
    values = read(monkeypatch, ENV_FILE=str(file), REASONS_PER_ALERT="5")
    assert (values["RETRY_AFTER_S"], values["REASONS_PER_ALERT"]) == (8, 5)


def test_with_tls_everything_is_sent_over_it_only(monkeypatch):
    values = read(monkeypatch, HTTPS="true")
    assert values["SECURE_SSL_REDIRECT"]
    assert values["SESSION_COOKIE_SECURE"]
    assert values["CSRF_COOKIE_SECURE"]
    assert values["SECURE_HSTS_SECONDS"] >= 31_536_000
