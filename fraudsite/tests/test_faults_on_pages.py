"""Error pages, and filters that no database can look up."""

import re

import pytest
from django.contrib import admin
from django.test import Client as HttpClient
from django.test import RequestFactory
from django.urls import reverse
from django.utils import timezone

from fraudsite.testing import seed_payload
from scoring.api.problems import failed
from scoring.models import Prediction, Transaction
from scoring.reviews import labelling
from scoring.worker.opening import review_of

pytestmark = pytest.mark.django_db

ABSURD_DATES = [
    {"year": "9999"},
    {"year": "0"},
    {"year": "10000"},
    {"year": "x"},
    {"year": "2026", "month": "13"},
    {"year": "2026", "month": "2", "day": "31"},
    {"month": "13"},
    {"year": "9" * 30},
    {"year": "2026", "month": "1", "day": "99"},
]


def lists():
    return [
        (model, reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"))
        for model in admin.site._registry
    ]


@pytest.fixture
def root(admin_user, client):
    client.force_login(admin_user)
    return client


def test_an_absurd_date_shows_the_list_without_it(root):
    dated = [(site, url) for (model, url) in lists() if (site := admin.site._registry[model]).date_hierarchy]
    assert len(dated) >= 4
    for site, url in dated:
        for parts in ABSURD_DATES:
            filters = {f"{site.date_hierarchy}__{part}": value for part, value in parts.items()}
            assert root.get(url, filters, follow=True).status_code == 200, (url, parts)


@pytest.mark.parametrize("asked", [{"q": "\0"}, {"q": "'\""}, {"p": "9" * 40}, {"p": "x"}, {"o": "x.99"}])
def test_every_list_takes_absurd_searches_and_pages(root, asked):
    for _, url in lists():
        assert root.get(url, asked, follow=True).status_code == 200, url


@pytest.mark.parametrize("asked", [{"attempts": "9" * 40}, {"attempts": "x"}, {"due_at__gte": "never"}])
def test_a_filter_that_no_column_can_hold_is_no_failure(root, asked):
    assert root.get(reverse("admin:scoring_pending_changelist"), asked, follow=True).status_code == 200


def test_a_page_that_does_not_exist_has_the_frame_and_a_way_back(client, alice):
    assert 'href="/admin/"' in client.get("/nowhere").content.decode()
    client.force_login(alice)
    response = client.get("/nowhere")
    text = response.content.decode()
    assert response.status_code == 404
    for words in ("Not found", "Review queue", "To the start page"):
        assert words in text


def test_a_page_that_a_role_does_not_allow_has_the_frame_and_a_way_back(client, alice):
    client.force_login(alice)
    response = client.get(reverse("admin:auth_user_changelist"))
    assert response.status_code == 403
    assert "Your role does not allow this page" in response.content.decode()
    assert "Review queue" in response.content.decode()


def test_a_failure_has_the_frame_and_asks_no_database(django_assert_num_queries):
    with django_assert_num_queries(0):
        response = failed(RequestFactory().get("/admin/"))
    assert response.status_code == 500
    assert 'id="header"' in response.content.decode()
    assert 'href="/admin/"' in response.content.decode()


def test_an_old_form_and_a_strange_host_have_the_frame_too(alice):
    strict = HttpClient(enforce_csrf_checks=True)
    for response in (
        strict.post(reverse("admin:login"), {}),
        strict.get("/admin/", headers={"host": "evil.example"}),
    ):
        assert response.status_code in (400, 403)
        assert 'id="header"' in response.content.decode()


def test_no_link_leads_an_analyst_to_a_page_that_she_may_not_see(
    client, alice, acme, champion, alert_of, redis_server, settings
):
    settings.EXPLAIN_DEADLINE_MS = 10  # there is no worker that would answer
    alert_of(acme, champion, alice)
    client.force_login(alice)
    seen: set[str] = set()
    waiting = [reverse("admin:index")]
    while waiting and len(seen) < 120:
        url = waiting.pop(0)
        response = client.get(url)
        assert response.status_code in (200, 302), url
        if "text/html" not in response.headers["Content-Type"]:
            continue
        for link in re.findall(r'<a [^>]*href="([^"#]+)"', response.content.decode()):
            path = link.replace("&amp;", "&")
            if path.startswith("/admin/") and "?" not in path and path not in seen:
                seen.add(path)
                waiting.append(path)
    assert any("/review/" in path for path in seen)


@pytest.fixture
def alert_of():
    def make(acme, champion, reviewer):
        for number in range(2):
            row = Transaction.objects.create(
                client=acme,
                schema="ulb",
                amount=12.5,
                fields=seed_payload(),
                body_sha256="0" * 64,
                event_time=timezone.now(),
                transaction_id=f"order-{number}",
            )
            prediction = Prediction.objects.create(
                transaction=row,
                model_version=champion,
                fraud_score=0.9,
                decision="review",
                threshold=0.5,
                reasons=[{"feature": "V14", "contribution": 3.25}],
                latency_ms=4.0,
            )
            review = review_of(prediction)
            review.save(force_insert=True)
        labelling.close_review(review=review, is_fraud=True, reviewer=reviewer)

    return make
