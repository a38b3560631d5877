"""What people and clients do without a row of its own: claims, and labels by the thousand. The audit trail listens."""

from django.dispatch import Signal

# Sent with `action`, `key` of the row or "", `detail` and `person`, within the transaction of the act, if it has one.
acted = Signal()
