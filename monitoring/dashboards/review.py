"""The page *Review*: what comes into the queue, how old it is, who decides how much, and whether they agree."""

from collections import Counter, defaultdict
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from django.contrib.auth import get_user_model
from django.db.models import Count, Min, Q, QuerySet

from monitoring.dashboards import figures
from monitoring.dashboards.choices import Choice
from monitoring.dashboards.figures import BLUE, GREEN, NEUTRAL, ORANGE, VERMILLION
from monitoring.dashboards.frame import Page, Panel, Shown, Tile
from monitoring.rollups import reading
from monitoring.rollups.reading import Decided
from scoring.models import Review, SecondOpinion
from scoring.reviews.agreement import Kappa, kappa_of

# The latest decisions whose times, and second opinions whose judgements, are read one by one, and the open reviews that
# are counted: so the page costs the same at any traffic.
TIMED, OPINIONS, COUNTED = 1_000, 1_000, 20_000
ANALYSTS = 15
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
AGES = (("< 1 h", HOUR), ("1–4 h", 4 * HOUR), ("4–24 h", DAY), ("1–3 d", 3 * DAY), ("3–7 d", 7 * DAY))
OLDEST = "> 7 d"
DUE = (("late", timedelta()), ("within 1 h", HOUR), ("within 8 h", 8 * HOUR), ("within 24 h", DAY))
DUE_COLOURS = [VERMILLION, ORANGE, BLUE, BLUE, BLUE, NEUTRAL]

PANELS = (
    Panel("inflow", "Alerts that came, reviews that were decided", "Does the queue grow?", span=2),
    Panel("ages", "Age of open reviews", "Is anything forgotten?"),
    Panel("due", "Due times of open reviews", "What will be late, and when?"),
    Panel("analysts", "Decisions by analyst", "Is the work shared?", height=300),
    Panel("pace", "Median time to decide", "Who needs help, and who hurries?", height=300),
    Panel("agreement", "Agreement with second opinions", "Cohen's kappa: 1 is always, 0 is chance.", height=300),
)


class Waiting(NamedTuple):
    """Open reviews: their number, by age and by due time as the plots name them, and when the oldest was opened."""

    number: int
    ages: dict[str, int]
    due: dict[str, int]
    oldest: datetime | None


def read(choice: Choice) -> Shown:
    """The page of a choice."""
    decided = reading.decided(choice.window, schema=choice.schema, client=choice.client)
    of_choice = {"schema": choice.schema} | ({"client": choice.client} if choice.client else {})
    reviews = Review.objects.filter(**of_choice)
    waits, took, kappas = waiting(choice, reviews), times(choice, reviews), agreement(choice)
    names = names_of({share.analyst for share in decided.shares if share.analyst})
    seen = {"inflow": inflow_figure(choice, decided)}
    if waits.number:
        seen |= {"ages": figures.ranked([*waits.ages], [*waits.ages.values()], BLUE, "open reviews")}
        seen |= {"due": figures.ranked([*waits.due], [*waits.due.values()], DUE_COLOURS, "open reviews")}
    if names:
        seen |= {"analysts": analysts_figure(decided, names), "pace": pace_figure(took)}
    if kappas:
        seen["agreement"] = agreement_figure(kappas)
    notes = {"pace": f"Of the latest {TIMED:,} decisions." if len(took) == TIMED else ""}
    if waits.number == COUNTED:
        notes |= dict.fromkeys(("ages", "due"), f"Of {COUNTED:,} open reviews.")
    return Shown(tiles=tiles(choice, decided, waits, took, kappas), figures=seen, notes=notes)


def names_of(analysts: set[int]) -> dict[int, str]:
    """The names of accounts."""
    return dict(get_user_model().objects.filter(pk__in=analysts).values_list("pk", "username"))


def times(choice: Choice, reviews: QuerySet[Review]) -> list[tuple[str, float]]:
    """Of the latest decisions of the window, who made them and how many seconds they took."""
    closed = reviews.filter(closed_at__gte=choice.window.start, closed_at__lt=choice.window.end)
    timed: Any = closed.filter(decided_in_s__isnull=False, reviewer__isnull=False).order_by("-closed_at")
    return list(timed.values_list("reviewer__username", "decided_in_s")[:TIMED])


def waiting(choice: Choice, reviews: QuerySet[Review]) -> Waiting:
    """The open reviews, counted by the database up to `COUNTED`."""
    rows = reviews.filter(state=Review.State.OPEN).order_by().values("opened_at", "due_at")[:COUNTED]
    ages = {name: Q(opened_at__gt=choice.now - limit) for name, limit in AGES}
    due = {name: Q(due_at__lt=choice.now + limit) for name, limit in DUE}
    # Each limit includes those before it.
    up_to = {f"age_{number}": Count("opened_at", filter=under) for number, under in enumerate(ages.values())}
    up_to |= {f"due_{number}": Count("opened_at", filter=under) for number, under in enumerate(due.values())}
    found = rows.aggregate(number=Count("*"), oldest=Min("opened_at"), dated=Count("due_at"), **up_to)
    return Waiting(
        found["number"],
        _parts([*ages, OLDEST], [*(found[f"age_{number}"] for number in range(len(ages))), found["number"]]),
        _parts(
            [*due, "later", "no due time"],
            [*(found[f"due_{number}"] for number in range(len(due))), found["dated"], found["number"]],
        ),
        found["oldest"],
    )


