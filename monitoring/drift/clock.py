"""The inputs that drift by the clock alone: at noon it is always noon, and on a Sunday always Sunday."""

from datetime import timedelta

from monitoring.models import DriftReport
from training.core.schema import Schema

WHOLE_WEEK = timedelta(days=7)


def of_the_clock(schema: Schema | None, report: DriftReport) -> set[str]:
    """The names of the calendar features, such as the hour, unless the traffic of a report spans a week. They are
    measured, but are not drift. Nothing is known of a schema that nobody declares."""
    if schema is None or report.window_end - report.window_start >= WHOLE_WEEK:
        return set()
    return {moment.name for moment in schema.calendar}
