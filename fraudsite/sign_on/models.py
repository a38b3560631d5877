from django.conf import settings
from django.db import models

SUBJECT_LENGTH = 255


class Identity(models.Model):
    """The person at the provider to whom an account belongs."""

    issuer = models.CharField(max_length=300, help_text="The provider, as SSO_ISSUER has it.")
    subject = models.CharField(
        max_length=SUBJECT_LENGTH,
        help_text='The claim "sub" of the person: it stays, whatever becomes of name and e-mail address.',
    )
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="identities")
    created_at = models.DateTimeField("linked", auto_now_add=True)
    signed_in_at = models.DateTimeField("last sign-in", null=True, editable=False)

    class Meta:
        verbose_name = "link to a provider"
        verbose_name_plural = "links to a provider"
        default_permissions = ("view", "add", "change")
        constraints = [
            models.UniqueConstraint(fields=["issuer", "subject"], name="identity_of_one_account"),
            models.UniqueConstraint(fields=["issuer", "user"], name="account_of_one_identity"),
        ]

    def __str__(self) -> str:
        return f"{self.user} ({self.subject})"

    @classmethod
    def of(cls, issuer: str, subject: str) -> "Identity | None":
        found = cls.objects.filter(issuer=issuer.rstrip("/"), subject=subject)
        return found.select_related("user").first()

    def clean(self) -> None:
        self.issuer = self.issuer.rstrip("/")
