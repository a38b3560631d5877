"""What-if: what the page counts with, its figures in a browser, who may see it, and the draft it makes."""

import json
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from django.urls import reverse
from django.utils import timezone

from scoring.decisions import Decision, Thresholds
from scoring.models import Label, PolicyVersion, Prediction, Transaction
from scoring.policies import bins, capacity, checking, score_counts, versions, what_if
from scoring.policies.document import Document, Segment
from training.core.schema import load_schema

HOUR = timedelta(hours=1)
LARGE = Segment(name="large", when="Amount > 100", review=0.3)
DOCUMENT = Document(review=0.6, block=0.9, segments=[LARGE])
ADDRESS = reverse("admin:scoring_policyversion_what_if", args=["ulb"])


def predict(champion, client, scores, *, policy=None, evidence=None, amounts=None, decision=Decision.APPROVE, ago=HOUR):
    """Stored predictions with these scores, within `ago` of now."""
    now = timezone.now()
    times = [now - ago * (1 - index / len(scores)) for index in range(len(scores))]
    amounts = [10.0] * len(scores) if amounts is None else amounts
    rows = Transaction.objects.bulk_create(
        Transaction(client=client, schema="ulb", amount=amount, fields={}, body_sha256="0" * 64, event_time=time)
        for amount, time in zip(amounts, times, strict=True)
    )
    return Prediction.objects.bulk_create(
        Prediction(
            transaction=row,
            model_version=champion,
            fraud_score=score,
            decision=decision,
            threshold=0.6,
            policy=policy,
            evidence=evidence,
            latency_ms=1.0,
            created_at=time,
        )
        for row, score, time in zip(rows, scores, times, strict=True)
    )


def label(predictions, is_fraud=True):
    now = timezone.now()
    Label.objects.bulk_create(
        Label(transaction_id=row.pk, is_fraud=is_fraud, verdict=is_fraud, source="chargeback", created_at=now)
        for row in predictions
    )


def go_live(document=DOCUMENT):
    version = versions.draft(schema="ulb", by="ada", content=document)
    versions.activate(version, by="ada")
    return version


def counted(champion, document=DOCUMENT):
    score_counts.update()
    return what_if.of_live(champion, document, timezone.now() - 48 * HOUR, timezone.now())


@pytest.fixture
def traffic(champion, acme):
    """Rows of a policy with a segment; some that a rule decided; some frauds, one of which was taken back."""
    random = np.random.default_rng(5)
    policy = go_live()
    made = []
    for segment, basis in (("", "score"), ("large", "score"), ("", "rule")):
        evidence = ({"segment": segment} if segment else {}) | ({"basis": basis} if basis != "score" else {})
        scores, amounts = random.uniform(0, 1, 60) ** 3, random.uniform(1, 200, 60).round(2)
        rows = predict(
            champion, acme, scores.tolist(), policy=policy, evidence=evidence or None, amounts=amounts.tolist(),
            decision=Decision.BLOCK if basis == "rule" else Decision.APPROVE, ago=30 * HOUR,
        )  # fmt: skip
        fraud = random.uniform(0, 1, 60) < scores
        label([row for row, is_fraud in zip(rows, fraud, strict=True) if is_fraud])
        fraud[0] = False
        label(rows[:1], is_fraud=None)
        made += [(segment, basis, *row) for row in zip(scores, amounts, fraud, strict=True)]
    return made


def total(rows):
    losses = [amount for *_, amount, is_fraud in rows if is_fraud]
    return [len(rows), len(losses), sum(losses), sum(loss**2 for loss in losses)]


def group(one):
    return [one.rows, one.frauds, one.amount, one.square]


@pytest.mark.parametrize("edge", [0.0004, 0.3, 0.6, 0.9, 0.9951])
def test_it_counts_what_counting_one_by_one_would(champion, traffic, edge):
    found = counted(champion)
    assert (found.rows, found.displaced) == (180, 0)
    for part in found.parts:
        by_score = [row for row in traffic if row[:2] == (part.name, "score")]
        sums = np.sum([group(one) for number, one in part.bins.items() if found.edges[number] >= edge] or [[0] * 4], 0)
        assert sums == pytest.approx(total([row for row in by_score if row[2] >= edge]))
        by_rule = [row for row in traffic if row[:2] == (part.name, "rule")]
        assert {name: group(one) for name, one in part.fixed.items()} == (
            {"block": pytest.approx(total(by_rule))} if by_rule else {}
        )


