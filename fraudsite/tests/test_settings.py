"""Settings come from the environment, are documented, and stop the process by name when they make no sense."""

import ast
import os
import re
import runpy
import traceback
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from kombu import Connection as BrokerConnection
from redis import Redis

from fraudsite import env
from fraudsite.broker import SentinelChannel
from scoring.messages import connections

SETTINGS = settings.BASE_DIR / "fraudsite" / "settings.py"
NUMBERS = {"integer": int, "number": float}
OTHERS = {"boolean", "choice", "database_url", "day", "directory", "file", "pairs", "read_file", "redis_url", "secret"}
OTHERS |= {"text", "texts", "web_address"}
READERS = OTHERS | NUMBERS.keys()


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
DRAWN = [name for name in SECRETS if name != "METRICS_TOKEN"]
LONG = "abcdefgh" * 4
# What a shell, a template or an address would take for something else.
STRANGE = [f"${LONG}", f"$HOME{LONG}", f"${{HOME}}{LONG}", f"$${LONG}", rf"\${LONG}", f"#{LONG}", f"{LONG}%41'\"=#"]
PASSWORDS = [
    "hunter2?x",
    "hunter2/x",
    "12/hunter2",
    "hunter2[x",
    "hunter2]x",
    "hunter2#x",
    "hunter2@x",
    "hunter2%x",
    "hunter2;x",
]


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
    reading = re.compile(r'(?:os\.environ\.get\(|os\.environ\[|integer\(|number\()"([A-Z_]+)"')
    sources = [*settings.BASE_DIR.glob("*/management/commands/*.py"), Path(__file__).with_name("__main__.py")]
    names = {name for path in sources for name in reading.findall(path.read_text())} - {"CI"}
    assert names >= {"DEMO_PORT", "FRAUDSITE_API_KEY", "TEST_DATABASE_URL"}
    assert [name for name in (*names, *env.OF_COMMANDS) if f"`{name}`" not in page] == []
    assert names <= {*env.OF_COMMANDS, *documented()}


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
@pytest.mark.parametrize("value", ["hunter2", " " * 40, f" {LONG}", f"{LONG}\n"])
def test_it_refuses_a_secret_that_is_short_or_padded_without_repeating_it(monkeypatch, name, value):
    with pytest.raises(ImproperlyConfigured, match=name) as refusal:
        read(monkeypatch, **{name: value})
    assert value not in str(refusal.value)


@pytest.mark.parametrize("name", DRAWN)
def test_an_empty_secret_is_not_replaced_by_one_of_our_own(monkeypatch, name):
    with pytest.raises(ImproperlyConfigured, match=name):
        read(monkeypatch, **{name: ""})


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("value", STRANGE)
def test_a_secret_is_used_as_it_stands(monkeypatch, name, value):
    assert read(monkeypatch, **{name: value})[name] == value


@pytest.mark.parametrize("name", ["SECRET_KEY", "DATABASE_URL", "ALLOWED_HOSTS"])
def test_it_refuses_what_is_no_text(monkeypatch, name):
    with pytest.raises(ImproperlyConfigured, match=name):
        read(monkeypatch, **{name: LONG + "\udcff"})


@pytest.mark.parametrize(
    "url",
    [
        "mysql://127.0.0.1/fraudsite",
        "fraudsite.sqlite3",
        "http://127.0.0.1",
        "$DATABASE",
        "sqlite://",
        "sqlite:///",
        "sqlite://:memory:",
        "sqlite:////var/fraudsite.sqlite3?mode=ro",
        "postgresql://127.0.0.1",
        "postgresql://127.0.0.1/",
        "postgresql://127.0.0.1:port/fraudsite",
        "postgresql://127.0.0.1:65536/fraudsite",
        "postgresql://127.0.0.1/fraudsite?sslmdoe=require",
    ],
)
def test_it_refuses_a_database_that_it_does_not_know(monkeypatch, url):
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL"):
        read(monkeypatch, DATABASE_URL=url)


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("DATABASE_URL", "postgresql://fraudsite:{}@127.0.0.1:5432/fraudsite"),
        ("DATABASE_URL", "postgresql://fraudsite:{}@127.0.0.1/fraudsite?sslmode=require"),
        ("REDIS_URL", "redis://:{}@127.0.0.1:6379/0"),
        ("REDIS_URL", "rediss://fraudsite:{}@[::1]:6379/0"),
        ("REDIS_URL", "sentinel://:{}@10.0.0.1:26379,10.0.0.2,[::1]:26379/0"),
    ],
)
def test_a_password_that_is_no_part_of_an_address_is_refused_unseen(monkeypatch, name, url, password):
    with pytest.raises(ImproperlyConfigured, match=f"{name}.*percent-encode") as refusal:
        read(monkeypatch, **{name: url.format(password)})
    assert "hunter2" not in "".join(traceback.format_exception(refusal.value))
    read(monkeypatch, **{name: url.format(quote(password, safe=""))})


