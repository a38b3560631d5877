"""Who may do what in the admin."""

import pytest
from django.contrib.auth.models import Permission

from fraudsite.roles import ROLES

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
