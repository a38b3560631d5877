from django.db import models


class Forgotten(models.Model):
    """How far a client's transactions are deleted, as retention says: those received before `before` are gone, or are
    about to be. It is committed before the first of them is deleted, and never goes back.

    No prediction of them was made at `decided_before` or later: what is counted from predictions before it would come
    out too small now.
    """

    client = models.OneToOneField(
        "scoring.Client", primary_key=True, on_delete=models.CASCADE, related_name="forgotten"
    )
    before = models.DateTimeField()
    decided_before = models.DateTimeField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.client} before {self.before:%Y-%m-%d}"
