"""The frame of all dashboards: a Dash application for each page, which shows what the page's `read` says.

What is chosen is in the address of the application, as in that of the page around it, so nothing is kept on a server.
"""

import inspect
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import plotly.graph_objects as go
from dash import dcc, html
from dash.dependencies import Input, Output
from django.conf import settings
from django.db import Error
from django.http import QueryDict
from django.templatetags.static import static
from django.urls import reverse
from django.utils import timezone
from django_plotly_dash import DjangoDash

from monitoring import access
from monitoring.dashboards import choices, figures
from monitoring.dashboards.choices import LONGEST_INTERVAL_S, Choice
from monitoring.rollups import reading
from training.core.figures import at

logger = logging.getLogger(__name__)

FIRST = "traffic"
NEVER_MS = int(timedelta(days=1).total_seconds() * 1000)


@dataclass(frozen=True)
class Panel:
    """A plot, unless `is_table`. It takes `span` of three columns. `help` says what a reader does with it. Plots have
    their numbers as CSV, tables only if `has_numbers`."""

    name: str
    title: str
    help: str = ""
    span: int = 1
    is_table: bool = False
    height: int = 230
    has_numbers: bool = False

    @property
    def has_csv(self) -> bool:
        return self.has_numbers or not self.is_table


@dataclass(frozen=True)
class Tile:
    """A number with its name and a remark. A `calm` one is quiet: nothing has to be done about it."""

    title: str
    value: str
    detail: str
    calm: bool = False


@dataclass
class Shown:
    """What a page shows: its tiles, the figures and tables of its panels by name, `titles` that differ from those of
    the panels, remarks below them, and `empty`, which takes the place of everything where there is nothing yet.
    `numbers` are the rows of a panel's CSV where they are not those of its figure. `notices` stand above all."""

    tiles: Sequence[Tile] = ()
    figures: Mapping[str, go.Figure] = field(default_factory=dict)
    tables: Mapping[str, Any] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, Callable[[], Iterable[Sequence[Any]]]] = field(default_factory=dict)
    notices: Sequence[str] = ()
    empty: Any = None

    def rows_of(self, panel: str) -> Iterable[Sequence[Any]]:
        """The rows of a panel's CSV."""
        if panel in self.numbers:
            return self.numbers[panel]()
        return figures.table_of(self.figures[panel]) if panel in self.figures else ()


@dataclass(frozen=True)
class Entry:
    """A field of the form that one page alone has: a number, or one of the `options`. Its name is in `choices.MORE`."""

    name: str
    label: str
    value: str
    options: Sequence[str] = ()


@dataclass(frozen=True)
class Page:
    """A dashboard. `permission` is that of people who may see it, empty for all staff who work for all clients. `uses`
    are the choices that it heeds, of "client" and "version". The form shows these, with the word for `no_version`, its
    `windows`, of which the `first` is shown if none is chosen, and what it `asks` besides. `read` says what it shows.
    One that `reads_rollups` says how far they are complete. It is not refreshed before its figures may have changed,
    which takes `every_s` seconds."""

    name: str
    title: str
    about: str
    permission: str
    panels: Sequence[Panel]
    read: Callable[[Choice], Shown]
    uses: Sequence[str] = ("client", "version")
    no_version: str = "all"
    first: str = choices.FIRST
    windows: Sequence[str] = tuple(choices.WINDOWS)
    asks: Callable[[Choice], Sequence[Entry]] = lambda _: ()
    reads_rollups: bool = True
    every_s: int = 0

    def choice(self, query: QueryDict, now: datetime) -> Choice:
        """What a query asks of this page."""
        return choices.read(query, now, first=self.first, windows=self.windows)

    def interval_s(self, choice: Choice) -> int:
        """How often it asks again; 0 for never."""
        return choice.interval_s and max(choice.interval_s, min(self.every_s, LONGEST_INTERVAL_S))

    @property
    def address_name(self) -> str:
        """The name of its address; the first page is also the dashboard's."""
        return "dashboard" if self.name == FIRST else f"dashboard_{self.name}"