@pytest.mark.parametrize("password", [*PASSWORDS, "$hunter2", "hunter2+$!*,=&x", "hunter2:x"])
def test_a_password_in_an_address_is_used_as_it_stands(monkeypatch, password):
    written = password if password not in PASSWORDS else quote(password, safe="")
    values = read(
        monkeypatch,
        DATABASE_URL=f"postgresql://fraudsite:{written}@127.0.0.1:5433/fraudsite?sslmode=require",
        REDIS_URL=f"redis://:{written}@127.0.0.1:6379/1",
    )
    database = values["DATABASES"]["default"]
    assert {key: database[key] for key in ("NAME", "USER", "PASSWORD", "HOST", "PORT")} == {
        "NAME": "fraudsite",
        "USER": "fraudsite",
        "PASSWORD": password,
        "HOST": "127.0.0.1",
        "PORT": "5433",
    }
    assert database["OPTIONS"]["sslmode"] == "require"
    assert Redis.from_url(values["REDIS_URL"]).get_connection_kwargs()["password"] == password
    assert BrokerConnection(values["REDIS_URL"]).password == password


@pytest.mark.parametrize("password", [*PASSWORDS, "hunter2:x", "hunter2,x", ""])
def test_every_client_of_redis_knows_all_sentinels_and_their_passwords(monkeypatch, settings, password):
    url = f"sentinel://:{quote(password, safe='')}@10.0.0.1,10.0.0.2:26380,[::1]:26381/2"
    values = read(monkeypatch, REDIS_URL=url, REDIS_SENTINEL_NAME="payments", REDIS_SENTINEL_PASSWORD="hunter3")
    for name in ("REDIS_URL", "REDIS_TIMEOUTS", "REDIS_SENTINEL_NAME", "REDIS_SENTINEL_OPTIONS"):
        setattr(settings, name, values[name])
    ours = connections.connect().connection_pool
    broker = BrokerConnection(values["CELERY_BROKER_URL"], transport_options=values["CELERY_BROKER_TRANSPORT_OPTIONS"])
    channel = SentinelChannel.__new__(SentinelChannel)  # one that was opened would look for a server
    channel.connection, channel._registered = broker.transport, False
    for name, value in values["CELERY_BROKER_TRANSPORT_OPTIONS"].items():
        setattr(channel, name, value)
    for pool in (ours, channel._get_pool()):
        assert pool.service_name == "payments"
        assert (pool.connection_kwargs["db"], pool.connection_kwargs.get("password") or "") == (2, password)
        sentinels = [each.get_connection_kwargs() for each in pool.sentinel_manager.sentinels]
        assert [(each["host"], each["port"]) for each in sentinels] == [
            *(("10.0.0.1", 26379), ("10.0.0.2", 26380), ("::1", 26381)),
        ]
        assert {each["password"] for each in sentinels} == {"hunter3"}


TWO_SERVERS = "postgresql://shop:hunter2@10.0.0.1:5432,10.0.0.2:5433/fraud?target_session_attrs=read-write"


def test_of_several_servers_of_postgresql_the_one_that_takes_writes_is_used(monkeypatch):
    database = read(monkeypatch, DATABASE_URL=TWO_SERVERS, DATABASE_CONNECT_TIMEOUT_S="7")["DATABASES"]["default"]
    assert (database["HOST"], database["PORT"]) == ("10.0.0.1,10.0.0.2", "5432,5433")
    assert database["OPTIONS"]["target_session_attrs"] == "read-write"
    assert database["OPTIONS"]["connect_timeout"] == 7


def test_postgresql_is_told_when_to_end_what_nobody_waits_for_except_behind_a_pooler(monkeypatch):
    given = {"DATABASE_URL": f"{TWO_SERVERS}&options=-c%20work_mem%3D8MB", "DATABASE_IDLE_TRANSACTION_S": "9"}
    options = read(monkeypatch, **given)["DATABASES"]["default"]["OPTIONS"]["options"]
    assert "-c idle_in_transaction_session_timeout=9s" in options
    assert "-c tcp_keepalives_idle=5" in options
    assert options.endswith("-c work_mem=8MB")
    behind = read(monkeypatch, **given, DATABASE_BEHIND_POOLER="true")["DATABASES"]["default"]["OPTIONS"]["options"]
    assert behind == "-c work_mem=8MB"


@pytest.mark.parametrize("name", ["a b+c%20d", "$HOME", "what?", "#1"])
def test_the_file_of_the_database_may_have_any_name(monkeypatch, tmp_path, name):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert read(monkeypatch, VAR_DIR=str(tmp_path / name))["DATABASES"]["default"]["NAME"] == str(
        tmp_path / name / "fraudsite.sqlite3"
    )
    address = f"sqlite:///{quote(str(tmp_path / name))}"
    assert read(monkeypatch, DATABASE_URL=address)["DATABASES"]["default"]["NAME"] == str(tmp_path / name)


