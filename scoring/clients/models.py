"""Clients of the API and their keys."""

import hashlib
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Self

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils import timezone

from scoring.clients.networks import Network, covers, network, networks_problem

NUMBER_LIMIT = 1_000_000_000
RETENTION_LIMIT_DAYS = 36_500
IF_EMPTY = "Empty: the installation's default. 0: no limit."
IF_NO_BURST = "Empty: what the limit gives in some seconds, as the installation says."


class Scope(models.TextChoices):
    """What a key may be used for. Each view of the API declares the one that it needs."""

    PREDICT = "predict", "Score single transactions"
    BATCH = "batch", "Score lists and files of transactions"
    LABELS = "labels", "Tell what became of transactions"
    READ = "read", "Read what is stored: predictions, explanations, states"
    WEBHOOKS = "webhooks", "Look after webhooks"


class Client(models.Model):
    """A payments system that posts transactions. It sees its own rows only.

    Entities that are not shared are its own: `own_histories`. It is False for clients that were there before this was
    so: they share tokens, and by them histories, links and list entries, with each other.
    """

    name = models.CharField(max_length=100, unique=True)
    is_active = models.BooleanField(default=True)
    own_histories = models.BooleanField(default=True, db_default=True, editable=False)
    keep_transactions_days = models.PositiveIntegerField(
        "keep transactions for so many days",
        null=True,
        blank=True,
        validators=[MaxValueValidator(RETENTION_LIMIT_DAYS)],
        help_text="With predictions, labels and reviews. Empty: as long as the installation says. 0: for ever.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    # DRF's IsAuthenticated reads this of a request's user.
    is_authenticated = True

    def __str__(self) -> str:
        return self.name


class ClientOfPerson(models.Model):
    """Restricts a person to the rows of a client in the admin. Without such a row somebody sees those of all clients:
    `scoring.tenancy.restriction`."""

    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="works_for")
    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="+")

    class Meta:
        default_permissions = ()
        verbose_name = "client of a person"
        verbose_name_plural = "works for these clients only (none: for all)"
        constraints = [models.UniqueConstraint(fields=["person", "client"], name="one_row_per_person_and_client")]

    def __str__(self) -> str:
        return str(self.client)


def _limit(words: str, help_text: str, *, least: int = 0) -> Any:
    bounds = [MinValueValidator(least), MaxValueValidator(NUMBER_LIMIT)]
    return models.PositiveIntegerField(words, null=True, blank=True, validators=bounds, help_text=help_text)


def all_scopes() -> list[str]:
    return list(Scope.values)


def _list(make: Callable[[], list[str]], **options: Any) -> Any:
    """A field with a list. `make` makes its default, which rows get that older code writes, too."""
    return models.JSONField(default=make, db_default=models.Value(make(), models.JSONField()), **options)


class ApiKey(models.Model):
    """A client's key. `prefix` is shown to recognise it; `digest` is the SHA-256 of the whole key.

    The key has 256 random bits, so a fast hash is as safe as a slow one, and cheap enough for each request.
    """

    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="keys")
    prefix = models.CharField(max_length=12, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    name = models.CharField(
        max_length=100,
        blank=True,
        db_default="",
        help_text="What uses it, such as a shop or a job. A client has at most two active keys of one name.",
    )
    scopes = _list(all_scopes, help_text="What it may be used for.")
    schemas = _list(list, blank=True, help_text="The schemas that it may be used for. None: all.")
    networks = _list(
        list, blank=True, validators=[networks_problem], help_text="Where it may be used from. None: anywhere."
    )
    is_test = models.BooleanField(
        "for tests",
        default=False,
        db_default=False,
        help_text="Calls are answered as their test values ask for, and reach no worker, analyst or model.",
    )
    expires_at = models.DateTimeField("expires", null=True, blank=True, help_text="Empty: never.")
    calls_per_s = _limit("calls per second", f"In the long run, of each scope for single calls. {IF_EMPTY}")
    calls_burst = _limit("calls at once", f"After a rest. {IF_NO_BURST}", least=1)
    rows_per_s = _limit("rows per second", f"In the long run, of lists of transactions and of labels. {IF_EMPTY}")
    rows_burst = _limit("rows at once", f"After a rest. {IF_NO_BURST}", least=1)
    transactions_per_day = _limit(
        "transactions per day", f"Those to score from one midnight (UTC) to the next. {IF_EMPTY}"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    last_used_at = models.DateTimeField("last use", null=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.prefix}…"

    @staticmethod
    def digest_of(key: str) -> str:
        return hashlib.sha256(key.encode()).hexdigest()

    def draw(self) -> str:
        """Draw the secret of an unsaved row. Returns the key itself, which is stored nowhere."""
        beginning = "fs_test_" if self.is_test else "fs_"
        key = beginning + secrets.token_urlsafe(32)
        self.prefix, self.digest = key[: len(beginning) + (4 if self.is_test else 6)], self.digest_of(key)
        return key

    @classmethod
    def live(cls, at: datetime) -> models.Q:
        """The keys that are neither revoked nor expired."""
        return models.Q(revoked_at=None) & (models.Q(expires_at=None) | models.Q(expires_at__gt=at))

    def expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()

    def expires_soon(self) -> bool:
        """Whether it expires within `KEY_EXPIRY_WARNING_DAYS`."""
        warning = timedelta(days=settings.KEY_EXPIRY_WARNING_DAYS)
        return self.expires_at is not None and timezone.now() < self.expires_at <= timezone.now() + warning

    @cached_property
    def _networks(self) -> list[Network]:
        return [network(text) for text in self.networks]

    def allows_address(self, address: str | None) -> bool:
        """Whether it may be used from an address. None, of a caller without one, is in no network."""
        return not self.networks or covers(self._networks, address)

    def allows_schema(self, name: str) -> bool:
        return not self.schemas or name in self.schemas

    def successor(self) -> Self:
        """An unsaved key with the same rights and limits. If this one expires, that one is valid for as long."""
        kept = ("client", "name", "scopes", "schemas", "networks", "is_test", *LIMITS)
        until = timezone.now() + (self.expires_at - self.created_at) if self.expires_at else None
        return type(self)(**{name: getattr(self, name) for name in kept}, expires_at=until)


LIMITS = ("calls_per_s", "calls_burst", "rows_per_s", "rows_burst", "transactions_per_day")
