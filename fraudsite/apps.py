from django.apps import AppConfig
from django.contrib.admin import apps as admin


class FraudsiteConfig(AppConfig):
    name = "fraudsite"
    default = True


class FraudsiteAdminConfig(admin.AdminConfig):
    default_site = "fraudsite.admin.FraudsiteAdmin"
    default = False
