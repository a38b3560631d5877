import os
from typing import Any

from django.apps import AppConfig, apps
from django.contrib.admin import apps as admin
from django.core import checks
from django.db.models.signals import post_migrate

from fraudsite import env


@checks.register
def misspelt_settings(**_: Any) -> list[checks.CheckMessage]:
    """Warns about variables of the environment that resemble a setting."""
    return [checks.Warning(message, id="fraudsite.W001") for message in env.misspelt(os.environ)]


class FraudsiteConfig(AppConfig):
    name = "fraudsite"
    default = True

    def ready(self) -> None:
        from fraudsite.roles import write_roles

        for app in ("training", "scoring", "monitoring", "audit", "sign_on"):  # after each, its permissions exist
            post_migrate.connect(write_roles, sender=apps.get_app_config(app))


class FraudsiteAdminConfig(admin.AdminConfig):
    default_site = "fraudsite.admin.FraudsiteAdmin"
    default = False
