"""Labels: how they are shown, and how they come to be."""

import pytest
from django.urls import reverse

from scoring import services
from scoring.models import Label

pytestmark = pytest.mark.django_db

LABELS = reverse("admin:scoring_label_changelist")
BADGES = {True: '<span class="badge fraud">Fraud</span>', False: '<span class="badge legitimate">Legitimate</span>'}


def page_of(client, row):
    return client.get(reverse(f"admin:scoring_{row._meta.model_name}_change", args=[row.pk])).content.decode()


@pytest.mark.parametrize("is_fraud", [True, False])
def test_a_label_is_a_word_in_its_colour_and_never_a_tick_or_a_cross(client, alice, alert, is_fraud):
    review = alert(0.9)
    services.close_review(review=review, is_fraud=is_fraud, reviewer=alice)
    label = Label.objects.get()
    client.force_login(alice)
    reviews = client.get(reverse("admin:scoring_review_changelist"), {"state": "all"}).content.decode()
    for page in (client.get(LABELS).content.decode(), page_of(client, label), page_of(client, review), reviews):
        assert BADGES[is_fraud] in page
        assert BADGES[not is_fraud] not in page
        assert "icon-yes" not in page
        assert "icon-no" not in page


def test_labels_are_filtered_by_their_words(client, alice, alert):
    for is_fraud in (True, False, False):
        services.close_review(review=alert(0.9), is_fraud=is_fraud, reviewer=alice)
    client.force_login(alice)
    page = client.get(LABELS, {"is_fraud__exact": "0"}).content.decode()
    assert ">Fraud</a>" in page
    assert ">Legitimate</a>" in page
    assert page.count(BADGES[False]) == 2
    assert BADGES[True] not in page