@pytest.mark.parametrize(
    "url",
    [
        "amqp://127.0.0.1",
        "redis://127.0.0.1/main",
        "redis://127.0.0.1:0/0",
        "redis://a:b:c/0",
        "redis://a,b/0",
        "sentinel://a,b/main",
        "sentinels://a,b/main",
        "rediss://a,b/0",
        "sentinel://",
        "sentinels:///0",
        "sentinel://a,,b/0",
        "sentinel://:secret@/0",
    ],
)
def test_it_refuses_a_broker_that_is_no_redis(monkeypatch, url):
    with pytest.raises(ImproperlyConfigured, match="REDIS_URL"):
        read(monkeypatch, REDIS_URL=url)


def test_it_refuses_a_key_of_a_stream_that_there_is_not(monkeypatch):
    with pytest.raises(ImproperlyConfigured, match="STREAM_KEYS has orders, which STREAMS does not have"):
        read(monkeypatch, STREAMS="payments=Acme", STREAM_KEYS="orders=the stream")


def test_it_refuses_a_file_that_is_not_there(monkeypatch):
    with pytest.raises(ImproperlyConfigured, match="REDIS_TLS_CA_FILE: there is no file"):
        read(monkeypatch, REDIS_TLS_CA_FILE="/nowhere.pem")


@pytest.mark.parametrize("name", ["REDIS_TLS_CA_FILE", "REDIS_TLS_CERTIFICATE_FILE", "REDIS_TLS_KEY_FILE"])
@pytest.mark.parametrize("url", ["redis://127.0.0.1/0", "sentinel://a,b/0"])
def test_it_refuses_a_file_for_tls_where_redis_is_called_without(monkeypatch, name, url):
    with pytest.raises(ImproperlyConfigured, match="REDIS_URL has none: write rediss://"):
        read(monkeypatch, REDIS_URL=url, **{name: __file__})


