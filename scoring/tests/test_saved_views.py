"""Saved views of the review list, one's own and shared ones."""

import pytest
from django.urls import reverse

from scoring.models import SavedView

pytestmark = pytest.mark.django_db
LIST = reverse("admin:scoring_review_changelist")
VIEWS = reverse("admin:scoring_review_views")


def act(client, word, **given):
    return client.post(VIEWS, {"act": word} | given, follow=True)


def test_a_view_keeps_filters_search_and_order_but_not_the_page(client, alice, alert):
    alert(0.9)
    client.force_login(alice)
    page = act(client, "save", name="  Large  ones ", query="p=2&schema=ulb&amount=1000..5000&o=-2").content.decode()
    view = SavedView.objects.get()
    assert (view.name, view.owner, view.is_shared) == ("Large ones", alice, False)
    assert view.query == "amount=1000..5000&o=-2&schema=ulb"
    chip = '<a href="?amount=1000..5000&amp;o=-2&amp;schema=ulb" aria-current="true">Large ones</a>'
    assert chip in page, "the page that follows is the view"
    assert 'aria-current="true">Large ones' not in client.get(LIST, {"schema": "ulb"}).content.decode()


def test_a_view_is_seen_by_others_only_if_it_is_shared(client, alice, sam, alert):
    mine = SavedView.objects.create(owner=alice, name="My own", query="schema=ulb")
    SavedView.objects.create(owner=alice, name="Ours", query="schema=payments", is_shared=True)
    client.force_login(sam)
    page = client.get(LIST).content.decode()
    assert "Ours" in page
    assert 'title="Shared by alice"' in page
    assert "My own" not in page
    for word in ("change", "delete"):
        for view in SavedView.objects.all():
            assert act(client, word, view=view.pk, name="Taken").status_code == 404
    assert set(SavedView.objects.values_list("name", flat=True)) == {"My own", "Ours"}
    client.force_login(alice)
    act(client, "change", view=mine.pk, name="Mine no more", is_shared="on")
    client.force_login(sam)
    assert "Mine no more" in client.get(LIST).content.decode()


def test_the_owner_deletes_a_view_and_a_supervisor_one_that_is_shared(client, alice, sue):
    own = SavedView.objects.create(owner=alice, name="Mine", query="schema=ulb")
    shared = SavedView.objects.create(owner=alice, name="Ours", query="schema=ulb", is_shared=True)
    client.force_login(sue)
    assert act(client, "delete", view=own.pk).status_code == 404
    act(client, "delete", view=shared.pk)
    client.force_login(alice)
    act(client, "delete", view=own.pk)
    assert not SavedView.objects.exists()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"name": "", "query": "schema=ulb"}, "a name of at most 40"),
        ({"name": "x" * 41, "query": "schema=ulb"}, "a name of at most 40"),
        ({"name": "All", "query": "p=3"}, "nothing to keep"),
        ({"name": "Long", "query": "q=" + "x" * 1_000}, "at most 1,000 characters"),
        ({"name": "Card", "query": "q=4111111111111111"}, "never kept"),
        ({"name": "taken", "query": "schema=ulb"}, "There is a view of the name taken"),
        ({"name": "One more", "query": "schema=ulb"}, "You have 1 views"),
    ],
)
def test_a_view_that_cannot_be_kept_says_why(client, alice, settings, given, told):
    SavedView.objects.create(owner=alice, name="taken", query="schema=payments")
    settings.SAVED_VIEWS_LIMIT = 1 if "You have" in told else 50
    client.force_login(alice)
    assert told in act(client, "save", **given).content.decode()
    assert SavedView.objects.count() == 1


def test_only_those_who_see_reviews_keep_views(client, otto, alice):
    client.force_login(otto)
    assert act(client, "save", name="Large", query="schema=ulb").status_code == 403
    client.force_login(alice)
    assert client.get(VIEWS).status_code == 405
    assert act(client, "delete", view="x").status_code == 404


def test_new_alerts_are_announced_under_the_filters_of_a_view(client, alice, alert):
    alert(0.9)
    client.force_login(alice)
    since = client.get(LIST, {"schema": "payments"}).context["since"].isoformat()
    alert(0.8)
    alert(0.8, schema="payments")
    polled = client.get(reverse("admin:scoring_review_open"), {"schema": "payments", "since": since, "queues": "1"})
    assert polled.json()["new"] == 1
