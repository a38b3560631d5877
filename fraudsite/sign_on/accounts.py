"""Finds, makes and links the account of somebody whom the provider vouches for, and brings its roles up to date."""

import logging
from collections.abc import Iterable

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from fraudsite.audit import trail
from fraudsite.audit.models import Action
from fraudsite.sign_on import claims as claims_of
from fraudsite.sign_on.configuration import SUPERUSER
from fraudsite.sign_on.models import SUBJECT_LENGTH, Identity
from fraudsite.sign_on.refusals import (
    ClaimMissing,
    Deactivated,
    EmergencyOnly,
    NameTaken,
    NoName,
    NoRole,
    NotUnderstood,
)

logger = logging.getLogger(__name__)


def account_of(claims: claims_of.Claims) -> User:
    """The account of somebody, with the roles that the provider's groups give it now. Made or linked if it is new.

    Raises:
        Refused: the person is not let in. An account without a role any more has lost those that it had.
    """
    subject = claims["sub"]
    if not 0 < len(subject) <= SUBJECT_LENGTH or "\0" in subject:
        raise NotUnderstood(f"The subject is no text of 1 to {SUBJECT_LENGTH} characters.")
    known = Identity.of(claims["iss"], subject)
    if known:
        _check(known.user)
    try:
        roles = _roles(claims)
    except (NoRole, ClaimMissing) as refusal:
        if known:
            _set_roles(known.user, set())
            refusal.person = known.user.get_username()
        raise
    try:
        return _signed_in(claims, roles)
    except (IntegrityError, NameTaken):  # perhaps by this person, in another window: then the account is found now
        return _signed_in(claims, roles)


def _check(user: User) -> None:
    if user.get_username() in settings.EMERGENCY_ACCOUNTS:
        raise EmergencyOnly(person=user.get_username())
    if not user.is_active:
        raise Deactivated(person=user.get_username())


def _roles(claims: claims_of.Claims) -> set[str]:
    """The roles of the person's groups that exist."""
    mapped = {role for group in claims_of.groups(claims) for role in settings.SSO_ROLES.get(group, ())}
    known = set(Group.objects.filter(name__in=mapped).values_list("name", flat=True)) | (mapped & {SUPERUSER})
    for role in mapped - known:
        logger.error("SSO_ROLES names a role that does not exist: %s", role)
    if not known:
        raise NoRole
    return known


@transaction.atomic
def _signed_in(claims: claims_of.Claims, roles: set[str]) -> User:
    identity = Identity.of(claims["iss"], claims["sub"]) or _new_identity(claims)
    identity.signed_in_at = timezone.now()
    identity.save(update_fields=["signed_in_at"])
    user = identity.user
    said = {"email": claims_of.email(claims), "first_name": _name(claims, "given_name", 150)}
    said |= {"last_name": _name(claims, "family_name", 150)}
    for field, value in said.items():
        if value:
            setattr(user, field, value)
    user.save(update_fields=list(said))
    _set_roles(user, roles)
    return user


def _new_identity(claims: claims_of.Claims) -> Identity:
    user = _to_link(claims)
    if user is None:
        username = _username(claims)
        if User.objects.filter(username__iexact=username).exists():
            raise NameTaken(f"{username}, subject {claims['sub']}")
        user = User.objects.create_user(username)  # without a password
        _record(Action.ADDED, user, f"Made by single sign-on, for the subject {claims['sub']}.")
    else:
        _record(Action.CHANGED, user, f"Linked by the e-mail address to the subject {claims['sub']}.")
    return Identity.objects.create(issuer=claims["iss"].rstrip("/"), subject=claims["sub"], user=user)


def _to_link(claims: claims_of.Claims) -> User | None:
    """The one account that has the person's verified e-mail address, where the setting allows to link it. Accounts that
    can do everything are linked by hand alone."""
    address = claims_of.email(claims)
    if not (settings.SSO_LINK_BY_EMAIL and address):
        return None
    found = User.objects.filter(email__iexact=address)[:2]
    if len(found) != 1:
        return None
    user: User = found[0]
    is_linked = Identity.objects.filter(user=user, issuer=claims["iss"].rstrip("/")).exists()
    is_open = user.is_active and not user.is_superuser and user.get_username() not in settings.EMERGENCY_ACCOUNTS
    return user if is_open and not is_linked else None


def _username(claims: claims_of.Claims) -> str:
    """The name of a new account. Raises NoName if no claim can be one."""
    for name in (settings.SSO_USERNAME_CLAIM, "sub"):
        username = User.normalize_username(_name(claims, name, 1_000))
        try:
            User._meta.get_field("username").clean(username, None)
            return username
        except ValidationError:
            continue
    raise NoName(f'The claim "{settings.SSO_USERNAME_CLAIM}" is no name for an account.')


def _name(claims: claims_of.Claims, claim: str, limit: int) -> str:
    found = claims_of.find(claims, claim)
    return found.strip()[:limit] if isinstance(found, str) and "\0" not in found else ""


@transaction.atomic
def _set_roles(user: User, roles: set[str]) -> None:
    """Exactly these groups, and staff and superuser by them: what was given by hand is taken."""
    before = set(user.groups.values_list("name", flat=True)) | ({SUPERUSER} if user.is_superuser else set())
    if before == roles and user.is_staff == bool(roles):
        return
    user.groups.set(Group.objects.filter(name__in=roles - {SUPERUSER}))
    user.is_staff, user.is_superuser = bool(roles), SUPERUSER in roles
    user.save(update_fields=["is_staff", "is_superuser"])
    _record(Action.CHANGED, user, f"Roles by single sign-on: {_listed(roles)}. Before: {_listed(before)}.")


def _listed(roles: Iterable[str]) -> str:
    return ", ".join(sorted(roles)) or "none"


def _record(action: Action, user: User, detail: str) -> None:
    trail.record(action, kind="auth.user", object_id=user.pk, detail=detail, person=user.get_username())
