"""Who may do what in the admin."""

import re

import pytest
from django.conf import settings
from django.contrib.auth.models import AnonymousUser, Group, Permission, User

from fraudsite.roles import ROLES
from fraudsite.tests import matrix

pytestmark = pytest.mark.django_db


def test_every_permission_of_a_role_exists():
    known = {f"{app}.{name}" for app, name in Permission.objects.values_list("content_type__app_label", "codename")}
    assert {name for wanted in ROLES.values() for name in wanted} <= known


def test_an_auditor_changes_nothing_and_an_operator_sees_no_transactions():
    assert {name.partition(".")[2].partition("_")[0] for name in ROLES["Auditor"]} == {"view"}
    hidden = ("transaction", "prediction", "review", "label", "listentry", "personal")
    assert not {f"scoring.view_{name}" for name in hidden} & set(ROLES["Operator"])


@pytest.mark.parametrize("role", ["ML engineer", "Operator", "Auditor"])
def test_personal_values_are_not_for(role):
    assert "scoring.view_personal" not in ROLES[role]


PAGE = (settings.BASE_DIR / "docs" / "roles.md").read_text()


def test_the_page_tells_who_may_open_which_page_and_take_which_action(tmp_path):
    """It fails for a new page or action: decide who may use it, and take the table over."""
    people = []
    for role in ROLES:
        person = User.objects.create(username=role, is_staff=True)
        person.groups.add(Group.objects.get(name=role))
        people.append(person)
    found = "\n".join(matrix.rows(people, User.objects.create(username="new", is_staff=True)))
    (tmp_path / "table").write_text(found)
    told = "\n".join(line for line in PAGE.splitlines() if line.startswith("| `"))
    assert told == found, f"The table as it is now is in {tmp_path / 'table'}."


def test_nobody_opens_a_page_of_the_admin_without_signing_in():
    open_to_all = {"login", "logout", "sign_on", "sign_on_callback"}
    pages = {name: address for name, address in matrix.addresses() if address.startswith("/admin/")}
    assert {name for name, address in pages.items() if matrix.may_open(address, AnonymousUser())} == open_to_all


def test_the_page_tells_who_may_call_which_endpoint():
    endpoints = {name for name, address in matrix.addresses() if not address.startswith("/admin/")}
    told = re.findall(r"^\| ([\w\-, ]+) \| (?:an API key|anyone|staff)", PAGE, re.MULTILINE)
    assert {name for names in told for name in names.split(", ")} == endpoints
