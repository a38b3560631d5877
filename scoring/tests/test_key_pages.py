"""Keys in the admin and by command: made with what was chosen, shown once, replaced, revoked."""

import re
import threading
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from scoring.clients import keys
from scoring.clients.models import all_scopes
from scoring.exceptions import TooManyKeys
from scoring.models import ApiKey, Client

pytestmark = pytest.mark.django_db

ADD = "/admin/scoring/apikey/add/"
LIST = "/admin/scoring/apikey/"


@pytest.fixture
def otto_there(client, otto):
    client.force_login(otto)
    return client


def form(of, **changes):
    values = {"client": of.pk, "name": "", "scopes": all_scopes(), "networks": ""}
    return values | {"expires_at_0": "", "expires_at_1": ""} | changes


def shown_key(response):
    [key] = re.findall(r"<code[^>]*>(fs_[\w-]+)</code>", response.content.decode())
    return key


def errors_of(response):
    return " ".join(re.findall(r'<ul class="errorlist[^>]*>(.*?)</ul>', response.content.decode(), re.DOTALL))


def test_an_operator_makes_a_key_that_is_shown_once(otto_there, acme):
    response = otto_there.post(ADD, form(acme))
    key = shown_key(response)
    assert "no-store" in response["Cache-Control"]
    assert ApiKey.objects.get().digest == ApiKey.digest_of(key)
    for page in (LIST, f"{LIST}{ApiKey.objects.get().pk}/change/"):
        assert key not in otto_there.get(page).content.decode()
    assert not any(key in str(value) for value in ApiKey.objects.values().get().values())


def test_the_form_says_what_the_key_may(otto_there, acme):
    chosen = {"scopes": ["read", "labels"], "schemas": ["ulb"], "networks": "192.0.2.0/24\n ::ffff:198.51.100.7,"}
    limits = {"calls_per_s": 5, "calls_burst": 7, "rows_per_s": "", "transactions_per_day": 0}
    until = {"expires_at_0": f"{timezone.now() + timedelta(days=30):%Y-%m-%d}", "expires_at_1": "12:00:00"}
    shown_key(otto_there.post(ADD, form(acme, name="Nightly job", **chosen, **limits, **until)))
    row = ApiKey.objects.get()
    assert (row.client, row.name, row.scopes, row.schemas) == (acme, "Nightly job", ["read", "labels"], ["ulb"])
    assert row.networks == ["192.0.2.0/24", "198.51.100.7/32"]
    assert (row.calls_per_s, row.calls_burst, row.rows_per_s, row.transactions_per_day) == (5, 7, None, 0)
    assert row.expires_at.hour == 12


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"networks": "10.0.0.1/8"}, "write 10.0.0.0/8, or 10.0.0.1 alone"),
        ({"networks": "nowhere 192.0.2.0/24 300.1.1.1"}, "“nowhere” is no network"),
        ({"networks": "x" * 10_000}, "is no network"),
        ({"networks": "192.0.2.0/33"}, "is no network"),
        ({"scopes": []}, "at least one scope"),
        ({"scopes": ["everything"]}, "everything is not one of the available choices"),
        ({"schemas": ["other"]}, "other is not one of the available choices"),
        ({"expires_at_0": "2020-01-01", "expires_at_1": "00:00:00"}, "Choose a time to come"),
        ({"calls_per_s": "-1"}, "greater than or equal to 0"),
        ({"calls_burst": "0"}, "greater than or equal to 1"),
        ({"rows_per_s": "9" * 30}, "less than or equal to"),
        ({"name": "x" * 101}, "at most 100 characters"),
        ({"name": "a\0b"}, "Null characters are not allowed"),
        ({"client": "999999"}, "valid choice"),
    ],
)
def test_what_no_key_can_have_is_refused_with_the_remedy(otto_there, acme, changes, told):
    response = otto_there.post(ADD, form(acme, **changes))
    assert response.status_code == 200
    assert told in errors_of(response).replace("&#x27;", "'")
    assert not ApiKey.objects.exists()


def test_a_third_active_key_of_a_name_is_refused_and_one_of_another_name_is_not(otto_there, acme):
    for _ in range(2):
        keys.create(client=acme, name="shop")
    refused = otto_there.post(ADD, form(acme, name="shop"))
    assert "two active keys of one name" in errors_of(refused)
    shown_key(otto_there.post(ADD, form(acme, name="job")))
    assert acme.keys.count() == 3


def test_expired_and_revoked_keys_make_room(acme):
    keys.create(client=acme, expires_at=timezone.now() - timedelta(seconds=1))
    second, _ = keys.create(client=acme)
    keys.revoke(key=second)
    for _ in range(2):
        keys.create(client=acme)
    with pytest.raises(TooManyKeys):
        keys.create(client=acme)


