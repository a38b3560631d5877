"""Explains the scores of stored transactions, by the versions that gave them."""

from uuid import UUID

import numpy as np

from scoring.exceptions import NotExplained
from scoring.messages.explanation import Explanation
from scoring.models import Prediction
from scoring.worker import predictor, scorer
from training.core.exceptions import BundleRefused


def explain(transaction_id: UUID) -> Explanation:
    """Why a transaction has the score that was stored.

    Raises:
        NotExplained: the version cannot be loaded any more, or its inputs are of an older declaration.
    """
    stored = Prediction.objects.select_related("transaction", "model_version").get(pk=transaction_id)
    try:
        model = predictor.of_version(stored.model_version)
    except BundleRefused as error:
        raise NotExplained(f"The version that scored it, {stored.model_version_id}, cannot be loaded.") from error
    if not scorer.has_inputs(model.schema, stored):
        raise NotExplained(f"It was scored under an older declaration of {model.schema.name}.")
    inputs = scorer.stored_inputs(model.encode, [stored.transaction.fields], [stored.derived or {}])
    return model.explain(inputs, np.array([stored.fraud_score]))[0]