def _parts(names: list[str], up_to: list[int]) -> dict[str, int]:
    """How many are between one limit and the next."""
    return {name: count - before for name, count, before in zip(names, up_to, [0, *up_to], strict=False)}


def agreement(choice: Choice) -> dict[str, Kappa]:
    """The agreement of all, and of each analyst with the others."""
    given = SecondOpinion.objects.filter(given_at__gte=choice.window.start, given_at__lt=choice.window.end)
    given = given.filter(review__schema=choice.schema, is_fraud__isnull=False).order_by("-given_at")
    columns = ("first__username", "second__username", "first_is_fraud", "is_fraud")
    pairs: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for first, second, first_says, second_says in given.values_list(*columns)[:OPINIONS]:
        for name in ("All", first, second):
            pairs[name].append((first_says, bool(second_says)))
    names = sorted(pairs, key=lambda name: (name != "All", -len(pairs[name]), name))[: ANALYSTS + 1]
    return {name: kappa for name in names if (kappa := kappa_of(pairs[name]))}


def tiles(
    choice: Choice, decided: Decided, waits: Waiting, took: list[tuple[str, float]], kappas: dict[str, Kappa]
) -> list[Tile]:
    late = waits.due["late"]
    oldest = choice.now - (waits.oldest or choice.now)
    judged = Counter[str]()
    for share in decided.shares:
        if not share.by_default and not share.is_sample:
            judged[share.state] += share.number
    frauds, number = judged[Review.State.FRAUD], judged.total()
    kappa = kappas.get("All")
    more = "+" if waits.number == COUNTED else ""
    return [
        Tile("Open reviews", f"{waits.number:,}{more}", "now, of any age"),
        Tile("Late", f"{late:,}", "open and past their due time", calm=not late),
        Tile("Oldest", told(oldest) if waits.number else "–", "since it was opened", calm=oldest < DAY),
        Tile("Decided", f"{decided.by_step.sum():,}", f"by people and due times, {choice.words}"),
        Tile(
            "Alert precision",
            f"{frauds / number:.0%}" if number else "–",
            f"{frauds:,} of {number:,} reviewed confirmed" if number else "no review closed in this window",
        ),
        Tile(
            "Agreement",
            f"{kappa.value:.2f}" if kappa and kappa.value is not None else "–",
            f"kappa of {kappa.cases:,} second opinions" if kappa else "no second opinion in this window",
        ),
        Tile(
            "Time to decide",
            f"{np.median([took_s for _, took_s in took]):.0f} s" if took else "–",
            "median, from opening the page",
        ),
    ]


def told(age: timedelta) -> str:
    """An age in the unit that suits it.

    >>> told(timedelta(minutes=90)), told(timedelta(days=4))
    ('2 h', '4 days')
    """
    return f"{age / DAY:.0f} days" if age >= 2 * DAY else f"{age / HOUR:.0f} h"


def inflow_figure(choice: Choice, decided: Decided) -> go.Figure:
    window = choice.window
    came = reading.traffic(window, schema=choice.schema, client=choice.client).alerts
    series = [("alerts that came", ORANGE, came.tolist()), ("decided", BLUE, decided.by_step.tolist())]
    return figures.lines(window, series, figures.per(window.step))


def analysts_figure(decided: Decided, names: dict[int, str]) -> go.Figure:
    number: Counter[int] = Counter()
    counts: Counter[tuple[int, str]] = Counter()
    for share in decided.shares:
        if share.analyst:
            number[share.analyst] += share.number
            counts[share.analyst, share.state] += share.number
    most = [analyst for analyst, _ in number.most_common(ANALYSTS)]
    drawn = figures.figure(
        *(
            go.Bar(
                x=[counts[analyst, str(state)] for analyst in most],
                y=[names.get(analyst, "") for analyst in most],
                orientation="h",
                name=state.label,
                marker_color=colour,
            )
            for state, colour in ((Review.State.FRAUD, VERMILLION), (Review.State.LEGITIMATE, GREEN))
        ),
        barmode="stack",
    )
    figures.downwards(drawn, [names.get(analyst, "") for analyst in most], nticks=len(most) + 1)
    return drawn


def pace_figure(took: list[tuple[str, float]]) -> go.Figure:
    times: dict[str, list[float]] = defaultdict(list)
    for name, seconds in took:
        times[name].append(seconds)
    if not times:
        return figures.said("No review was opened before it was decided")
    names = sorted(times, key=lambda name: -len(times[name]))[:ANALYSTS]
    return figures.ranked(names, [float(np.median(times[name])) for name in names], BLUE, "seconds")


def agreement_figure(kappas: dict[str, Kappa]) -> go.Figure:
    known = [(name, kappa.value, kappa.low, kappa.high) for name, kappa in kappas.items() if kappa.value is not None]
    if not known:
        return figures.said("All judgements are the same: agreement cannot be told from chance")
    drawn = figures.with_intervals("kappa", known)
    drawn.update_xaxes(range=[-1.02, 1.02])
    return drawn


PAGE = Page(
    "review",
    "Review",
    "What waits, who decides how much, and whether they agree",
    "scoring.view_quality",
    PANELS,
    read,
    uses=("client",),
)
