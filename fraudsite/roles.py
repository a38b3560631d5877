"""The roles in the admin and their permissions. Every `migrate` updates their groups.

docs/roles.md tells people who may do what.
"""

from typing import Any

from django.contrib.auth.models import Group, Permission

VIEW_SCORING = [
    f"scoring.view_{model}"
    for model in (
        *("client", "apikey", "transaction", "prediction", "fallback", "pending", "review", "label"),
        *("policyversion", "backtest", "policylist", "reviewreason", "reviewqueue"),
    )
]
VIEW_MODELS = [
    *(f"training.view_{model}" for model in ("modelversion", "trainingrun", "schemaversion", "exchangerate")),
    "monitoring.view_driftreport",
]
VIEW_ALL = [*VIEW_SCORING, *VIEW_MODELS]
VIEW_ACCOUNTS = ["auth.view_user", "auth.view_group"]
VIEW_TRAIL = ["audit.view_entry"]
WRITE_RATES = ["training.add_exchangerate", "training.change_exchangerate"]

EDIT_POLICIES = [
    *("scoring.add_policyversion", "scoring.activate_policyversion"),
    *(f"scoring.{verb}_policylist" for verb in ("add", "change", "delete")),
]
EDIT_REASONS = ["scoring.add_reviewreason", "scoring.change_reviewreason"]
EDIT_QUEUES = ["scoring.add_reviewqueue", "scoring.change_reviewqueue"]
# Whoever sees personal values. Removing an entry is a change, as it is kept.
EDIT_ENTRIES = [f"scoring.{verb}_listentry" for verb in ("view", "add", "change")]

# What analysts do: decide, and hand over; give second opinions; look after the work of all others.
DECIDE = ["scoring.view_personal", *EDIT_ENTRIES, *(f"scoring.{verb}_review" for verb in ("change", "escalate"))]
DECIDE_AGAIN = [*DECIDE, "scoring.second_review"]
SUPERVISE = [*DECIDE_AGAIN, "scoring.supervise_review", "scoring.view_quality", *EDIT_REASONS, *EDIT_QUEUES]

TRAIN = ["training.change_modelversion", "training.add_trainingrun"]
RUN_CLIENTS = [
    *("scoring.add_client", "scoring.change_client", "scoring.add_apikey", "scoring.change_apikey"),
    "scoring.change_pending",
]

ROLES = {
    "Fraud analyst": [*VIEW_ALL, *DECIDE],
    "Senior analyst": [*VIEW_ALL, *DECIDE_AGAIN],
    "Supervisor": [*VIEW_ALL, *SUPERVISE],
    "Risk manager": [*VIEW_ALL, "scoring.view_personal", *EDIT_POLICIES, *EDIT_ENTRIES, *EDIT_REASONS, *EDIT_QUEUES],
    "ML engineer": [*VIEW_ALL, *TRAIN, *WRITE_RATES, "scoring.change_pending"],
    "Operator": [
        *(f"scoring.view_{model}" for model in ("client", "apikey", "pending", "fallback")),
        *VIEW_MODELS,
        *RUN_CLIENTS,
        *WRITE_RATES,
    ],
    "Auditor": [*VIEW_ALL, *VIEW_ACCOUNTS, *VIEW_TRAIL, "scoring.view_quality"],
    "Administrator": [
        *VIEW_ALL,
        *SUPERVISE,
        *EDIT_POLICIES,
        *TRAIN,
        *RUN_CLIENTS,
        *WRITE_RATES,
        *VIEW_ACCOUNTS,
        *VIEW_TRAIL,
        *[f"auth.{verb}_{model}" for verb in ("add", "change") for model in ("user", "group")],
    ],
}


def write_roles(**_: Any) -> None:
    """Give each role's group exactly the permissions listed here."""
    for role, wanted in ROLES.items():
        group, _created = Group.objects.get_or_create(name=role)
        labels = [name.split(".") for name in wanted]
        group.permissions.set(
            Permission.objects.filter(
                content_type__app_label__in={app for app, _ in labels}, codename__in={name for _, name in labels}
            )
        )
