"""Signing in through an OpenID Connect provider, which runs as a process of its own."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import expect

from fraudsite.audit.models import Entry
from fraudsite.sign_on import accounts
from fraudsite.sign_on.apps import doubtful_settings
from fraudsite.sign_on.models import Identity
from fraudsite.testing import free_port, web_server, worker_environment
from fraudsite.tests import provider as of_tests
from fraudsite.tests.test_browser import Visitor
from fraudsite.tests.test_settings import read

pytestmark = pytest.mark.django_db

BEGIN, BACK, SIGN_IN, INDEX = map(reverse, ("sign_on", "sign_on_callback", "admin:login", "admin:index"))
ANALYST = {"groups": ["analysts"]}


class Provider:
    def __init__(self, issuer: str) -> None:
        self.issuer = issuer

    def tell(self, **what) -> None:
        """What it says of people, and what it breaks, from now on."""
        httpx.post(self.issuer.removesuffix("/o") + "/told", json=what).raise_for_status()

    def visit(self, address: str, name: str = "anna") -> str:
        """Sign in there, as a browser does. Returns where the provider sends the browser back to."""
        with httpx.Client(timeout=30) as browser:
            answer = browser.get(address)
            while answer.is_redirect and answer.next_request.url.host == "127.0.0.1":
                there = answer.next_request.url
                is_form = there.path == "/accounts/login/"
                answer = browser.post(there, data={"name": name}) if is_form else browser.get(there)
        assert answer.is_redirect, answer.text
        return answer.headers["Location"]


@pytest.fixture(scope="session")
def running_provider() -> Iterator[Provider]:
    command = [sys.executable, of_tests.__file__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield Provider(process.stdout.readline().strip())
        process.send_signal(signal.SIGINT)  # so that it removes its directory


@pytest.fixture
def provider(running_provider, settings, db) -> Provider:
    settings.SSO_ISSUER = running_provider.issuer
    settings.SSO_CLIENT_ID, settings.SSO_CLIENT_SECRET = of_tests.CLIENT_ID, of_tests.SECRET
    settings.SSO_NAME = "Example Login"
    settings.SSO_ROLES = {"analysts": ["Fraud analyst"], "leads": ["Supervisor", "Auditor"], "root": ["superuser"]}
    settings.SSO_TIMEOUT_S = 20.0
    running_provider.tell(claims=ANALYST)
    return running_provider


def begin(client, after=""):
    response = client.get(BEGIN, {"next": after} if after else {})
    assert response.status_code == 302, response.content.decode()
    return response["Location"]


def sign_in(client, provider, name="anna", after=""):
    """All the way, until the page that the provider sends the browser to has answered."""
    return client.get(provider.visit(begin(client, after), name))


def forget() -> None:
    """Let the time pass for which addresses and keys of the provider are kept."""
    from fraudsite.sign_on import provider

    provider._made.cache_clear()


def words(response) -> str:
    return " ".join(response.content.decode().split())


def entries(**which):
    return list(Entry.objects.filter(**which).order_by("pk").values_list("person", "detail"))


def test_it_is_off_unless_a_provider_is_set(client):
    assert client.get(BEGIN).status_code == client.get(BACK).status_code == 404
    assert "Sign in with" not in words(client.get(SIGN_IN))


def test_the_login_page_offers_it_by_its_name_and_keeps_the_page_to_open(client, provider):
    page = words(client.get(SIGN_IN, {"next": "/dashboard/?schema=ulb"}))
    assert (
        f'<a class="button" href="{BEGIN}?next=%2Fdashboard%2F%3Fschema%3Dulb">Sign in with Example Login</a>' in page
    )
    assert "Password" in page


def test_a_new_person_gets_an_account_with_the_roles_of_the_groups(client, provider):
    provider.tell(claims=ANALYST | {"given_name": "Anna", "family_name": "Weber", "email": "anna@example.com"})
    response = sign_in(client, provider)
    assert (response.status_code, response["Location"]) == (302, INDEX)
    assert client.get(INDEX).status_code == 200
    anna = User.objects.get(username="anna")
    assert (anna.get_full_name(), anna.email) == ("Anna Weber", "")  # which the provider had not verified
    assert [group.name for group in anna.groups.all()] == ["Fraud analyst"]
    assert (anna.is_staff, anna.is_superuser, anna.has_usable_password()) == (True, False, False)
    assert Identity.objects.get().subject == "sub-of-anna"
    assert entries(action="added", object_id=str(anna.pk)) == [
        ("anna", "Made by single sign-on, for the subject sub-of-anna.")
    ]
    assert entries(action="signed_in") == [("anna", "By single sign-on.")]


def test_the_next_time_it_is_the_same_account_whatever_the_person_is_called(client, provider):
    sign_in(client, provider)
    provider.tell(claims=ANALYST | {"preferred_username": "anna.meier", "family_name": "Meier"})
    sign_in(Client(), provider)
    assert User.objects.get().username == "anna"
    assert User.objects.get().last_name == "Meier"


def test_roles_follow_the_groups_at_every_sign_in(client, provider):
    sign_in(client, provider)
    anna = User.objects.get()
    anna.groups.add(Group.objects.get(name="Administrator"))
    provider.tell(claims={"groups": ["leads", "choir"]})
    sign_in(Client(), provider)
    assert {group.name for group in anna.groups.all()} == {"Supervisor", "Auditor"}
    assert entries(action="changed", object_id=str(anna.pk))[-1] == (
        "anna",
        "Roles by single sign-on: Auditor, Supervisor. Before: Administrator, Fraud analyst.",
    )


def test_who_has_no_role_is_refused_and_loses_those_of_before(client, provider):
    sign_in(client, provider)
    provider.tell(claims={"groups": ["choir"]})
    response = sign_in(Client(), provider)
    assert response.status_code == 403
    assert "none of your groups there has a role in Fraudsite" in words(response)
    anna = User.objects.get()
    assert (anna.groups.count(), anna.is_staff) == (0, False)
    assert client.get(INDEX).status_code == 302  # the session of before opens nothing any more
    assert entries(action="refused")[-1] == ("anna", "Single sign-on: No role. Subject: sub-of-anna")


@pytest.mark.parametrize("groups", [["analysts", "root"], ["analysts"]])
def test_superuser_is_who_is_in_a_group_that_says_so(client, provider, groups):
    sign_in(client, provider)
    User.objects.update(is_superuser="root" not in groups)
    provider.tell(claims={"groups": groups})
    sign_in(Client(), provider)
    assert User.objects.get().is_superuser == ("root" in groups)


@pytest.mark.parametrize(
    ("said", "claim", "is_in"),
    [
        ({"groups": "analysts"}, "groups", True),
        ({"groups": []}, "groups", False),
        ({"groups": {"analysts": True}}, "groups", False),
        ({"groups": [None, 7, ["analysts"]]}, "groups", False),
        ({}, "groups", False),
        ({"realm_access": {"roles": ["analysts"]}}, "realm_access.roles", True),
        ({"https://example.com/roles": ["analysts"]}, "https://example.com/roles", True),
        ({"realm_access": "analysts"}, "realm_access.roles", False),
        ({"email": "analysts", "email_verified": True}, "email", True),
        ({"email": "analysts"}, "email", False),
        ({"email": "analysts", "email_verified": "true"}, "email", False),
    ],
)
def test_the_claim_with_the_groups_has_any_usual_form(client, provider, settings, said, claim, is_in):
    settings.SSO_ROLES_CLAIM = claim
    provider.tell(claims=said)
    response = sign_in(client, provider)
    assert response.status_code == (302 if is_in else 403), words(response)
    assert User.objects.filter(is_staff=True).exists() == is_in


def test_groups_that_the_token_has_not_are_asked_for(client, provider):
    provider.tell(claims={}, user_info=ANALYST)
    assert sign_in(client, provider).status_code == 302
    provider.tell(claims={}, user_info=ANALYST | {"sub": "somebody else"})
    assert sign_in(Client(), provider).status_code == 502


def test_an_account_of_the_same_name_is_not_taken_over(client, provider, alice):
    provider.tell(claims=ANALYST | {"email": "alice@example.com", "email_verified": True})
    for name in ("alice", "ALICE"):
        response = sign_in(Client(), provider, name)
        assert response.status_code == 403
        assert f"sub-of-{name}" in words(response)
    assert not Identity.objects.exists()


@pytest.mark.parametrize(
    ("said", "is_linked"),
    [
        ({"email_verified": True}, True),
        ({"email_verified": False}, False),
        ({"email_verified": "true"}, False),
        ({}, False),
    ],
)
def test_a_verified_address_links_an_account_where_that_is_allowed(client, provider, settings, alice, said, is_linked):
    settings.SSO_LINK_BY_EMAIL = True
    User.objects.update(email="Alice@example.com")
    provider.tell(claims=ANALYST | {"email": "alice@Example.com"} | said)
    sign_in(client, provider, "a.liddell")
    assert Identity.objects.filter(user=alice).exists() == is_linked


@pytest.mark.parametrize("change", [{"is_superuser": True}, {"is_active": False}])
def test_an_address_links_no_account_that_can_do_everything_or_is_deactivated(provider, settings, alice, change):
    settings.SSO_LINK_BY_EMAIL = True
    User.objects.update(email="alice@example.com", **change)
    provider.tell(claims=ANALYST | {"email": "alice@example.com", "email_verified": True})
    sign_in(Client(), provider, "alice")
    assert not Identity.objects.filter(user=alice).exists()


def test_an_administrator_links_an_account_by_hand(client, provider, ada, alice):
    client.force_login(ada)
    assert f'value="{provider.issuer}"' in words(client.get(reverse("admin:sign_on_identity_add")))
    form = {"user": alice.pk, "issuer": f"{provider.issuer}/", "subject": "sub-of-a.liddell"}
    page = client.post(reverse("admin:sign_on_identity_add"), form)
    assert page.status_code == 302, words(page)
    assert sign_in(Client(), provider, "a.liddell").status_code == 302
    assert Identity.objects.get().user == alice
    page = words(client.get(reverse("admin:sign_on_identity_changelist")))
    assert "sub-of-a.liddell" in page
    assert Entry.objects.filter(person="ada", action="added", kind="sign_on.identity").exists()


@pytest.mark.django_db(transaction=True)
def test_who_signs_in_for_the_first_time_in_several_windows_gets_one_account(provider):
    claims = ANALYST | {"iss": provider.issuer, "sub": "sub-of-anna", "preferred_username": "anna"}

    def enter(_):
        try:
            return accounts.account_of(claims).pk
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(enter, range(8)))) == 1
    assert User.objects.get().groups.get().name == "Fraud analyst"


def test_a_deactivated_account_stays_out(client, provider):
    sign_in(client, provider)
    User.objects.update(is_active=False)
    assert "deactivated" in words(sign_in(Client(), provider))


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/",
        "//evil.example/",
        "javascript:alert(1)",
        "/\\evil.example",
        "\0",
        "x" * 10_000,
        "http:///x",
    ],
)
def test_it_leads_to_pages_of_this_site_alone(client, provider, address):
    response = sign_in(client, provider, after=address)
    assert urlsplit(response["Location"]).netloc == ""
    assert response["Location"] in (INDEX, address)
    assert len(response["Location"]) < 2_001
    assert not address.startswith("/") or response["Location"] == INDEX


def test_it_leads_to_the_page_that_was_wanted(client, provider):
    assert sign_in(client, provider, after="/dashboard/?schema=ulb")["Location"] == "/dashboard/?schema=ulb"


def test_it_sends_state_nonce_and_a_challenge_that_differ_each_time(client, provider):
    first, second = (parse_qs(urlsplit(begin(client)).query) for _ in range(2))
    for name in ("state", "nonce", "code_challenge"):
        assert len(first[name][0]) >= 20
        assert first[name] != second[name]
    assert first["code_challenge_method"] == ["S256"]
    assert (first["response_type"], first["client_id"]) == (["code"], [of_tests.CLIENT_ID])


def test_an_answer_without_the_state_of_this_browser_is_refused(client, provider):
    back = provider.visit(begin(client))
    for address in (BACK, f"{BACK}?code=x", f"{BACK}?code=x&state=y", f"{BACK}?state=%00&code=%00&error=<b>"):
        response = client.get(address)
        assert (response.status_code, "Begin again" in words(response)) == (400, True)
        assert "<b>" not in words(response)
    assert Client().get(back).status_code == 400  # somebody else's browser, which was sent the address
    assert not User.objects.exists()
    assert len(entries(action="refused")) == 5


def test_a_code_is_taken_once(client, provider):
    back = provider.visit(begin(client))
    assert client.get(back).status_code == 302
    assert client.get(back).status_code == 400


def test_a_code_of_another_sign_in_is_refused(client, provider):
    """Which the challenge of PKCE and the nonce see to: a stolen code is worth nothing in another browser."""
    stolen = parse_qs(urlsplit(provider.visit(begin(client))).query)["code"][0]
    thief = Client()
    state = parse_qs(urlsplit(begin(thief)).query)["state"][0]
    response = thief.get(BACK, {"code": stolen, "state": state})
    assert (response.status_code, "_auth_user_id" in thief.session) == (400, False)


def test_who_is_refused_at_the_provider_reads_it_here(client, provider):
    state = parse_qs(urlsplit(begin(client)).query)["state"][0]
    response = client.get(BACK, {"state": state, "error": "access_denied", "error_description": "<i>No</i>"})
    assert response.status_code == 403
    assert "did not let you in" in words(response)
    assert "&lt;i&gt;No" in words(response)


HOUR = 3_600


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        ({"broken": "signature"}, 502, "was not accepted"),
        ({"broken": "unsigned"}, 502, "was not accepted"),
        ({"broken": "garbage"}, 502, "was not accepted"),
        ({"broken": "id_token"}, 502, "was not accepted"),
        ({"broken": "access_token", "claims": {}}, 502, "was not accepted"),
        ({"broken": "no JSON"}, 502, "was not accepted"),
        ({"broken": "error"}, 503, "does not answer"),
        ({"token": {"iss": "https://evil.example"}}, 502, "was not accepted"),
        ({"token": {"aud": "another-site"}}, 502, "was not accepted"),
        ({"token": {"aud": "another-site", "azp": of_tests.CLIENT_ID}}, 502, "was not accepted"),
        ({"token": {"aud": [of_tests.CLIENT_ID, "another-site"]}}, 502, "was not accepted"),
        ({"token": {"nonce": "of another sign-in"}}, 502, "was not accepted"),
        ({"token": {"nonce": None}}, 502, "was not accepted"),
        ({"without": ["sub"]}, 502, "was not accepted"),
        ({"token": {"sub": ""}}, 502, "was not accepted"),
        ({"token": {"sub": "x" * 256}}, 502, "was not accepted"),
        ({"token": {"sub": "nul\0"}}, 502, "was not accepted"),
        ({"token": {"sub": 7}}, 502, "was not accepted"),
        ({"token": {"exp": "tomorrow"}}, 502, "was not accepted"),
        ({"without": ["exp"]}, 502, "was not accepted"),
        ({"expires_s": -HOUR}, 400, "is not valid at this time"),
        ({"token": {"iat": int(time.time()) + 10 * HOUR}}, 400, "is not valid at this time"),
        ({"claims": ANALYST | {"session_expiry": 1}}, 400, "is not valid at this time"),
        ({"claims": ANALYST | {"session_expiry": "never"}}, 502, "was not accepted"),
        ({"claims": ANALYST | {"preferred_username": "no name!"}, "token": {"sub": "auth0|7"}}, 403, "no name for an"),
        ({"broken_at": {"/o/.well-known/jwks.json": "error"}}, 503, "does not answer"),
        ({"broken_at": {"/o/.well-known/jwks.json": {"keys": []}}}, 502, "was not accepted"),
        ({"broken_at": {"/o/.well-known/jwks.json": ["no", "keys"]}}, 502, "was not accepted"),
    ],
)
def test_each_fault_of_the_provider_is_a_page_that_says_so(client, provider, fault, status, said):
    forget()
    address = begin(client)
    provider.tell(**({"claims": ANALYST} | fault))
    response = client.get(provider.visit(address))
    assert (response.status_code, said in words(response)) == (status, True), words(response)
    assert "_auth_user_id" not in client.session
    assert entries(action="refused")[-1][1].startswith("Single sign-on: ")
    provider.tell(claims=ANALYST)
    assert sign_in(client, provider).status_code == 302


def test_clocks_may_differ_by_as_much_as_the_setting_says(client, provider, settings):
    settings.SSO_CLOCK_SKEW_S = 60
    provider.tell(claims=ANALYST, expires_s=-30)
    assert sign_in(client, provider).status_code == 302
    provider.tell(claims=ANALYST, expires_s=-90)
    assert sign_in(Client(), provider).status_code == 400


def test_a_key_that_the_provider_changes_is_found(client, provider):
    sign_in(client, provider)
    provider.tell(claims=ANALYST, rotate=True)
    assert sign_in(Client(), provider).status_code == 302


@pytest.mark.parametrize(
    "description",
    [["no", "object"], {"issuer": "https://evil.example"}, {"issuer": None}, {}, "no JSON", "error"],
)
def test_a_provider_that_describes_itself_wrongly_is_told(client, provider, description):
    forget()
    provider.tell(broken_at={"/o/.well-known/openid-configuration": description})
    response = client.get(BEGIN)
    assert response.status_code == (503 if description == "error" else 502)
    provider.tell(claims=ANALYST)
    assert sign_in(client, provider).status_code == 302


def test_a_provider_that_is_down_leaves_the_way_of_emergencies(client, provider, settings, ada, alice):
    settings.SSO_ISSUER = f"http://127.0.0.1:{free_port()}"
    settings.PASSWORD_SIGN_IN, settings.EMERGENCY_ACCOUNTS = "emergency", ["ada"]
    response = client.get(BEGIN)
    assert response.status_code == 503
    assert f'href="{SIGN_IN}"' in words(response)
    form = {"username": "ada", "password": "ada-password"}
    assert client.post(SIGN_IN, form).status_code == 302
    assert client.get(INDEX).status_code == 200


def test_a_provider_that_hangs_is_not_waited_for(client, provider, settings):
    address = begin(client)
    provider.tell(claims=ANALYST, late_s=5)
    back = provider.visit(address)
    settings.SSO_TIMEOUT_S = 0.3
    response = client.get(back)
    assert (response.status_code, "does not answer" in words(response)) == (503, True)


def test_passwords_can_be_for_emergency_accounts_alone(client, provider, settings, ada, alice):
    before = Client()
    before.force_login(alice)
    settings.PASSWORD_SIGN_IN, settings.EMERGENCY_ACCOUNTS = "emergency", ["ada"]
    page = client.post(SIGN_IN, {"username": "alice", "password": "alice-password"})
    assert (page.status_code, "correct username and password" in words(page)) == (200, True)
    assert entries(action="refused") == [("alice", "")]
    assert before.get(INDEX).status_code == 302  # a session that a password began ends, too
    assert "Emergency account" in words(client.get(SIGN_IN))
    assert client.post(SIGN_IN, {"username": "ada", "password": "ada-password"}).status_code == 302


def test_an_emergency_account_signs_in_with_its_password_alone(client, provider, settings, ada):
    Identity.objects.create(issuer=provider.issuer, subject="sub-of-ada", user=ada)
    settings.EMERGENCY_ACCOUNTS = ["ada"]
    assert "emergencies" in words(sign_in(client, provider, "ada"))
    assert ada.groups.get().name == "Administrator"


def test_guessing_passwords_locks_both_ways(client, provider, alice):
    Identity.objects.create(issuer=provider.issuer, subject="sub-of-alice", user=alice)
    for _ in range(6):
        client.post(SIGN_IN, {"username": "alice", "password": "guess"})
    response = sign_in(client, provider, "alice")
    assert (response.status_code, "Locked" in words(response)) == (429, True)
    assert "_auth_user_id" not in client.session


def session_ends(client) -> float:
    return Session.objects.get(pk=client.session.session_key).expire_date.timestamp()


@pytest.mark.parametrize(
    ("said", "by_token", "ends_in_s"),
    [({}, False, 8 * HOUR), ({"session_expiry": HOUR}, False, HOUR), ({"session_expiry": 99 * HOUR}, True, 300)],
)
def test_a_session_ends_when_the_setting_or_the_provider_says(client, provider, settings, said, by_token, ends_in_s):
    settings.SSO_SESSION_ENDS_WITH_TOKEN = by_token
    now = timezone.now().timestamp()
    provider.tell(claims=ANALYST | {name: int(now) + later_s for name, later_s in said.items()})
    sign_in(client, provider)
    client.get(INDEX)
    assert now + ends_in_s - 2 <= session_ends(client) <= timezone.now().timestamp() + ends_in_s
    Session.objects.update(expire_date=timezone.now())
    assert client.get(INDEX).status_code == 302


@pytest.mark.parametrize(
    ("setting", "said", "is_enough"),
    [
        ("provider", {}, True),
        ("local", {"amr": ["mfa"]}, False),
        ("claim", {"amr": ["pwd", "mfa"]}, True),
        ("claim", {"acr": "mfa"}, True),
        ("claim", {"amr": ["pwd"], "acr": "0"}, False),
        ("claim", {}, False),
        ("claim", {"acr": ["mfa"]}, False),
    ],
)
def test_the_providers_second_factor_counts_as_the_setting_says(client, provider, settings, setting, said, is_enough):
    settings.TWO_FACTOR_REQUIRED, settings.SSO_SECOND_FACTOR = True, setting
    provider.tell(claims=ANALYST | said)
    sign_in(client, provider)
    response = client.get(INDEX)
    assert response.status_code == (200 if is_enough else 302)
    assert is_enough or response["Location"] == reverse("two_factor")


def test_signing_out_ends_the_session_at_the_provider_as_well(client, provider):
    sign_in(client, provider)
    page = client.post(reverse("admin:logout"))
    assert "_auth_user_id" not in client.session
    address = page.context["provider_logout"]
    assert address.replace("&", "&amp;") in words(page)
    sent = parse_qs(urlsplit(address).query)
    assert sent.keys() == {"id_token_hint", "client_id", "post_logout_redirect_uri"}
    assert provider.visit(address) == f"http://testserver{SIGN_IN}"


def test_who_came_with_a_password_is_sent_nowhere(client, provider, alice):
    client.force_login(alice)
    assert "provider_logout" not in client.post(reverse("admin:logout")).context


def test_forms_lead_nowhere_else_still(client, provider):
    for response in (client.get(SIGN_IN), client.get(BACK), client.post(reverse("admin:logout"))):
        assert "form-action 'self'" in response["Content-Security-Policy"]


def test_the_state_is_not_taken_after_its_session_has_ended(client, provider):
    back = provider.visit(begin(client))
    client.cookies.clear()
    assert client.get(back).status_code == 400


def test_sign_ins_that_were_begun_and_not_ended_do_not_pile_up(client, provider):
    addresses = [begin(client) for _ in range(15)]
    assert len(client.session.keys()) <= 10
    assert client.get(provider.visit(addresses[0])).status_code == 400
    assert client.get(provider.visit(addresses[-1])).status_code == 302


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SSO_ISSUER", "http://login.example.com"),
        ("SSO_ISSUER", "login.example.com"),
        ("SSO_ISSUER", "https://login.example.com/?tenant=1"),
        ("SSO_ISSUER", "https://anna:secret@login.example.com"),
        ("SSO_ISSUER", "https://login.example.com/" + "x" * 300),
        ("SSO_ROLES", "analysts"),
        ("SSO_ROLES", "=Fraud analyst"),
        ("SSO_ROLES", "analysts="),
        ("SSO_ROLES", ""),
        ("SSO_CLIENT_ID", ""),
        ("SSO_SCOPES", "profile email"),
    ],
)
def test_settings_with_which_nobody_could_sign_in_are_refused_by_name(monkeypatch, variable, value):
    fit = {"SSO_ISSUER": "https://login.example.com/", "SSO_ROLES": "a=Auditor", "SSO_CLIENT_ID": "fraudsite"}
    read(monkeypatch, **fit)
    with pytest.raises(ImproperlyConfigured, match=variable):
        read(monkeypatch, **(fit | {variable: value}))


def test_passwords_are_not_switched_off_without_a_provider(monkeypatch):
    with pytest.raises(ImproperlyConfigured, match="PASSWORD_SIGN_IN"):
        read(monkeypatch, PASSWORD_SIGN_IN="emergency")


def test_groups_may_have_commas_and_equals_signs_and_give_several_roles(monkeypatch):
    values = read(monkeypatch, SSO_ROLES="cn=leads,dc=example=Supervisor; a=Auditor ;a=Operator;")
    assert values["SSO_ROLES"] == {"cn=leads,dc=example": ["Supervisor"], "a": ["Auditor", "Operator"]}


def test_a_role_that_does_not_exist_is_told_at_the_start_and_gives_nothing(client, provider, settings):
    settings.SSO_ROLES = {"analysts": ["Fraud analist"]}
    assert "Did you mean Fraud analyst?" in doubtful_settings()[0].msg
    assert sign_in(client, provider).status_code == 403


@pytest.fixture
def site_with_provider(worker, running_provider) -> Iterator[str]:
    running_provider.tell(claims=ANALYST)
    settings = {
        "SSO_ISSUER": running_provider.issuer,
        "SSO_CLIENT_ID": of_tests.CLIENT_ID,
        "SSO_CLIENT_SECRET": of_tests.SECRET,
        "SSO_NAME": "Example Login",
        "SSO_ROLES": "cn=choir,dc=example=Auditor; analysts=Fraud analyst",
        "PASSWORD_SIGN_IN": "emergency",
        "SSO_TIMEOUT_S": "20",
    }
    with web_server(worker_environment() | settings) as address:
        yield address


def test_in_a_browser_it_leads_there_and_back_and_out_again(browser, site_with_provider):
    visitor = Visitor(browser, site_with_provider)
    page = visitor.page
    page.goto(reverse("dashboard"))
    expect(page.get_by_label("Username")).to_be_hidden()  # under "Emergency account"
    page.get_by_role("link", name="Sign in with Example Login").click()
    page.locator("input[name=name]").fill("anna")
    page.get_by_role("button", name="Log in at the provider").click()
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    assert visitor.path == reverse("dashboard")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("link", name="Sign in with Example Login")).to_be_visible()
    assert visitor.complaints == []
