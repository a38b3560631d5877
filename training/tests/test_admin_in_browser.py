"""What only a browser shows: that the page works under the content security policy."""

import numpy as np
import pytest
from django.conf import settings
from django.urls import reverse
from playwright.sync_api import expect


@pytest.fixture
def open_page(site, browser, client, mel, champion):
    """Opens the page of the champion for an ML engineer. Returns it, and what the browser had to say against it."""

    def open_page(width=1440):
        client.force_login(mel)
        cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
        complaints = []
        context = browser.new_context(viewport={"width": width, "height": 900})
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": site}])
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        address = site + reverse("admin:training_modelversion_change", args=[champion.pk])
        page.goto(address, wait_until="networkidle")
        return page, complaints

    return open_page


@pytest.mark.parametrize("width", [1440, 1024, 900])
def test_the_page_of_a_version_shows_every_plot_and_breaks_no_rule(open_page, bundle, width):
    page, complaints = open_page(width)
    plots = page.locator(".plots img")
    assert plots.count() == len(bundle.plots)
    assert plots.evaluate_all("images => images.map(image => image.naturalWidth)") == [660] * len(bundle.plots)
    # The style sheet arrived: the drawing of an interval has its height, and nothing is wider than the window.
    assert page.locator(".whisker").first.bounding_box()["height"] == 8
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert complaints == []
    plots.first.click()
    page.wait_for_url("**/plots/precision_recall.png")


def test_the_slider_counts_what_a_threshold_would_do_and_puts_it_into_the_form(open_page, champion, bundle):
    page, complaints = open_page()
    slider, field = page.locator("#threshold"), page.get_by_label("Review threshold:")

    def expect_counts(part, threshold):
        labels, scores, amounts = bundle.scored[part]
        fraud, alert = labels == 1, scores >= threshold
        for name, rows in {
            "true-negatives": ~fraud & ~alert,
            "false-positives": ~fraud & alert,
            "false-negatives": fraud & ~alert,
            "true-positives": fraud & alert,
        }.items():
            expect(page.locator(f"#{name}")).to_have_text(f"{rows.sum():,}")
        expect(page.locator("#precision")).to_have_text(f"{fraud[alert].mean():.4f}")
        expect(page.locator("#recall")).to_have_text(f"{alert[fraud].mean():.4f}")
        cost = 5 * alert.sum() + np.sum(amounts[fraud & ~alert], dtype=float)
        shown = float(page.locator("#cost").inner_text().split()[0].replace(",", ""))
        assert shown == pytest.approx(cost, abs=1)

    # It begins at the threshold in use; each step is another threshold, which both parts know.
    expect_counts("validation", champion.review_threshold)
    slider.press("ArrowLeft")
    page.get_by_role("button", name="Use this threshold").click()
    expect(page.get_by_text("save it to put it to use")).to_be_visible()
    lower = float(field.input_value())
    assert lower < champion.review_threshold
    expect_counts("validation", lower)
    # A threshold cannot be chosen on test rows.
    page.get_by_label("Rows").select_option("test")
    expect_counts("test", lower)
    expect(page.get_by_role("button", name="Use this threshold")).to_be_disabled()
    page.get_by_role("button", name="Save", exact=True).first.click()
    page.wait_for_url("**/modelversion/")
    champion.refresh_from_db()
    assert champion.review_threshold == lower
    assert complaints == []
