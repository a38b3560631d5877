"""What a rule would have done: its last fortnight, judged as the present is."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from monitoring.alerts.conditions import Condition, Episode, Judged, episodes, judge
from monitoring.alerts.evaluating import condition_of
from monitoring.alerts.measures import all_of_them
from monitoring.alerts.measures.base import Measure, Scope, Subject
from monitoring.alerts.models import AlertRule

DAYS = 14


@dataclass(frozen=True, eq=False)
class Past:
    """A subject's past: what was judged, and when the alert would have been open after `since`."""

    subject: Subject
    judged: Judged
    episodes: list[Episode]

    @property
    def begins(self) -> datetime | None:
        """Where its first known value begins."""
        known = np.flatnonzero(~np.isnan(self.judged.series.values))
        return self.judged.series.since + int(known[0]) * self.judged.series.step if len(known) else None


@dataclass(frozen=True, eq=False)
class Preview:
    """The pasts of all subjects, those that would have fired most first."""

    measure: Measure
    condition: Condition
    since: datetime
    until: datetime
    pasts: list[Past]

    @property
    def fired(self) -> int:
        return sum(len(past.episodes) for past in self.pasts)


def preview(rule: AlertRule, *, now: datetime, days: float = DAYS, only: Subject | None = None) -> Preview:
    """Judge the last days of a rule, which need not be saved; of all its subjects, or of one."""
    measure = all_of_them()[rule.measure]
    condition, since = condition_of(rule, measure), now - timedelta(days=days)
    scope = Scope(only.schema or rule.schema, only.client) if only else Scope(rule.schema, rule.client_id)
    pasts = []
    for subject, series in measure.series(scope, since - condition.looked_at(measure.step), now).items():
        if only is not None and subject != only:
            continue
        judged = judge(series, condition)
        pasts.append(Past(subject, judged, episodes(judged, condition, since=since)))
    pasts.sort(key=lambda past: (-len(past.episodes), past.subject.key))
    return Preview(measure, condition, since, now, pasts)
