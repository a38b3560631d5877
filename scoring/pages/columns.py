"""Columns that several lists and pages of the admin share."""

from typing import Any

from django.contrib import admin
from django.utils.safestring import SafeString

from scoring.models import Client, Fallback, Prediction
from scoring.pages.display import decision_badge, link, money
from training.core.figures import at, milliseconds


class TransactionColumns:
    """For rows that belong to a transaction, as `row.transaction`."""

    @admin.display(description="Amount")
    def amount(self, row: Any) -> str:
        return money(row.transaction)

    @admin.display(description="Client")
    def client(self, row: Any) -> Client:
        return row.transaction.client

    @admin.display(description="Transaction")
    def transaction_link(self, row: Any) -> SafeString:
        return link(row.transaction, str(row.transaction))


class AnswerColumns(TransactionColumns):
    """For predictions and fallbacks: the decision, the time and the latency of the answer."""

    @admin.display(description="Created", ordering="created_at")
    def created(self, row: Prediction | Fallback) -> str:
        return at(row.created_at)

    @admin.display(description="Decision", ordering="decision")
    def badge(self, row: Prediction | Fallback) -> SafeString:
        return decision_badge(row.decision)

    @admin.display(description="Latency (ms)", ordering="latency_ms")
    def latency(self, row: Prediction | Fallback) -> str:
        return milliseconds(row.latency_ms)
