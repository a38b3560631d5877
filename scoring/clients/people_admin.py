"""The accounts of people in the admin, with the clients for which somebody works."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.http import HttpRequest

from scoring.clients.models import ClientOfPerson


class ClientsOfPerson(admin.TabularInline):
    """The clients for which a person works. Whoever may change the account may change them."""

    model = ClientOfPerson
    extra = 0

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("auth.view_user") or self.has_change_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("auth.change_user")

    has_delete_permission = has_change_permission

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)


class PeopleAdmin(UserAdmin):
    inlines = [ClientsOfPerson]

    def get_inlines(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.inlines if obj else []  # an account that is being made has a name and a password


admin.site.unregister(User)
admin.site.register(User, PeopleAdmin)
