"""What people see and do, in a real browser in front of a real web server and worker."""

import io
import re
from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import pytest
from django.conf import settings
from django.contrib import admin
from django.urls import reverse
from django.utils import timezone
from PIL import Image, ImageStat
from playwright.sync_api import expect

from fraudsite.testing import fraudulent_payload, seed_payload
from monitoring.drift import measurement
from monitoring.models import DriftReport
from monitoring.rollups.updating import update as update_rollups
from monitoring.tests.support import fall_back, made_up_fields, predict
from scoring.clients import keys
from scoring.models import Label, Prediction, Review

QUEUE = reverse("admin:scoring_review_changelist")
DASHBOARD = reverse("dashboard")
WIDTHS = [1440, 1024]
# The first look at the dashboard makes the web server load Plotly, which a busy machine takes its time for.
expect.set_options(timeout=20_000)


class Visitor:
    """A person at a window of the browser. `complaints` is all that the browser had to say against our pages."""

    def __init__(self, browser, site, width=1440):
        self.complaints: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": 900}, base_url=site, color_scheme="light")
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("response", self._judge)

    def _judge(self, response):
        if response.status >= 400:
            self.complaints.append(f"{response.status} {response.url}")

    def log_in(self, user):
        self.page.goto("/")
        self.page.get_by_label("Username").fill(user.username)
        self.page.get_by_label("Password").fill(f"{user.username}-password")
        self.page.get_by_role("button", name="Log in").click()
        expect(self.page.get_by_role("button", name="Log out")).to_be_visible()
        return self

    def open_dashboard(self):
        self.page.get_by_role("link", name="Dashboard").first.click()
        self.frame = self.page.frame_locator("iframe.dashboard")
        expect(self.frame.locator(".updated")).to_contain_text("Updated")
        return self

    def tile(self, title):
        return self.frame.locator(".tile", has=self.page.get_by_text(title, exact=True)).locator("strong")

    def choose(self, group, option):
        self.page.locator(f".choices select[name={group}]").select_option(label=option)
        expect(self.frame.locator(".updated")).to_contain_text("Updated")

    @property
    def path(self):
        return urlsplit(self.page.url).path


@pytest.fixture
def post(site, acme):
    _, key = keys.create(client=acme)

    def post(payload):
        response = httpx.post(f"{site}/predict", json=payload, headers={"Authorization": f"Bearer {key}"}, timeout=10)
        assert response.status_code == 200
        update_rollups()  # which beat has a worker do every few seconds
        return response.json()

    return post


@pytest.fixture
def visit(browser, site, alice):
    return lambda width=1440: Visitor(browser, site, width).log_in(alice)


def review_page(review):
    return reverse("admin:scoring_review_change", args=[review.pk])


def test_an_analyst_works_through_the_queue_from_one_review_to_the_next(visit, post, alice):
    for amount in (10, 20):
        post(fraudulent_payload(Amount=amount))
    first, second = Review.objects.order_by("-expected_loss")
    visitor = visit()
    page = visitor.page
    page.get_by_role("link", name="Review queue 2").click()
    assert visitor.path == QUEUE
    page.locator("#result_list tbody a").first.click()
    assert visitor.path == review_page(first)
    page.get_by_role("button", name="Confirm fraud").click()
    expect(page.locator(".messagelist")).to_contain_text("1 labelled fraud.")
    assert visitor.path == review_page(second)
    page.get_by_role("button", name="Mark legitimate").click()
    expect(page.locator(".messagelist")).to_contain_text("1 labelled legitimate.")
    assert visitor.path == QUEUE
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".messagelist")).to_contain_text("1 undone: as before.")
    assert visitor.path == review_page(second)
    page.get_by_role("button", name="Mark legitimate").click()
    expect(page.locator(".messagelist")).to_contain_text("1 labelled legitimate.")
    assert dict(Label.objects.order_by("pk").values_list("transaction_id", "is_fraud")) == {
        first.pk: True,
        second.pk: False,
    }
    assert {label.author for label in Label.objects.all()} == {alice}
    assert visitor.complaints == []


