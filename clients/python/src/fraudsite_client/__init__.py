"""The Python client of Fraudsite, which scores card transactions for fraud.

from fraudsite_client import Fraudsite

with Fraudsite("https://fraud.example.com", key) as fraudsite:
    answer = fraudsite.predict({"schema": "payments", "amount": 57.16, ...})
    if answer.decision == "block":
        ...
"""

from fraudsite_client.asynchronous import AsyncFraudsite
from fraudsite_client.client import VERSION, Fraudsite
from fraudsite_client.errors import (
    Conflict,
    FraudsiteError,
    InvalidRequest,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    NotReached,
    NotUnderstood,
    Refused,
    TooManyRequests,
    Unavailable,
)
from fraudsite_client.flow import Patience
from fraudsite_client.models import (
    Explanation,
    File,
    LabelReceipt,
    LabelResult,
    Pending,
    Prediction,
    Problem,
    Result,
    SecretWebhook,
    Webhook,
)
from fraudsite_client.webhooks import Event, NotVerified, verify

__version__ = VERSION

__all__ = [
    "AsyncFraudsite",
    "Conflict",
    "Event",
    "Explanation",
    "File",
    "Fraudsite",
    "FraudsiteError",
    "InvalidRequest",
    "LabelReceipt",
    "LabelResult",
    "NotAllowed",
    "NotAuthenticated",
    "NotFound",
    "NotReached",
    "NotUnderstood",
    "NotVerified",
    "Patience",
    "Pending",
    "Prediction",
    "Problem",
    "Refused",
    "Result",
    "SecretWebhook",
    "TooManyRequests",
    "Unavailable",
    "Webhook",
    "verify",
]
