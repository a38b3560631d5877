"""The types of events that webhooks tell, and what they are called."""

from django.db.models import TextChoices


class EventType(TextChoices):
    """What happened. The first four are about rows of one client, and only its own endpoints hear them; the others are
    about the installation, and every endpoint may."""

    ALERT_OPENED = "alert.opened", "An alert was opened"
    REVIEW_DECIDED = "review.decided", "A review was decided"
    DECISION_CHANGED = "decision.changed", "A decision changed"
    BATCH_FINISHED = "batch.finished", "A batch was finished"
    MODEL_PROMOTED = "model.promoted", "A model became the champion"
    POLICY_CHANGED = "policy.changed", "The live policy changed"
    DRIFT_DETECTED = "drift.detected", "Drift was detected"


# Sent on request to one endpoint, whatever it is subscribed to.
TEST = "webhook.test"
ALL_TYPES = [*EventType.choices, (TEST, "A test")]
