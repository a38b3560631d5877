"""The dashboards of rules and of reviews, with the requests that their pages send."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from monitoring.dashboards.pages import PAGES
from monitoring.matured.models import OutcomeCount
from monitoring.rollups.updating import update
from monitoring.tests.support import predict
from monitoring.tests.test_dashboard import answer_of, tiles, words
from scoring.models import Decision, PolicyVersion, Review, RuleCount, RuleOfClientCount, SecondOpinion
from scoring.reviews import labelling

pytestmark = pytest.mark.django_db

NEW = [page for page in PAGES if page.permission]


@pytest.fixture
def supervisor(client, ada):
    client.force_login(ada)
    return client


def data_of(answer, plot):
    return answer[plot]["figure"]["data"]


def test_rules_that_have_stopped_no_fraud_say_so(supervisor, champion):
    for by, name in (("", ""), ("rule", "large")):
        OutcomeCount.objects.create(
            day=timezone.now().date(), schema="ulb", model_version=champion, by=by, name=name, decision="review", rows=4
        )
    answer = answer_of(supervisor, "window=1h&schema=ulb", "rules")
    [said] = answer["money"]["figure"]["layout"]["annotations"]
    assert said["text"].replace("<br>", " ") == "No fraud that these rules stopped is known yet"


def test_rules_show_what_matched_what_is_idle_and_which_say_the_same(supervisor, champion, acme):
    now = timezone.now()
    policy = PolicyVersion.objects.create(schema="ulb", number=3, document={})
    for rule, matched in (("large", 8), ("night", 2), ("idle", 0)):
        RuleCount.objects.create(
            minute=now.replace(second=0, microsecond=0) - timedelta(minutes=1),
            policy=policy,
            rule=rule,
            decided=100,
            matched=matched,
            absent=0,
            failed=matched // 8,
        )
    predict(champion, acme, [now - timedelta(minutes=1)] * 4, decision=Decision.REVIEW)
    keys = list(Review.objects.values_list("pk", flat=True))
    Review.objects.filter(pk__in=keys[:3]).update(rules=" large ")
    Review.objects.filter(pk=keys[3]).update(rules=" large night ")
    update()
    answer = answer_of(supervisor, "window=1h&schema=ulb", "rules")
    shown = tiles(answer)
    assert shown["Rules"][0] == "3"
    assert shown["Matches"] == ("10", "most by large")
    assert shown["Never matched"] == ("1", "idle")
    assert shown["Failing"] == ("1", "large")
    assert [trace["name"] for trace in data_of(answer, "firings")] == ["large", "night"]
    [heat] = data_of(answer, "overlap")
    assert (heat["x"], heat["z"]) == (["large", "night"], [[1.0, 0.25], [1.0, 1.0]])
    [bars] = data_of(answer, "share")
    assert dict(zip(bars["y"], bars["x"], strict=True)) == {"large": 0.08, "night": 0.02, "idle": 0.0}
    # The first at the top, which Plotly forgets of `autorange` where it drew the empty plot of a loading page before.
    assert answer["share"]["figure"]["layout"]["yaxis"]["range"] == [2.5, -0.5]
    assert answer["overlap"]["figure"]["layout"]["yaxis"]["range"] == [1.5, -0.5]


def test_rules_of_a_client_are_of_its_transactions(supervisor, champion, acme):
    policy = PolicyVersion.objects.create(schema="ulb", number=3, document={})
    minute = timezone.now().replace(second=0, microsecond=0) - timedelta(minutes=1)
    nothing = {"decided": 0, "matched": 0, "absent": 0, "failed": 0}
    RuleCount.objects.create(minute=minute, policy=policy, rule="large", **nothing | {"decided": 100, "matched": 8})
    of_client = {"minute": minute, "policy": policy, "client": acme.pk}
    RuleOfClientCount.objects.create(**of_client, rule="", **nothing | {"decided": 40})
    RuleOfClientCount.objects.create(**of_client, rule="large", **nothing | {"matched": 2})
    answer = answer_of(supervisor, f"window=1h&schema=ulb&client={acme.pk}", "rules")
    assert tiles(answer)["Matches"] == ("2", "most by large")
    [bars] = data_of(answer, "share")
    assert dict(zip(bars["y"], bars["x"], strict=True)) == {"large": 0.05}
    assert "of all clients" not in answer["precision-note"]["children"]


def test_reviews_show_what_waits_who_decided_and_how_it_turned_out(supervisor, champion, acme, alice, mel):
    now = timezone.now()
    predict(champion, acme, [now - timedelta(minutes=5)] * 4, decision=Decision.REVIEW)
    first, second, third, fourth = Review.objects.all()
    for review, is_fraud in ((first, True), (second, False), (third, True)):
        labelling.close_review(review=review, is_fraud=is_fraud, reviewer=alice)
    SecondOpinion.objects.create(
        review=first, first=alice, first_is_fraud=True, second=mel, is_fraud=True, given_at=now, state="agreed"
    )
    Review.objects.filter(pk=fourth.pk).update(opened_at=now - timedelta(days=2), due_at=now - timedelta(hours=1))
    update()
    answer = answer_of(supervisor, "window=1h&schema=ulb", "review")
    shown = tiles(answer)
    assert shown["Open reviews"][0] == shown["Late"][0] == "1"
    assert shown["Oldest"][0] == "2 days"
    assert shown["Alert precision"] == ("67%", "2 of 3 reviewed confirmed")
    assert shown["Agreement"][1] == "kappa of 1 second opinions"
    came, decided = data_of(answer, "inflow")
    assert (sum(came["y"]), sum(decided["y"])) == (4, 3)
    assert [(trace["name"], trace["x"]) for trace in data_of(answer, "analysts")] == [
        ("Confirmed fraud", [2]),
        ("Legitimate", [1]),
    ]
    [due] = data_of(answer, "due")
    assert dict(zip(due["y"], due["x"], strict=True))["late"] == 1


@pytest.mark.parametrize("page", NEW, ids=lambda page: page.name)
def test_without_anything_a_page_says_so(supervisor, champion, page):
    answer = answer_of(supervisor, "window=90d", page.name)
    assert "Updated" in words(answer["updated"]["children"])[0]
    for panel in page.panels:
        plot = reverse("dashboard_csv", args=[page.name, panel.name])
        assert supervisor.get(plot).status_code == (200 if panel.has_csv else 404)


@pytest.mark.parametrize("page", NEW, ids=lambda page: page.name)
def test_a_page_is_for_those_with_its_permission(client, django_user_model, page):
    person = django_user_model.objects.create(username="new", is_staff=True)
    client.force_login(person)
    of_page = {"ident": page.name}
    addresses = [
        reverse(page.address_name),
        reverse("dashboard_csv", args=[page.name, page.panels[0].name]),
        reverse("the_django_plotly_dash:app-layout", kwargs=of_page),
        reverse("the_django_plotly_dash:app-main", kwargs=of_page),
    ]
    assert {client.get(address).status_code for address in addresses} == {403}
    assert page.title not in words_of_tabs(client)


def words_of_tabs(client):
    page = client.get(reverse("dashboard")).content.decode()
    return page[page.index('aria-label="Dashboards"') : page.index("</nav>", page.index('aria-label="Dashboards"'))]