def test_an_analyst_marks_many_reviews_at_once(visit, post):
    for amount in (10, 20, 30):
        post(fraudulent_payload(Amount=amount))
    visitor = visit()
    page = visitor.page
    page.goto(QUEUE)
    page.locator("#action-toggle").check()
    page.locator("#result_list tbody input[type=checkbox]").first.uncheck()
    page.get_by_label("Action:").select_option("Mark legitimate")
    page.get_by_role("button", name="Go", exact=True).click()
    expect(page.locator(".confirm")).to_contain_text("2 alerts will be labelled Legitimate")
    page.get_by_role("button", name="Confirm").click()
    expect(page.locator(".messagelist")).to_contain_text("2 labelled legitimate.")
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    assert list(Label.objects.values_list("is_fraud", flat=True)) == [False, False]
    assert visitor.complaints == []


def test_the_queue_says_what_is_new_without_moving_a_row(visit, post):
    post(fraudulent_payload(Amount=10))
    visitor = visit()
    page = visitor.page
    page.goto(QUEUE)
    row = page.locator("#result_list tbody tr")
    before = row.bounding_box()
    post(fraudulent_payload(Amount=20))
    expect(page.locator("#new-reviews")).to_contain_text("1 new since this page was shown.")
    expect(page.locator(".work .count")).to_have_text("2")
    expect(row).to_have_count(1)
    assert row.bounding_box() == before
    page.get_by_role("link", name="Show them").click()
    expect(row).to_have_count(2)
    expect(page.locator("#new-reviews")).to_be_hidden()
    assert visitor.complaints == []


@pytest.mark.parametrize("width", WIDTHS)
def test_the_pages_of_an_analyst_fit_the_window_and_break_no_rule(visit, post, width):
    post(seed_payload(transaction_id="order-1"))
    alert = post(fraudulent_payload())["id"]
    visitor = visit(width)
    for address in (
        reverse("admin:index"),
        QUEUE,
        reverse("admin:scoring_review_change", args=[alert]),
        reverse("admin:scoring_transaction_changelist"),
        reverse("admin:scoring_transaction_change", args=[alert]),
        reverse("admin:scoring_prediction_changelist"),
        reverse("admin:scoring_prediction_change", args=[alert]),
    ):
        visitor.page.goto(address, wait_until="networkidle")
        assert visitor.page.evaluate("document.documentElement.scrollWidth") <= width, address
        assert visitor.page.locator("#content-start").bounding_box()["width"] > 0.7 * width, address
        # A style sheet that did not arrive would leave the header white.
        assert visitor.page.locator("#header").evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(22, 38, 58)"
    assert visitor.complaints == []


def test_the_buttons_of_a_review_are_in_sight_without_scrolling(visit, post):
    post(fraudulent_payload())
    page = visit(1024).page
    page.goto(review_page(Review.objects.get()))
    for name in ("Confirm fraud", "Mark legitimate"):
        box = page.get_by_role("button", name=name).bounding_box()
        assert box["y"] + box["height"] < 900


@pytest.mark.parametrize("width", WIDTHS)
def test_the_dashboard_draws_everything_within_the_window_and_breaks_no_rule(visit, post, champion, acme, width):
    some = settings.DRIFT_MIN_SAMPLES
    predict(champion, acme, [timezone.now() - timedelta(minutes=2)] * some, fields=made_up_fields(some))
    post(seed_payload(Amount=88.25))
    post(fraudulent_payload(Amount=321.5))
    measurement.measure_drift(schema="ulb")
    visitor = visit(width).open_dashboard()
    frame = visitor.frame
    for plot, marks in {
        "traffic": ".point path",
        "scores": ".point path",
        "latency": ".js-line",
        "drift": ".point path",
    }.items():
        expect(frame.locator(f"#{plot} {marks}").first).to_be_attached()
    expect(visitor.tile("Transactions")).to_have_text(f"{some + 2:,}")
    expect(frame.locator("#alerts tbody tr").first).to_contain_text("321.50")
    expect(frame.locator("#feed")).to_contain_text("88.25")
    expect(frame.locator("#drift-note")).to_contain_text("the latest")
    for place in (visitor.page.locator("html"), frame.locator("html")):
        assert place.evaluate("page => page.scrollWidth <= page.ownerDocument.defaultView.innerWidth")
    assert visitor.complaints == []


