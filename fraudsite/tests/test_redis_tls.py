"""Redis and Sentinels that are reached by TLS, with certificates on both sides."""

import ipaddress
import subprocess
import time
from datetime import UTC, datetime, timedelta
from shutil import which
from unittest.mock import Mock

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from kombu import Connection
from kombu.exceptions import OperationalError

from fraudsite.testing import PROCESS_START_S, free_port
from fraudsite.tests.test_settings import read
from scoring.messages import connections
from scoring.worker import workers

pytestmark = pytest.mark.skipif(not which("redis-server"), reason="The Redis that comes as a package has no TLS.")
OURS = ("REDIS_URL", "REDIS_TIMEOUTS", "REDIS_SENTINEL_NAME", "REDIS_SENTINEL_OPTIONS", "REDIS_TLS")


def certificate(path):
    """Write a certificate for 127.0.0.1 that is signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    called = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "redis")])
    now, address = datetime.now(UTC), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(called, called, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + made.public_bytes(Encoding.PEM))
    return str(path)


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("certificate") / "redis.pem")


@pytest.fixture(scope="module")
def ports(tmp_path_factory, pem):
    """The ports of a Redis, and of the Sentinel that watches it. Both take TLS only, and want a certificate."""
    server, sentinel = free_port(), free_port()
    lines = {server: "", sentinel: f"sentinel monitor fraudsite 127.0.0.1 {server} 1\n"}
    processes = []
    for port, own in lines.items():
        directory = tmp_path_factory.mktemp("redis")
        path = directory / "redis.conf"
        tls = "".join(f"tls-{name}-file {pem}\n" for name in ("cert", "key", "ca-cert"))
        path.write_text(f"port 0\ntls-port {port}\ntls-replication yes\nbind 127.0.0.1\ndir {directory}\n{tls}{own}")
        command = ["redis-server", str(path), *(["--sentinel"] if own else [])]
        processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=directory))
    yield server, sentinel
    for process in processes:
        process.terminate()
        process.wait(timeout=PROCESS_START_S)


@pytest.fixture(params=["rediss", "sentinels"])
def site(request, ports, pem, monkeypatch, settings):
    """Gives settings to the clients of Redis, by default those that trust it. Returns the broker's client."""

    def use(**given):
        port = ports[request.param == "sentinels"]
        files = dict.fromkeys(("REDIS_TLS_CA_FILE", "REDIS_TLS_CERTIFICATE_FILE", "REDIS_TLS_KEY_FILE"), pem)
        values = read(monkeypatch, REDIS_URL=f"{request.param}://127.0.0.1:{port}/0", **(files | given))
        for name in OURS:
            setattr(settings, name, values[name])
        options = values["CELERY_BROKER_TRANSPORT_OPTIONS"]
        return Connection(values["CELERY_BROKER_URL"], ssl=values["CELERY_BROKER_USE_SSL"], transport_options=options)

    return use


def test_messages_and_all_else_go_by_tls_to_a_redis_and_by_sentinels(site):
    broker = site()
    give_up = time.monotonic() + PROCESS_START_S
    while True:
        try:
            with connections.connect() as client:
                client.delete("realtime")
            break
        except redis.RedisError:
            assert time.monotonic() < give_up
            time.sleep(0.02)
    with broker, broker.SimpleQueue("realtime") as queue:
        queue.put({"amount": 1})
        assert workers.waiting()["realtime"] == 1
        assert queue.get(timeout=5).payload == {"amount": 1}


def test_a_server_whose_certificate_is_not_trusted_gets_nothing(site, tmp_path, monkeypatch):
    monkeypatch.setattr("redis.retry.sleep", Mock(side_effect=redis.ConnectionError))  # no second attempt
    broker = site(REDIS_TLS_CA_FILE=certificate(tmp_path / "strange.pem"))
    with connections.connect(retry=None) as client, pytest.raises(redis.RedisError):
        client.ping()
    with broker, pytest.raises((redis.RedisError, OperationalError)):
        broker.transport.establish_connection()
