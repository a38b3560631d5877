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
        *("batchfile", "webhookendpoint", "webhookdelivery"),
    )
]
VIEW_MODELS = [
    *(f"training.view_{model}" for model in ("modelversion", "trainingrun", "schemaversion", "exchangerate")),
    "monitoring.view_driftreport",
    *(f"monitoring.view_{model}" for model in ("alert", "alertrule", "alertsilence")),
]
VIEW_ALL = [*VIEW_SCORING, *VIEW_MODELS, "monitoring.view_outcomecount"]
VIEW_ACCOUNTS = ["auth.view_user", "auth.view_group", "sign_on.view_identity"]
VIEW_TRAIL = ["audit.view_entry"]
VIEW_ERASURES = ["scoring.view_erasure"]
ERASE = [*VIEW_ERASURES, "scoring.add_erasure"]
WRITE_RATES = ["training.add_exchangerate", "training.change_exchangerate"]

# Whoever is told of an alert acts on it: acknowledges, silences, resolves. Rules say what is one, routes who is told.
ACT_ON_ALERTS = ["monitoring.change_alert", "monitoring.add_alertsilence", "monitoring.change_alertsilence"]
EDIT_ALERT_RULES = [f"monitoring.{verb}_alertrule" for verb in ("add", "change")]
EDIT_ALERT_ROUTES = [f"monitoring.{verb}_alertroute" for verb in ("view", "add", "change")]
RUN_ALERTS = [*ACT_ON_ALERTS, *EDIT_ALERT_RULES]

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
SUPERVISE = [
    *(*DECIDE_AGAIN, "scoring.supervise_review", "scoring.view_quality", *EDIT_REASONS, *EDIT_QUEUES),
    *ACT_ON_ALERTS,
]

OPERATED = ("client", "apikey", "pending", "fallback", "webhookendpoint", "webhookdelivery")
SEND_FILES = ["scoring.add_batchfile", "scoring.change_batchfile"]
TRAIN = ["training.change_modelversion", "training.add_trainingrun"]
RUN_CLIENTS = [
    *("scoring.add_client", "scoring.change_client", "scoring.add_apikey", "scoring.change_apikey"),
    *("scoring.add_webhookendpoint", "scoring.change_webhookendpoint", "scoring.change_webhookdelivery"),
    "scoring.change_pending",
]

ROLES = {
    "Fraud analyst": [*VIEW_ALL, *DECIDE],
    "Senior analyst": [*VIEW_ALL, *DECIDE_AGAIN],
    "Supervisor": [*VIEW_ALL, *SUPERVISE],
    "Risk manager": [
        *(*VIEW_ALL, "scoring.view_personal", *EDIT_POLICIES, *EDIT_ENTRIES, *EDIT_REASONS, *EDIT_QUEUES),
        *RUN_ALERTS,
    ],
    "ML engineer": [*VIEW_ALL, *TRAIN, *SEND_FILES, *WRITE_RATES, "scoring.change_pending", *RUN_ALERTS],
    "Operator": [
        *(f"scoring.view_{model}" for model in OPERATED),
        *VIEW_MODELS,
        *RUN_CLIENTS,
        *SEND_FILES,
        *WRITE_RATES,
        *RUN_ALERTS,
        *EDIT_ALERT_ROUTES,
    ],
    "Auditor": [
        *(*VIEW_ALL, *VIEW_ACCOUNTS, *VIEW_TRAIL, *VIEW_ERASURES),
        *("scoring.view_quality", "monitoring.view_alertroute"),
    ],
    "Administrator": [
        *VIEW_ALL,
        *SUPERVISE,
        *EDIT_POLICIES,
        *TRAIN,
        *SEND_FILES,
        *RUN_CLIENTS,
        *WRITE_RATES,
        *RUN_ALERTS,
        *EDIT_ALERT_ROUTES,
        *VIEW_ACCOUNTS,
        *VIEW_TRAIL,
        *ERASE,
        *[f"auth.{verb}_{model}" for verb in ("add", "change") for model in ("user", "group")],
        *("sign_on.add_identity", "sign_on.change_identity"),
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