@pytest.mark.django_db(transaction=True)
def test_keys_made_at_once_are_never_three(acme):
    made, refused = [], []

    def make():
        try:
            made.append(keys.create(client=acme))
        except TooManyKeys:
            refused.append(1)
        finally:
            connection.close()

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(refused), acme.keys.count()) == (2, 4, 2)


def test_the_action_on_a_client_opens_the_form(otto_there, acme, globex):
    address = reverse("admin:scoring_client_changelist")
    one = otto_there.post(address, {"action": "create_key", "_selected_action": [acme.pk]})
    assert one["Location"] == f"{ADD}?client={acme.pk}"
    assert f'<option value="{acme.pk}" selected>' in otto_there.get(one["Location"]).content.decode()
    two = otto_there.post(address, {"action": "create_key", "_selected_action": [acme.pk, globex.pk]}, follow=True)
    assert "Choose one client" in two.content.decode()


def test_a_key_is_changed_and_the_change_is_on_record(otto_there, acme):
    row, _ = keys.create(client=acme, networks=["192.0.2.0/24"])
    address = f"{LIST}{row.pk}/change/"
    assert "192.0.2.0/24" in otto_there.get(address).content.decode()
    assert otto_there.post(address, form(acme, scopes=["read"], networks="198.51.100.0/24")).status_code == 302
    row.refresh_from_db()
    assert (row.scopes, row.networks) == (["read"], ["198.51.100.0/24"])
    assert "Changed" in otto_there.get(f"{LIST}{row.pk}/history/").content.decode()


def test_a_revoked_key_is_not_changed(otto_there, acme):
    row, _ = keys.create(client=acme)
    keys.revoke(key=row)
    assert otto_there.post(f"{LIST}{row.pk}/change/", form(acme, scopes=["read"])).status_code == 403
    assert otto_there.get(f"{LIST}{row.pk}/rotate/").status_code == 404
    with pytest.raises(CommandError, match="revoked"):
        call_command("api_keys", "rotate", row.prefix)


def test_the_list_shows_what_may_be_done_until_when_and_the_last_use(otto_there, acme, settings):
    settings.KEY_EXPIRY_WARNING_DAYS = 14
    now = timezone.now()
    keys.create(client=acme, name="shop", scopes=["read"], schemas=["ulb"], expires_at=now + timedelta(days=5, hours=1))
    keys.create(client=acme, name="job", expires_at=now + timedelta(days=40, hours=1))
    keys.create(client=acme, name="old", expires_at=now - timedelta(days=1))
    ApiKey.objects.filter(name="shop").update(last_used_at=now - timedelta(minutes=3))
    page = otto_there.get(LIST).content.decode()
    rows = {row: page[page.index(f">{row}<") :].partition("</tr>")[0] for row in ("shop", "job", "old")}
    assert 'due late"' in rows["shop"]
    assert "in 5 days" in rows["shop"]
    assert "3 min ago" in rows["shop"]
    assert "Rotate" in rows["shop"]
    assert 'due late"' not in rows["job"]
    assert "in 40 days" in rows["job"]
    assert "never" in rows["job"]
    assert "expired" in rows["old"]
    assert "ulb" in page[: page.index("in 5 days")]
    active = otto_there.get(f"{LIST}?state=active").content.decode()
    assert ">old<" not in active
    assert ">old<" in otto_there.get(f"{LIST}?state=expired").content.decode()


def test_a_key_is_rotated_and_the_old_one_goes_on(otto_there, acme):
    limits = {"calls_per_s": 5, "transactions_per_day": 9}
    made_at = timezone.now() - timedelta(days=80)
    row, _ = keys.create(
        client=acme,
        name="shop",
        scopes=["read"],
        schemas=["ulb"],
        networks=["192.0.2.0/24"],
        created_at=made_at,
        expires_at=made_at + timedelta(days=90),
        **limits,
    )
    address = f"{LIST}{row.pk}/rotate/"
    assert "goes on working until you revoke it" in otto_there.get(address).content.decode()
    assert ApiKey.objects.count() == 1, "looking makes none"
    key = shown_key(otto_there.post(address))
    new = ApiKey.objects.get(digest=ApiKey.digest_of(key))
    same = ("client", "name", "scopes", "schemas", "networks", "calls_per_s", "rows_per_s", "transactions_per_day")
    assert [getattr(new, name) for name in same] == [getattr(row, name) for name in same]
    assert abs(new.expires_at - timezone.now() - timedelta(days=90)) < timedelta(minutes=5)
    assert not ApiKey.objects.get(pk=row.pk).revoked_at
    refused = otto_there.post(address, follow=True)
    assert "two active keys of one name" in refused.content.decode()
    assert ApiKey.objects.count() == 2


