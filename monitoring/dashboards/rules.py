"""The page *Rules*: what each rule catches, how often it is right, what it saves, and which rules say the same."""

from collections import Counter
from itertools import product
from typing import Any

import plotly.graph_objects as go
from django.conf import settings
from django.db.models import Count

from monitoring.dashboards import figures
from monitoring.dashboards.choices import Choice
from monitoring.dashboards.figures import BLUE, GREEN, SERIES
from monitoring.dashboards.frame import Page, Panel, Shown, Tile
from monitoring.matured import report, selectors
from monitoring.matured.counting import RULE
from monitoring.matured.estimates import Costs
from monitoring.matured.report import Figures
from monitoring.rollups import reading
from monitoring.rollups.counting import ALL_CLIENTS
from monitoring.rollups.reading import Rule
from monitoring.rollups.windows import Window
from scoring.models import Decision, Prediction, Review
from scoring.pages.display import amount_of

SHOWN = 12
# The latest alerts whose rules are compared, so that the page costs the same at any traffic.
ALERTS_READ = 2_000

PANELS = (
    Panel("firings", "Matches", "Does a rule fire much more, or not at all any more?", span=2),
    Panel("share", "Share of decisions that match", "Which rules touch most of the traffic?", height=300),
    Panel(
        "precision",
        "Precision, with 95 % intervals",
        "Which rules are seldom right? Change or retire them.",
        height=300,
    ),
    Panel("money", "Fraud stopped", "Which rules are worth their reviews?", height=300),
    Panel("overlap", "Rules that match together", "Which rule adds nothing to another?", height=300),
    Panel("faults", "Values missing, and failures", "Does a rule lack what it reads?", span=2),
)


def read(choice: Choice) -> Shown:
    """The page of a choice."""
    window = choice.window
    found = reading.rules(window, schema=choice.schema, client=choice.client)
    outcomes = outcomes_of(choice)
    pairs, alerts = overlap(choice)
    names = [name for name, rule in found.items() if rule.matched.any()][:SHOWN]
    seen = {}
    if found:
        seen["firings"] = firings_figure(window, found, names)
        seen["share"] = share_figure(found)
        seen["faults"] = faults_figure(window, found)
    if outcomes:
        seen["precision"] = precision_figure(outcomes)
        seen["money"] = money_figure(outcomes)
    if pairs:
        seen["overlap"] = overlap_figure(pairs)
    known = f"Alerts in {choice.words} whose labels have come; of matured days where there are any."
    return Shown(
        tiles=tiles(choice, found, outcomes),
        figures=seen,
        notes={
            "precision": known,
            "money": known,
            "overlap": f"Of the latest {alerts:,} alerts with rules: the share of a row's that match the column, too.",
        },
    )


def tiles(choice: Choice, found: dict[str, Rule], outcomes: list[Figures]) -> list[Tile]:
    matched = {name: int(rule.matched.sum()) for name, rule in found.items()}
    idle = [name for name, number in matched.items() if not number]
    broken = [name for name, rule in found.items() if rule.failed.any()]
    most = max(matched, key=lambda name: matched[name], default="")
    stopped = sum(each.caught.stopped for each in outcomes)
    return [
        Tile("Rules", f"{len(found):,}", "with decisions in this window"),
        Tile("Matches", f"{sum(matched.values()):,}", f"most by {most}" if matched.get(most) else "none"),
        Tile("Never matched", f"{len(idle):,}", ", ".join(idle[:4]) or "all have matched", calm=not idle),
        Tile("Failing", f"{len(broken):,}", ", ".join(broken[:4]) or "none", calm=not broken),
        Tile(
            "Fraud in alerts",
            amount_of(choice.schema, stopped),
            "that rules had a part in, as far as is known",
        ),
    ]


def outcomes_of(choice: Choice) -> list[Figures]:
    """What is known of the alerts of each rule, those with most alerts first."""
    before = selectors.matured_before(choice.now, settings.LABEL_MATURITY_DAYS)
    window = selectors.Window(choice.schema, *choice.days, before, choice.version or "", choice.client or ALL_CLIENTS)
    return report.table(window, Costs(), RULE)[:SHOWN]


