"""The roles in the admin and their permissions. Every `migrate` updates their groups."""

from typing import Any

from django.contrib.auth.models import Group, Permission

VIEW_SCORING = [
    f"scoring.view_{model}"
    for model in (
        *("client", "apikey", "transaction", "prediction", "fallback", "pending", "review", "label"),
        *("policyversion", "backtest", "policylist", "reviewreason"),
    )
]
VIEW_MODELS = [
    *(f"training.view_{model}" for model in ("modelversion", "trainingrun", "schemaversion", "exchangerate")),
    "monitoring.view_driftreport",
]
WRITE_RATES = ["training.add_exchangerate", "training.change_exchangerate"]

EDIT_POLICIES = [
    *("scoring.add_policyversion", "scoring.activate_policyversion"),
    *(f"scoring.{verb}_policylist" for verb in ("add", "change", "delete")),
]
EDIT_REASONS = ["scoring.add_reviewreason", "scoring.change_reviewreason"]
# Whoever sees personal values. Removing an entry is a change, as it is kept.
EDIT_ENTRIES = [f"scoring.{verb}_listentry" for verb in ("view", "add", "change")]

ROLES = {
    "Fraud analyst": [*VIEW_SCORING, *VIEW_MODELS, "scoring.view_personal", *EDIT_ENTRIES, "scoring.change_review"],
    "ML engineer": [
        *VIEW_SCORING,
        *VIEW_MODELS,
        "training.change_modelversion",
        "training.add_trainingrun",
        *WRITE_RATES,
        "scoring.change_pending",
    ],
    "Risk manager": [
        *VIEW_SCORING,
        *VIEW_MODELS,
        "scoring.view_personal",
        *EDIT_POLICIES,
        *EDIT_ENTRIES,
        *EDIT_REASONS,
    ],
    "Administrator": [
        *VIEW_SCORING,
        *VIEW_MODELS,
        "scoring.view_personal",
        *EDIT_POLICIES,
        *EDIT_ENTRIES,
        *EDIT_REASONS,
        "scoring.change_review",
        "scoring.add_client",
        "scoring.change_pending",
        "scoring.change_client",
        "scoring.add_apikey",
        "scoring.change_apikey",
        "training.change_modelversion",
        "training.add_trainingrun",
        *WRITE_RATES,
        *[f"auth.{verb}_{model}" for verb in ("view", "add", "change") for model in ("user", "group")],
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