def test_those_who_may_make_no_keys_neither_see_the_form_nor_rotate(client, mel, acme):
    client.force_login(mel)
    row, _ = keys.create(client=acme)
    assert client.get(ADD).status_code == 403
    assert client.post(f"{LIST}{row.pk}/rotate/").status_code == 403
    assert ApiKey.objects.count() == 1


def test_a_script_in_a_name_is_shown_as_text(otto_there, acme):
    row, _ = keys.create(client=acme, name="<script>alert(1)</script>")
    for address in (LIST, f"{LIST}{row.pk}/change/", f"{LIST}{row.pk}/rotate/"):
        assert "<script>alert(1)" not in otto_there.get(address).content.decode()


def run(capsys, *arguments):
    call_command(*arguments)
    return capsys.readouterr().out


def test_a_command_makes_a_key_with_its_options(capsys):
    options = ["--name", "job", "--scopes", "read,labels", "--schemas", "ulb", "--networks", "192.0.2.0/24"]
    options += ["--expires", "90d", "--calls-per-s", "5", "--transactions-per-day", "100"]
    key = run(capsys, "create_api_key", "Acme", *options).strip()
    row = ApiKey.objects.get(digest=ApiKey.digest_of(key))
    assert (row.client.name, row.name, row.scopes, row.schemas) == ("Acme", "job", ["read", "labels"], ["ulb"])
    assert (row.networks, row.calls_per_s, row.transactions_per_day) == (["192.0.2.0/24"], 5, 100)
    assert timedelta(days=89) < row.expires_at - timezone.now() < timedelta(days=91)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--scopes", "reed"], "--scopes: there is no reed. Did you mean read"),
        (["--schemas", "zzz"], "--schemas: there is no zzz. Known: "),
        (["--networks", "10.0.0.1/8"], "--networks: “10.0.0.1/8” has bits behind its prefix"),
        (["--networks", ","], "--networks names none"),
        (["--scopes", " , "], "--scopes names none"),
        (["--expires", "soon"], "--expires takes a day"),
        (["--expires", "0d"], "--expires takes a day"),
        (["--expires", "2020-01-01"], "this day is over"),
        (["--calls-burst", "0"], "--calls-burst takes a whole number from 1"),
        (["--rows-per-s", "-1"], "--rows-per-s takes a whole number from 0"),
        (["--name", "x" * 101], "at most 100 characters"),
    ],
)
def test_a_command_refuses_what_no_key_can_have_and_makes_nothing(options, told):
    with pytest.raises(CommandError) as refusal:
        call_command("create_api_key", "Acme", *options)
    assert told in str(refusal.value)
    assert not Client.objects.exists()


def test_commands_show_rotate_and_revoke_keys(capsys, acme, globex):
    row, _ = keys.create(client=acme, name="shop", scopes=["read"], expires_at=timezone.now() + timedelta(days=2))
    other, _ = keys.create(client=globex)
    keys.revoke(key=other)
    shown = run(capsys, "api_keys", "show")
    assert re.search(rf"{row.prefix}…  Acme +shop +active +.*\(soon\) +never +read", shown)
    assert "Globex" not in shown
    assert "revoked" in run(capsys, "api_keys", "show", "--all", "--client", "Globex")
    new = run(capsys, "api_keys", "rotate", row.prefix).strip()
    assert ApiKey.objects.get(digest=ApiKey.digest_of(new)).scopes == ["read"]
    assert "within a second" in run(capsys, "api_keys", "revoke", f"{row.prefix}…")
    row.refresh_from_db()
    assert row.revoked_at
    for arguments in (["revoke", "fs_nobody"], ["rotate", ""], ["show", "--client", "Nobody"]):
        with pytest.raises(CommandError, match="There is no"):
            call_command("api_keys", *arguments)


@pytest.mark.parametrize("is_test", [False, True])
def test_a_key_is_revoked_by_its_beginning_or_by_all_of_it(acme, is_test):
    for cut in (slice(None), slice(0, 12 if is_test else 9)):
        row, key = keys.create(client=acme, is_test=is_test)
        call_command("api_keys", "revoke", key[cut])
        row.refresh_from_db()
        assert row.revoked_at


def test_the_audit_trail_tells_who_made_and_revoked_a_key(otto_there, acme):
    from fraudsite.audit.models import Entry

    shown_key(otto_there.post(ADD, form(acme)))
    row = ApiKey.objects.get()
    otto_there.post(LIST, {"action": "revoke", "_selected_action": [row.pk]})
    second, _ = keys.create(client=acme)
    call_command("api_keys", "revoke", second.prefix)
    said = [(entry.action, entry.object_id) for entry in Entry.objects.filter(kind="scoring.apikey")]
    assert ("added", str(row.pk)) in said
    assert said.count(("changed", str(row.pk))) == 1
    assert said.count(("changed", str(second.pk))) == 1