def test_an_alert_on_the_dashboard_leads_to_its_review(visit, post):
    post(fraudulent_payload())
    visitor = visit().open_dashboard()
    visitor.frame.locator("#alerts tbody a").first.click()
    expect(visitor.page.get_by_role("button", name="Confirm fraud")).to_be_visible()
    assert visitor.path == review_page(Review.objects.get())


def test_the_dashboard_shows_a_new_transaction_by_itself(visit, post):
    post(seed_payload())
    visitor = visit().open_dashboard()
    expect(visitor.tile("Transactions")).to_have_text("1")
    post(seed_payload(Amount=77.75))
    expect(visitor.tile("Transactions")).to_have_text("2")
    expect(visitor.frame.locator("#feed tbody tr").first).to_contain_text("77.75")
    assert visitor.complaints == []


def test_a_paused_dashboard_stands_still_until_it_is_resumed(visit, post):
    post(seed_payload())
    visitor = visit().open_dashboard()
    visitor.page.get_by_label("Paused").check()
    expect(visitor.page.get_by_label("Paused")).to_be_checked()
    visitor.page.wait_for_url("**refresh=paused**")
    expect(visitor.frame.locator(".updated")).to_contain_text("Updated")
    before = visitor.frame.locator(".updated").inner_text()
    post(seed_payload(Amount=77.75))
    visitor.page.wait_for_timeout(6_000)
    assert visitor.frame.locator(".updated").inner_text() == before
    expect(visitor.tile("Transactions")).to_have_text("1")
    visitor.page.get_by_label("Paused").uncheck()
    expect(visitor.tile("Transactions")).to_have_text("2")


def test_a_wider_window_shows_more(visit, champion, acme, post):
    predict(champion, acme, [timezone.now() - timedelta(hours=3)] * 4)
    post(seed_payload())
    visitor = visit().open_dashboard()
    expect(visitor.tile("Transactions")).to_have_text("1")
    visitor.choose("window", "6 hours")
    expect(visitor.tile("Transactions")).to_have_text("5")
    assert visitor.complaints == []


def test_the_dashboard_says_how_to_begin_when_nothing_was_scored_yet(visit):
    visitor = visit().open_dashboard()
    empty = visitor.frame.locator(".empty")
    expect(empty).to_contain_text("No transaction has been scored yet")
    empty.get_by_role("link", name="Make a key").click()
    visitor.page.wait_for_url(f"**{reverse('admin:scoring_client_changelist')}")
    assert visitor.complaints == []
    assert not Prediction.objects.exists()


def test_the_dashboard_takes_over_the_theme_that_is_chosen_for_the_admin(visit):
    visitor = visit().open_dashboard()
    body = visitor.frame.locator("body")
    expect(body).to_have_css("background-color", "rgb(246, 248, 250)")
    for _ in range(3):  # automatic, light and dark follow each other, in an order that depends on the system
        visitor.page.locator(".theme-toggle:visible").click()
        if visitor.page.locator("html").get_attribute("data-theme") == "dark":
            break
    expect(body).to_have_css("background-color", "rgb(18, 18, 18)")


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_about_the_api_shows_every_call_and_breaks_no_rule(browser, site, width):
    visitor = Visitor(browser, site, width)
    visitor.page.goto("/api/v1/docs")
    expect(visitor.page.locator(".opblock-summary-path").filter(has_text=re.compile("predict"))).to_have_count(5)
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= width
    assert visitor.complaints == []


