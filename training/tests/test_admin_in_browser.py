"""What only a browser shows: that the page works under the content security policy."""

import pytest
from django.conf import settings
from django.urls import reverse


@pytest.mark.parametrize("width", [1440, 1024])
def test_the_page_of_a_version_shows_every_plot_and_breaks_no_rule(site, browser, client, mel, champion, width):
    client.force_login(mel)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    address = site + reverse("admin:training_modelversion_change", args=[champion.pk])
    complaints = []
    context = browser.new_context(viewport={"width": width, "height": 900})
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": site}])
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address, wait_until="networkidle")
    plots = page.locator(".plots img")
    assert plots.count() == 4
    assert plots.evaluate_all("images => images.map(image => image.naturalWidth)") == [660] * 4
    # The style sheet arrived: the drawing of an interval has its height, and nothing is wider than the window.
    assert page.locator(".whisker").first.bounding_box()["height"] == 8
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert complaints == []
    plots.first.click()
    page.wait_for_url("**/plots/precision_recall.png")
