from collections.abc import Iterable
from uuid import UUID

from django.db.models import Q, QuerySet

from scoring.models import Client, Prediction
from scoring.submissions import Submission


def predictions_of(client: Client) -> QuerySet[Prediction]:
    """What a client may see: its own. Anything else looks as if it did not exist."""
    return Prediction.objects.select_related("transaction").filter(transaction__client=client)


def stored_predictions(submissions: Iterable[Submission]) -> dict[tuple[int, str] | UUID, Prediction]:
    """The predictions already stored for these submissions, by row id and by (client, transaction id)."""
    condition = Q()
    for submission in submissions:
        condition |= Q(transaction=submission.id)
        if submission.transaction_id is not None:
            condition |= Q(
                transaction__client=submission.client_id, transaction__transaction_id=submission.transaction_id
            )
    found: dict[tuple[int, str] | UUID, Prediction] = {}
    for prediction in Prediction.objects.select_related("transaction").filter(condition) if condition else ():
        row = prediction.transaction
        found[row.id] = prediction
        if row.transaction_id is not None:
            found[row.client_id, row.transaction_id] = prediction
    return found