def overlap(choice: Choice) -> tuple[dict[tuple[str, str], float], int]:
    """Of pairs of rules, the share of the first one's alerts that the second matched, too; and of how many alerts."""
    rows = Prediction.objects.exclude(decision=Decision.APPROVE).filter(
        created_at__gte=choice.window.start, created_at__lt=choice.window.end, review__isnull=False
    )
    latest = rows.order_by("-created_at").values("review")[:ALERTS_READ]
    of_choice = {"schema": choice.schema} | ({"client": choice.client} if choice.client else {})
    reviews: Any = Review.objects.filter(pk__in=latest, **of_choice).exclude(rules="").order_by().values_list("rules")
    pairs: Counter[tuple[str, str]] = Counter()
    alerts = 0
    for rules, number in reviews.annotate(number=Count("*")):
        pairs.update(dict.fromkeys(product(set(rules.split()), repeat=2), number))
        alerts += number
    names = sorted({name for name, _ in pairs}, key=lambda name: (-pairs[name, name], name))[:SHOWN]
    shares = {(first, second): pairs[first, second] / pairs[first, first] for first, second in product(names, names)}
    return shares, alerts


def firings_figure(window: Window, found: dict[str, Rule], names: list[str]) -> go.Figure:
    shown = names[: len(SERIES)]
    series = [(name, colour, found[name].matched.tolist()) for name, colour in zip(shown, SERIES, strict=False)]
    return figures.lines(window, series, figures.per(window.step)) if series else figures.said("No rule has matched")


def share_figure(found: dict[str, Rule]) -> go.Figure:
    shares = {name: rule.matched.sum() / max(1, rule.decided.sum()) for name, rule in found.items()}
    names = sorted(shares, key=lambda name: (-shares[name], name))[:SHOWN]
    drawn = figures.ranked(names, [float(shares[name]) for name in names], BLUE, "")
    drawn.update_xaxes(tickformat=".1%", rangemode="tozero")
    return drawn


def precision_figure(outcomes: list[Figures]) -> go.Figure:
    known = [
        (each.name, share.value, share.low, share.high)
        for each in outcomes
        if (share := each.precision).value is not None
    ]
    if not known:
        return figures.said("No alert of these rules has a known outcome yet")
    drawn = figures.with_intervals("precision", known)
    drawn.update_xaxes(range=[0, 1.02], tickformat=".0%")
    drawn.update_yaxes(tickfont_size=10)
    return drawn


def money_figure(outcomes: list[Figures]) -> go.Figure:
    if not any(each.caught.stopped for each in outcomes):
        return figures.said("No fraud that these rules stopped is known yet")
    by_money = sorted(outcomes, key=lambda each: -each.caught.stopped)
    return figures.ranked([each.name for each in by_money], [each.caught.stopped for each in by_money], GREEN, "")


def overlap_figure(pairs: dict[tuple[str, str], float]) -> go.Figure:
    names = list(dict.fromkeys(first for first, _ in pairs))
    shares = [[pairs[first, second] for second in names] for first in names]
    # Cividis is made for the colour-blind (Nuñez, Anderton and Renslow, 2018).
    heat = go.Heatmap(x=names, y=names, z=shares, zmin=0, zmax=1, colorscale="Cividis", name="overlap")
    drawn = figures.figure(heat)
    figures.downwards(drawn, names)
    drawn.update_xaxes(tickfont_size=10)
    return drawn


def faults_figure(window: Window, found: dict[str, Rule]) -> go.Figure:
    absent = [(f"{name}: value missing", rule.absent) for name, rule in found.items() if rule.absent.any()]
    failed = [(f"{name}: failed", rule.failed) for name, rule in found.items() if rule.failed.any()]
    worst = sorted([*failed, *absent], key=lambda item: -item[1].sum())[: len(SERIES)]
    if not worst:
        return figures.said("No rule lacked a value, and none failed")
    series = [(name, colour, counts.tolist()) for (name, counts), colour in zip(worst, SERIES, strict=False)]
    return figures.lines(window, series, figures.per(window.step))


PAGE = Page(
    "rules",
    "Rules",
    "What each rule catches, and how often it is right",
    "scoring.view_policyversion",
    PANELS,
    read,
    uses=("client",),
)