def test_it_refuses_a_directory_that_cannot_be_one(monkeypatch, tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(ImproperlyConfigured, match="VAR_DIR"):
        read(monkeypatch, VAR_DIR=str(tmp_path / "taken"))


def test_an_empty_variable_counts_as_not_set(monkeypatch):
    # With no file of settings and no directory to write to given, it would take the developer's own.
    kept = {"ENV_FILE", "VAR_DIR", *DRAWN}
    values = read(monkeypatch, **{name: "" for _, name, _ in variables_read() if name not in kept})
    assert values["PREDICT_DEADLINE_MS"] == BOUNDS["PREDICT_DEADLINE_MS"][0]
    assert values["DATABASES"]["default"]["ENGINE"] == "django.db.backends.sqlite3"
    assert values["REDIS_URL"] == "redis://127.0.0.1:6379/0"
    assert values["ALLOWED_HOSTS"] == ["localhost", "127.0.0.1", "[::1]"]
    assert values["METRICS_TOKEN"] == ""


def test_a_secret_is_drawn_once_and_only_its_owner_reads_it(monkeypatch, tmp_path):
    monkeypatch.delenv("SECRET_KEY", raising=False)
    first = read(monkeypatch, VAR_DIR=str(tmp_path))["SECRET_KEY"]
    assert read(monkeypatch)["SECRET_KEY"] == first
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600
    drawn = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert drawn == {"bundle_signing_key", "entity_hash_key", "secret_key"}


def test_a_schema_of_ones_own_may_be_the_default(monkeypatch, tmp_path):
    (tmp_path / "shop.toml").touch()
    monkeypatch.setenv("SCHEMAS_DIR", str(tmp_path))
    assert set(read(monkeypatch, DEFAULT_SCHEMA="shop")["SCHEMAS"]) >= {"handbook", "shop", "ulb"}
    with pytest.raises(ImproperlyConfigured, match="Did you mean shop"):
        read(monkeypatch, DEFAULT_SCHEMA="shopp")


@pytest.mark.parametrize("name", DRAWN)
def test_a_secret_that_was_lost_from_its_file_is_not_replaced(monkeypatch, tmp_path, name):
    read(monkeypatch, VAR_DIR=str(tmp_path))
    (tmp_path / name.lower()).write_text("")
    with pytest.raises(ImproperlyConfigured, match=name):
        read(monkeypatch)


@pytest.fixture
def file(monkeypatch, tmp_path):
    """The file of settings; what it sets is forgotten again."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setenv("ENV_FILE", str(tmp_path / "env"))
    return tmp_path / "env"


def test_a_file_gives_settings_and_the_environment_wins(monkeypatch, file):
    file.write_text("RETRY_AFTER_S=7\nREASONS_PER_ALERT=7\n")
    values = read(monkeypatch, REASONS_PER_ALERT="5")
    assert (values["RETRY_AFTER_S"], values["REASONS_PER_ALERT"]) == (7, 5)


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfRETRY_AFTER_S=7\nREASONS_PER_ALERT=5",
        b"RETRY_AFTER_S=7\r\nREASONS_PER_ALERT=5\r\n",
        b"RETRY_AFTER_S=7\rREASONS_PER_ALERT=5\r",
        b"  # A comment.\n\n export  RETRY_AFTER_S=7 \n\tREASONS_PER_ALERT = 5\n",
        b"RETRY_AFTER_S='7' # seconds\nREASONS_PER_ALERT=\"5\"\t# fields",
    ],
)
def test_no_line_of_a_file_is_lost(monkeypatch, file, content):
    file.write_bytes(content)
    values = read(monkeypatch)
    assert (values["RETRY_AFTER_S"], values["REASONS_PER_ALERT"]) == (7, 5)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *((value, value) for value in STRANGE),
        (f"'{LONG} #\\$\"'", f'{LONG} #\\$"'),
        (f'"{LONG} #$\'"', f"{LONG} #$'"),
        (f"{LONG}=\u2028\x85ü", f"{LONG}=\u2028\x85ü"),
    ],
)
def test_a_secret_in_a_file_is_used_as_it_stands(monkeypatch, file, written, value):
    file.write_text(f"SECRET_KEY={written}\n", encoding="utf-8")
    assert read(monkeypatch)["SECRET_KEY"] == value


@pytest.mark.parametrize(
    "line",
    [
        "hunter2",
        "SECRET_KEY hunter2",
        "SECRET_KEY: hunter2",
        "SECRET-KEY=hunter2",
        "2SECRET_KEY=hunter2",
        "=hunter2",
        "export SECRET_KEY",
        "SECRET_KEY='hunter2",
        "SECRET_KEY=hunter2 # a comment",
        "SECRET_KEY= # hunter2",
        "SECRET_KEY='hunter2' more",
        'SECRET_KEY="hunter2\\n"',
        "SECRET_KEY=hunter2\0",
        "RETRY_AFTER_S=hunter2",
    ],
)
def test_a_line_that_cannot_be_read_is_refused_by_its_number_and_not_repeated(monkeypatch, file, line):
    file.write_text(f"RETRY_AFTER_S=7\n{line}\n")
    with pytest.raises(ImproperlyConfigured, match=r"ENV_FILE: .*, line 2") as refusal:
        read(monkeypatch)
    assert "hunter2" not in str(refusal.value)


def test_a_misspelt_name_in_a_file_is_refused_and_the_names_of_others_are_not(monkeypatch, file):
    file.write_text("SITE_HOST=localhost\nPOSTGRES_PASSWORD=hunter2\nDEMO_PORT=8001\nRETRY_AFTERS_S=7\n")
    with pytest.raises(ImproperlyConfigured, match="no setting RETRY_AFTERS_S") as refusal:
        read(monkeypatch)
    assert str(refusal.value).count("There is no setting") == 1
    assert "Did you mean RETRY_AFTER_S?" in str(refusal.value)


@pytest.mark.parametrize("content", [None, "directory", "RETRY_AFTER_S=7\n".encode("utf-16"), b"SITE_HOST=\xfc\n"])
def test_a_file_that_cannot_be_read_is_refused(monkeypatch, file, content):
    if content == "directory":
        file.mkdir()
    elif content:
        file.write_bytes(content)
    with pytest.raises(ImproperlyConfigured, match="ENV_FILE"):
        read(monkeypatch)


def test_with_tls_everything_is_sent_over_it_only(monkeypatch):
    values = read(monkeypatch, HTTPS="true")
    assert values["SECURE_SSL_REDIRECT"]
    assert values["SESSION_COOKIE_SECURE"]
    assert values["CSRF_COOKIE_SECURE"]
    assert values["SECURE_HSTS_SECONDS"] >= 31_536_000


@pytest.mark.parametrize(
    "value", ["payments", "payments=", "=Acme", "payments=Acme,payments=Globex", "payments=Acme,x"]
)
def test_it_refuses_streams_that_name_no_client_or_two(monkeypatch, value):
    with pytest.raises(ImproperlyConfigured, match="STREAMS"):
        read(monkeypatch, STREAMS=value)


def test_it_takes_streams_with_their_clients(monkeypatch):
    found = read(monkeypatch, STREAMS="payments=Acme, orders = Globex Ltd")
    assert found["STREAMS"] == {"payments": "Acme", "orders": "Globex Ltd"}
    assert read(monkeypatch, STREAMS="")["STREAMS"] == {}