def brightness(place):
    """Of what is seen, from 0 to 255."""
    return ImageStat.Stat(Image.open(io.BytesIO(place.screenshot())).convert("L")).mean[0]


@pytest.mark.parametrize("how", ["system", "toggle"])
def test_plots_and_the_page_about_the_api_are_dark_where_that_is_wanted(browser, site, mel, champion, how):
    visitor = Visitor(browser, site).log_in(mel)
    page = visitor.page
    page.goto(reverse("admin:training_modelversion_change", args=[champion.pk]), wait_until="networkidle")
    assert brightness(page.locator(".plots img").first) > 180
    if how == "system":
        page.emulate_media(color_scheme="dark")
    else:
        while page.locator("html").get_attribute("data-theme") != "dark":
            page.locator(".theme-toggle:visible").click()
    for plot in page.locator(".plots img").all():
        assert brightness(plot) < 80
    page.goto("/api/v1/docs")
    expect(page.locator(".opblock-summary-path").first).to_be_visible()
    assert brightness(page) < 80
    expect(page.locator(".opblock-summary-description").first).to_have_css("color", re.compile(r"rgb\(2\d\d"))
    assert visitor.complaints == []


@pytest.mark.parametrize("width", [390])
def test_every_page_fits_a_phone(browser, site, post, ada, champion, acme, width):
    some = settings.DRIFT_MIN_SAMPLES
    predict(champion, acme, [timezone.now() - timedelta(minutes=2)] * some, fields=made_up_fields(some))
    fall_back(acme, [timezone.now()])
    measurement.measure_drift(schema="ulb")
    alert = post(fraudulent_payload(transaction_id="order-1"))["id"]
    visitor = Visitor(browser, site, width)
    page = visitor.page
    page.goto(reverse("admin:login"))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    visitor.log_in(ada)
    changed = [("scoring_review", alert), ("scoring_transaction", alert), ("scoring_prediction", alert)]
    changed += [("training_modelversion", champion.pk), ("monitoring_driftreport", DriftReport.objects.get().pk)]
    tables = [model._meta for model in admin.site._registry]
    listed = [
        table.label_lower.replace(".", "_")
        for table in tables
        if ada.has_perm(f"{table.app_label}.view_{table.model_name}")
    ]
    assert {"scoring_review", "scoring_pending", "training_trainingrun"} <= set(listed)
    addresses = [reverse(f"admin:{name}_change", args=[pk]) for name, pk in changed]
    addresses += [reverse(f"admin:{name}_changelist") for name in listed]
    addresses += [
        reverse("admin:training_trainingrun_add"),
        reverse("at_work", args=[champion.pk]),
        reverse("admin:training_schemaversion_of", args=["ulb"]),
        reverse("admin:index"),
    ]
    for address in addresses:
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address
        cut_off = (
            "cells => cells.filter(cell => cell.getBoundingClientRect().right > innerWidth).map(cell => cell.className)"
        )
        assert page.locator("#result_list tbody td, .model-report td").evaluate_all(cut_off) == [], address
    page.goto(QUEUE)
    box = page.locator("#result_list .field-reasons_shown").bounding_box()
    assert box["x"] + box["width"] <= width
    visitor.open_dashboard()
    expect(visitor.frame.locator("#alerts tbody tr").first).to_contain_text("12.50")
    assert visitor.frame.locator("html").evaluate("page => page.scrollWidth") <= width
    wider = "all => all.filter(one => one.scrollWidth > one.clientWidth).map(one => one.textContent)"
    assert visitor.frame.locator(".tile, .tile strong, .rows").evaluate_all(wider) == []
    for tab in ("Model", "Drift"):
        page.locator(".choices nav").get_by_role("link", name=tab).click()
        page.wait_for_url(f"**/dashboard/{tab.lower()}/**")
        expect(visitor.frame.locator(".updated")).to_contain_text("Updated")
        assert visitor.frame.locator("html").evaluate("page => page.scrollWidth") <= width
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    expect(visitor.frame.locator("#index .point path").first).to_be_attached()
    assert visitor.complaints == []