def make(page: Page) -> DjangoDash:
    """The application of a page, whose name is the page's."""
    access.PERMISSIONS[page.name] = page.permission
    app = _made(page.name)
    app.layout = lambda: layout(page)
    plots = [panel for panel in page.panels if not panel.is_table]
    tables = [panel for panel in page.panels if panel.is_table]
    with_csv = [panel for panel in page.panels if panel.has_csv]

    @app.callback(
        [Output("updated", "children"), Output("notice", "children"), Output("empty", "children")]
        + [Output("tiles", "children"), Output("tick", "interval"), Output("body", "className")]
        + [Output(f"{panel.name}-title", "children") for panel in page.panels]
        + [Output(f"{panel.name}-note", "children") for panel in page.panels]
        + [Output(f"{panel.name}-csv", "href") for panel in with_csv]
        + [Output(panel.name, "figure") for panel in plots]
        + [Output(panel.name, "children") for panel in tables],
        [Input("tick", "n_intervals"), Input("address", "search")],
    )
    def refresh(_tick: int | None, search: Any, **_: Any) -> list[Any]:
        choice = page.choice(choices.of_address(search), timezone.now())
        shown, notice = read(page, choice)
        nothing = figures.said("Nothing in this window")
        return [
            f"Updated {at(choice.now)}",
            [html.P(text) for text in notice],
            shown.empty,
            [_tile(tile) for tile in shown.tiles],
            page.interval_s(choice) * 1000 or NEVER_MS,
            "hidden" if shown.empty else "",
            *(shown.titles.get(panel.name, panel.title) for panel in page.panels),
            *(shown.notes.get(panel.name, "") for panel in page.panels),
            *(f"{reverse('dashboard_csv', args=[page.name, panel.name])}?{choice.query()}" for panel in with_csv),
            *(shown.figures.get(panel.name, nothing) for panel in plots),
            *(shown.tables.get(panel.name, html.P("Nothing yet.", className="quiet")) for panel in tables),
        ]

    return app


def read(page: Page, choice: Choice) -> tuple[Shown, list[str]]:
    """What a page shows, and what there is to say about it: what was not understood, what is not counted yet, or that
    the database does not answer."""
    try:
        shown = page.read(choice)
        lacks = reading.progress().lacks(choice.window, now=choice.now) if page.reads_rollups else ""
    except Error as error:
        logger.warning("The dashboard %s could not be read: %s", page.name, error)
        failed, absent = figures.said("Could not be read"), html.P("Could not be read.", className="quiet")
        shown = Shown(
            figures={panel.name: failed for panel in page.panels if not panel.is_table},
            tables={panel.name: absent for panel in page.panels if panel.is_table},
        )
        return shown, ["The database does not answer; this page tries again by itself."]
    return shown, [*choice.faults, *shown.notices, *([lacks] if lacks and not shown.empty else [])]


def layout(page: Page) -> html.Div:
    """The page before its first answer."""
    return html.Div(
        [
            dcc.Location(id="address", refresh=False),
            dcc.Interval(id="tick", interval=settings.DASHBOARD_REFRESH_S * 1000),
            html.Div("Loading…", id="updated", className="updated"),
            html.Div(id="notice", className="notice"),
            html.Div(id="empty"),
            html.Div(
                [
                    html.Div(id="tiles", className="tiles"),
                    html.Main([_panel(page, panel) for panel in page.panels]),
                ],
                id="body",
            ),
        ],
        className="dashboard",
    )


def rows(titles: Sequence[str], cells: Sequence[Sequence[Any]]) -> html.Table:
    """A table of a panel."""
    head = html.Thead(html.Tr([html.Th(title) for title in titles]))
    return html.Table([head, html.Tbody([html.Tr([html.Td(cell) for cell in row]) for row in cells])])


def _panel(page: Page, panel: Panel) -> html.Section:
    title: list[Any] = [html.H2(panel.title, id=f"{panel.name}-title", title=panel.help)]
    if panel.has_csv:
        title.append(html.A("CSV", id=f"{panel.name}-csv", className="csv", title="The numbers of this panel as CSV"))
    if panel.is_table:
        body: Any = html.Div("Loading…", id=panel.name, className="rows quiet")
    else:
        body = dcc.Graph(
            id=panel.name,
            figure=figures.said("Loading…"),
            style={"height": f"{panel.height}px"},
            config={
                "displaylogo": False,
                "displayModeBar": True,
                "modeBarButtons": [["toImage"]],
                "toImageButtonOptions": {"format": "png", "filename": f"{page.name}-{panel.name}", "scale": 2},
            },
        )
    note = html.P(id=f"{panel.name}-note", className="quiet")
    return html.Section([html.Div(title, className="title"), note, body], className=f"panel span{panel.span}")


def _tile(tile: Tile) -> html.Div:
    parts = [html.Span(tile.title), html.Strong(tile.value), html.Small(tile.detail)]
    return html.Div(parts, className="tile calm" if tile.calm else "tile")


def _made(name: str) -> DjangoDash:
    """The application. To find the module that makes it, it has `inspect` look for the sources of the whole stack, half
    a second of work at the start of each process. Here it is told the module."""
    whole, inspect.stack = inspect.stack, lambda: [None, (sys.modules[__name__],)]  # type: ignore
    try:
        return DjangoDash(name, external_stylesheets=[static("monitoring/dashboard.css")])
    finally:
        inspect.stack = whole