def test_each_edge_belongs_to_the_bin_that_begins_there(champion, acme):
    edges = bins.edges()
    assert edges == sorted(edges)
    assert len(edges) == bins.COUNT
    assert bins.bins_of(np.array(edges)).tolist() == list(range(bins.COUNT))
    assert [bins.nearest(edge) for edge in edges[::50]] == list(range(0, bins.COUNT, 50))
    predict(champion, acme, edges[::7])
    [part] = counted(champion, Document()).parts
    assert {number: one.rows for number, one in part.bins.items()} == dict.fromkeys(range(0, bins.COUNT, 7), 1)


def test_counting_again_counts_nothing_twice_and_what_came_late(champion, acme):
    noon = timezone.now().replace(minute=0, second=0, microsecond=0)
    made = predict(champion, acme, [0.1, 0.2, 0.3], ago=timedelta(seconds=1))
    for row, created_at in zip(made, (noon - HOUR, noon, noon - timedelta(seconds=1)), strict=True):
        Prediction.objects.filter(pk=row.pk).update(created_at=created_at)
    late = Prediction.objects.get(pk=made[2].pk)
    Prediction.objects.filter(pk=late.pk).delete()
    assert [score_counts.update(now=noon + timedelta(seconds=after)) for after in (1, 2)] == [2, 2]
    assert what_if.of_live(champion, Document(), noon - 2 * HOUR, noon + HOUR).rows == 2
    late.save(force_insert=True)
    assert [score_counts.update(now=noon + timedelta(seconds=after)) for after in (90, 200)] == [2, 1]
    assert what_if.of_live(champion, Document(), noon - 2 * HOUR, noon + HOUR).rows == 3


def test_a_first_count_takes_many_runs_the_latest_hours_first_and_the_page_says_how_far_it_is(
    client, champion, acme, rita
):
    predict(champion, acme, [0.4] * 6, ago=6 * HOUR)
    client.force_login(rita)

    def page():
        return client.get(ADDRESS, {"source": "live", "days": "1"}).content.decode()

    assert "No scores have been counted yet." in page()
    begun_with: list[Any] = []
    while not begun_with or not score_counts.progress().is_whole:
        score_counts.update(seconds=0)  # the latest hour, and one more
        begun_with.append(score_counts.progress().since)
        assert ("of the period is counted" in page()) is not score_counts.progress().is_whole
    assert begun_with == sorted(set(begun_with), reverse=True)
    assert len(begun_with) > 3
    assert "<b>6</b>" in page()


def test_counts_that_were_deleted_are_not_made_again(champion, acme, settings):
    settings.COUNTS_RETENTION_DAYS = 2
    predict(champion, acme, [0.1, 0.2], ago=144 * HOUR)
    assert score_counts.update() == 0
    assert score_counts.progress().is_whole


def test_after_a_time_without_beat_hours_that_a_fast_clock_had_begun_are_counted_whole(champion, acme):
    noon = timezone.now().replace(minute=0, second=0, microsecond=0)
    early, late = predict(champion, acme, [0.1, 0.2], ago=timedelta(seconds=1))
    Prediction.objects.filter(pk=early.pk).update(created_at=noon)
    Prediction.objects.filter(pk=late.pk).update(created_at=noon - timedelta(minutes=1))
    kept = Prediction.objects.get(pk=late.pk)
    Prediction.objects.filter(pk=kept.pk).delete()
    score_counts.update(now=noon - timedelta(minutes=5))
    kept.save(force_insert=True)
    score_counts.update(now=noon + timedelta(minutes=70))
    assert what_if.of_live(champion, Document(), noon - 2 * HOUR, noon + HOUR).rows == 2


