"""Webhooks go to public addresses only, whatever a name resolves to, and whenever."""

import asyncio
import socket
import ssl
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpcore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fraudsite.testing import PROCESS_START_S
from scoring.tests.receivers import receiving
from scoring.webhooks import targets

PUBLIC = ["93.184.215.14", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::101:101", "2002:101:101::1"]
INSIDE = [
    "0.0.0.0",  # noqa: S104  # as somebody might enter it
    "127.0.0.1",
    "127.8.8.8",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",  # of carriers; also metadata of Alibaba at 100.100.100.200
    "100.100.100.200",
    "169.254.169.254",  # metadata of most clouds
    "168.63.129.16",  # and of Azure
    "192.0.0.192",  # and of Oracle
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::1",
    "2001::1",  # Teredo
    "2001:db8::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_it_is_public(address):
    assert targets.is_public(ip_address(address))


@pytest.mark.parametrize("address", INSIDE)
def test_it_is_not_public(address):
    assert not targets.is_public(ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://",
        "https:///path",
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://user:password@example.com/",
        "https://example.com/#fragment",
        "https://example.com:99999/",
        "https://[::1/",
        "https://example.com:0/",
        "https://localhost/",
        "https://localhost./",
        "https://shop.localhost/",
        "https://printer.local/",
        "https://metadata.google.internal/",
        "https://intranet/",
        "https://2130706433/",
        "https://127.1/",
        "https://0177.0.0.1/",
        "https://0x7f.0.0.0x1/",
        "https://127.0.0.1/",
        "https://[::ffff:10.0.0.1]/",
        "https://exa mple.com/",
        "https://example.com/\0",
        "https://example.com/\r\nHost: inside",
        "https://b\u00fccher.example/",
        "https://" + "a." * 400 + "example/",
        "https://" + "a" * 64 + ".example/",
    ],
)
def test_a_url_is_refused(url):
    with pytest.raises(targets.TargetRefused):
        targets.check_url(url)


@pytest.mark.parametrize(
    "url", ["https://hooks.example.com:8443/fraud?shop=1", "HTTPS://1.SHOP.XN--P1AI./", "https://local.localities"]
)
def test_a_url_is_accepted(url):
    targets.check_url(url)


class Names:
    """The servers of names: what each look-up gives, the last for ever."""

    def __init__(self, monkeypatch, *answers):
        self.answers = list(answers)
        self.asked = 0
        monkeypatch.setattr(socket, "getaddrinfo", self.look_up)

    def look_up(self, host, port, *_, **__):
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        family = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [
            (family[ip_address(one).version], socket.SOCK_STREAM, 6, "", (one, port, *([0, 0] * (":" in one))))
            for one in answer
        ]


class Recorded(targets.PublicNetwork):
    """Notes to which addresses connections are made, and makes none."""

    def __init__(self):
        super().__init__()
        self.connected = []
        self._network = self

    async def connect_tcp(self, host, *arguments, **options):
        if isinstance(host, str) and host.endswith(".example"):
            return await super().connect_tcp(host, *arguments, **options)
        self.connected.append(host)
        raise httpcore.ConnectError("refused")


def post(url, network):
    async def call():
        async with httpcore.AsyncConnectionPool(network_backend=network) as pool:
            await pool.request("POST", url)

    asyncio.run(call())


def test_a_name_is_looked_up_once_for_a_connection_and_the_connection_goes_there(monkeypatch):
    names, network = Names(monkeypatch, ["93.184.215.14"], ["127.0.0.1"]), Recorded()
    with pytest.raises(httpcore.ConnectError):
        post("https://rebound.example/", network)
    assert network.connected == ["93.184.215.14"]
    assert names.asked == 1
    with pytest.raises(targets.TargetRefused):
        post("https://rebound.example/", network)
    assert network.connected == ["93.184.215.14"], "the next connection looks again, and is refused"


@pytest.mark.parametrize("addresses", [["93.184.215.14", "10.0.0.1"], ["2606:4700::1", "fe80::1"], ["169.254.169.254"]])
def test_one_inside_address_of_a_name_refuses_it(monkeypatch, addresses):
    Names(monkeypatch, addresses)
    network = Recorded()
    with pytest.raises(targets.TargetRefused):
        post("https://mixed.example/", network)
    assert network.connected == []


def test_each_address_of_a_name_is_tried(monkeypatch):
    Names(monkeypatch, ["93.184.215.14", "1.1.1.1"])
    network = Recorded()
    with pytest.raises(httpcore.ConnectError):
        post("https://two.example/", network)
    assert network.connected == ["93.184.215.14", "1.1.1.1"]


def test_calls_to_a_name_whose_servers_do_not_answer_wait_for_one_look_up(monkeypatch):
    names, network, answered = Names(monkeypatch, ["93.184.215.14"]), Recorded(), threading.Event()
    look_up = names.look_up

    def slowly(*arguments, **options):
        answered.wait(PROCESS_START_S)
        return look_up(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)

    async def connect(seconds):
        async with asyncio.timeout(seconds):
            await network.connect_tcp("dead.example", 443)

    async def call():
        for _ in range(2):
            gave_up = await asyncio.gather(*(connect(0.01) for _ in range(20)), return_exceptions=True)
            assert all(isinstance(each, TimeoutError) for each in gave_up)
        waiting = asyncio.create_task(connect(PROCESS_START_S))
        await asyncio.sleep(0)
        answered.set()
        with pytest.raises(httpcore.ConnectError):
            await waiting

    asyncio.run(call())
    assert names.asked == 1
    assert network.connected == ["93.184.215.14"]
    with pytest.raises(httpcore.ConnectError):
        post("https://dead.example/", network)
    assert names.asked == 2, "what was found is not kept"


@pytest.mark.parametrize("spelling", ["2130706433", "0x7f.1", "127.1", "017700000001", "0"])
def test_no_spelling_of_an_inside_address_gets_through(spelling):
    with receiving() as receiver:
        port = receiver.url.rpartition(":")[2].partition("/")[0]
        with pytest.raises((targets.TargetRefused, httpcore.ConnectError)):
            post(f"http://{spelling}:{port}/", targets.PublicNetwork())
        assert receiver.calls == []


@contextmanager
def server_of(name, tmp_path):
    """A server with TLS on the loopback address, with a certificate for a name. Gives its port, and what trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    called = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(called, called, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, SHA256())
    )
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    with receiving(tls=context) as receiver:
        trusting = ssl.create_default_context(cadata=certificate.public_bytes(Encoding.PEM).decode())
        yield receiver, urlsplit(receiver.url).port, trusting


def test_tls_asks_for_the_certificate_of_the_name_though_the_address_is_pinned(monkeypatch, settings, tmp_path):
    settings.WEBHOOK_PRIVATE_TARGETS = True
    Names(monkeypatch, ["127.0.0.1"])
    with server_of("hooks.example", tmp_path) as (receiver, port, trusting):

        async def call(name):
            network = targets.PublicNetwork()
            async with httpcore.AsyncConnectionPool(ssl_context=trusting, network_backend=network) as pool:
                return (await pool.request("POST", f"https://{name}:{port}/", content=b"{}")).status

        assert asyncio.run(call("hooks.example")) == 204
        with pytest.raises(httpcore.ConnectError, match="certificate"):
            asyncio.run(call("other.example"))
        assert len(receiver.calls) == 1