def test_transactions_of_a_policy_with_other_segments_count_as_those_without(champion, acme):
    before = go_live(Document(segments=[Segment(name="large", when="Amount > 900")]))
    predict(champion, acme, [0.4, 0.5], policy=before, evidence={"segment": "large"})
    go_live(DOCUMENT)
    found = counted(champion)
    assert found.displaced == 2
    assert {part.name: len(part.bins) for part in found.parts} == {"": 2, "large": 0}


def test_the_reviews_that_can_be_done_are_a_number_above_none():
    [fault] = checking.faults(Document(capacity=0.0), load_schema("ulb"))
    assert (fault.where, "above 0" in fault.message) == ("capacity", True)


@pytest.mark.parametrize("appetite", ["balanced", "cautious", "bold"])
def test_the_chosen_thresholds_hold_in_the_draft_whatever_the_appetite(champion, appetite):
    live = Document(review=0.6, block=0.9, appetite=appetite, segments=[LARGE])
    moves = {"": {"review": 0.25, "block": 0.8}, "large": {"review": 0.1, "challenge": 0.05}}
    made = what_if.changed(live, moves, 50.0)
    of_model = Thresholds(0.5, 0.7)
    holding = [made.thresholds(of_model), made.thresholds(of_model, made.segments[0])]
    assert [of.review for of in holding] == pytest.approx([0.25, 0.1])
    assert [of.block for of in holding] == pytest.approx([0.8, 0.8])
    assert holding[1].challenge == pytest.approx(0.05)
    assert (made.appetite, made.capacity, made.segments[0].when) == (appetite, 50.0, LARGE.when)


def test_with_few_known_frauds_the_page_counts_with_the_test_rows_and_says_so(client, champion, acme, rita):
    label(predict(champion, acme, [0.5] * 3))
    score_counts.update()
    client.force_login(rita)
    page = client.get(ADDRESS).content.decode()
    assert "the test rows of" in page
    assert "3 known frauds only" in page
    page = client.get(ADDRESS, {"source": "live", "days": "7"}).content.decode()
    assert "transactions that" in page
    assert "What has no label counts as legitimate" in page


def test_the_test_rows_are_counted_as_they_were_scored(champion, bundle):
    rows = bundle.scored["test"]
    [part] = what_if.of_test_rows(champion, Document()).parts
    edges = bins.edges()
    place = bins.nearest(champion.review_threshold)
    above = [one for number, one in part.bins.items() if number >= place]
    assert sum(one.rows for one in above) == (rows.scores >= edges[place]).sum()
    assert sum(one.frauds for one in above) == rows.labels[rows.scores >= edges[place]].sum()
    assert part.own["review"] == place


@pytest.mark.parametrize(("who", "may"), [("alice", False), ("mel", False), ("rita", True), ("ada", True)])
def test_everybody_may_ask_what_if_and_only_some_make_a_draft_of_it(client, champion, request, who, may):
    go_live()
    client.force_login(request.getfixturevalue(who))
    page = client.get(ADDRESS)
    assert page.status_code == 200
    assert (b"Make this the draft policy" in page.content) is may
    wish = json.dumps({"moves": {"": {"review": 0.4}, "large": {"block": 0.7}}, "capacity": 40})
    response = client.post(ADDRESS, {"wish": wish, "reason": "Too many wait"})
    assert response.status_code == (302 if may else 403)
    drafts = PolicyVersion.objects.filter(state="draft")
    assert drafts.count() == may
    if may:
        made = versions.content(drafts[0])
        assert (made.review, made.block, made.capacity) == (0.4, 0.9, 40)
        assert (made.segments[0].review, made.segments[0].block) == (0.3, 0.7)
        assert drafts[0].changes.get().reason == "Too many wait"
        assert response.url == reverse("admin:scoring_policyversion_change", args=[drafts[0].pk])


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ("", "No draft was made"),
        ('{"moves": {"": {"review": "high"}}}', "Expected `float | null`"),
        ('{"moves": {"gone": {"review": 0.5}}}', "no segment gone any more"),
        ('{"moves": {"": {"appetite": 0.5}}}', "A threshold is one of"),
    ],
)
def test_a_wish_that_cannot_be_read_makes_no_draft_and_says_why(client, champion, rita, wish, said):
    client.force_login(rita)
    page = client.post(ADDRESS, {"wish": wish}, follow=True).content.decode().replace("&#x27;", "'")
    assert said in page
    assert not PolicyVersion.objects.exists()


def test_it_needs_a_known_schema_and_says_when_there_is_no_champion(client, rita):
    client.force_login(rita)
    assert client.get(ADDRESS.replace("ulb", "nowhere")).status_code == 404
    assert "has no champion" in client.get(ADDRESS).content.decode()


@pytest.mark.django_db(transaction=True)
def test_the_sliders_show_what_counting_by_hand_gives_and_make_a_draft_by_the_keyboard(browser, site, rita, traffic):
    score_counts.update()
    page = browser.new_page(viewport={"width": 1024, "height": 800})
    complaints = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{site}{reverse('admin:login')}")
    page.fill("#id_username", "rita")
    page.fill("#id_password", "rita-password")
    page.press("#id_password", "Enter")
    page.goto(f"{site}{ADDRESS}?source=live&days=7")
    page.locator("#dial-review").focus()
    for _ in range(20):
        page.keyboard.press("ArrowLeft")  # from 0.6 to 0.58
    for name, cost in (("missed", "50"), ("fixed", "3"), ("blocked", "4"), ("reviewed", "2"), ("review", "1.5")):
        page.fill(f"#cost-{name}-number", cost)

    def fate(segment, basis, score):
        return "block" if basis == "rule" or score >= 0.9 else "review" if score >= (0.3 if segment else 0.58) else ""

    alerts = [row for row in traffic if fate(*row[:3])]
    caught, frauds = [row for row in alerts if row[4]], [row for row in traffic if row[4]]
    days = (lambda moments: (max(moments) - min(moments)).total_seconds() / 86_400)(
        Prediction.objects.values_list("created_at", flat=True)
    )
    honest = {kind: sum(fate(*row[:3]) == kind and not row[4] for row in alerts) for kind in ("block", "review")}
    saved = sum(0.5 * row[3] + 3 for row in caught)
    gain = saved - 1.5 * len(alerts) - 4 * honest["block"] - 2 * honest["review"]
    cell = {row.split("\t")[0]: row.split("\t")[2] for row in page.locator("#figures tbody").inner_text().split("\n")}
    assert cell["Precision of alerts"] == f"{100 * len(caught) / len(alerts):.1f} %"
    assert cell["Recall of alerts"] == f"{100 * len(caught) / len(frauds):.1f} %"
    assert cell["Alerts a day"] == f"{len(alerts) / days:.1f}"
    assert cell["Fraud stopped a day"].split()[0].replace(",", "") in (f"{saved / days:.2f}", f"{saved / days:.0f}")
    assert cell["Gain a day"].split()[0].replace(",", "") in (f"{gain / days:.2f}", f"{gain / days:.0f}")
    page.fill("#capacity", f"{len(alerts) / days + 0.01}")
    page.locator("#fit").press("Enter")
    assert "none would wait" in page.locator("#plan").inner_text()
    page.fill("#dial-review-number", "0.58")
    page.locator("#make").press("Enter")
    page.get_by_text("is a draft with these thresholds").wait_for()
    made = versions.content(PolicyVersion.objects.get(state="draft"))
    assert (made.review, made.block, made.segments) == (0.58, 0.9, [LARGE])
    assert made.capacity == pytest.approx(len(alerts) / days, abs=0.02)
    assert complaints == []


def test_reviews_of_the_last_day_are_held_against_what_the_policy_says_can_be_done(client, champion, acme, rita):
    predict(champion, acme, [0.95] * 3, decision=Decision.BLOCK)
    predict(champion, acme, [0.1] * 3)
    version = go_live(Document(capacity=2.0))
    load = capacity.load("ulb", 2.0)
    assert (load.hour, load.day, load.is_above) == (2, 3, True)
    assert not capacity.load("ulb", 3.0).is_above
    assert not capacity.load("ulb", None).is_above
    client.force_login(rita)
    for address in (ADDRESS, reverse("admin:scoring_policyversion_change", args=[version.pk])):
        assert "above capacity" in client.get(address).content.decode()
    assert {schema: (load.day, load.capacity) for schema, load in capacity.declared().items()} == {"ulb": (3, 2.0)}
