"""A worker's batch, scored and stored in the test's own process: what becomes of copies, conflicts and histories."""

import json
import time

import msgspec
import pytest
from django.utils import timezone

from fraudsite.testing import fraudulent_payload, seed_payload, submission
from scoring.messages.replies import Kind
from scoring.models import History, Prediction, Review, Transaction
from scoring.worker import batches, histories, predictor


@pytest.fixture
def score(champion):
    loaded = predictor.refresh("ulb")

    def of(*submissions, started_at=None):
        outcomes, _ = batches.score_batch(
            submissions=submissions, predictor=loaded, started_at=started_at or time.time()
        )
        return outcomes

    return of


@pytest.fixture
def by_history(handbook_champion):
    return predictor.refresh("handbook")


@pytest.fixture
def pay(by_history, acme):
    """Score payments by what their customer did before."""

    def of(*rows, **common):
        batch = [submission(acme.pk, payment(**(common | row))) for row in rows]
        outcomes, _ = batches.score_batch(submissions=batch, predictor=by_history, started_at=time.time())
        return outcomes

    return of


def payment(**changes):
    payload = {"schema": "handbook", "amount": 12.5, "customer": "ada", "terminal": "corner shop"}
    return payload | {"event_time": timezone.now().isoformat()} | changes


def kinds(outcomes):
    return [outcome.kind for outcome in outcomes]


def answer(outcome):
    return json.loads(outcome.answer)


def stored(outcome):
    return Prediction.objects.get(pk=answer(outcome)["id"])


def test_each_is_told_what_was_stored_of_it_in_the_order_of_the_batch(score, champion, acme):
    batch = [submission(acme.pk, seed_payload(transaction_id="a")), submission(acme.pk, fraudulent_payload())]
    ordinary, fraud = (answer(outcome) for outcome in score(*batch))
    assert [ordinary["id"], fraud["id"]] == [each.id for each in batch]
    assert (ordinary["transaction_id"], fraud["transaction_id"]) == ("a", None)
    assert (ordinary["alert"], ordinary["decision"], ordinary["reasons"]) == (False, "approve", [])
    assert fraud["alert"] is fraud["is_fraud"] is True
    assert fraud["reasons"]
    assert fraud["threshold"] == champion.review_threshold
    for told in (ordinary, fraud):
        kept = Prediction.objects.get(pk=told["id"])
        assert (kept.fraud_score, kept.decision, kept.reasons) == (
            told["fraud_score"],
            told["decision"],
            told["reasons"],
        )
        assert kept.model_version == champion
    assert [str(review.pk) for review in Review.objects.all()] == [fraud["id"]]


def test_the_times_of_a_prediction_are_those_of_its_way(champion, acme):
    sent = submission(acme.pk, seed_payload())
    sent = msgspec.structs.replace(sent, received_at=sent.received_at - 10)
    [outcome], stages = batches.score_batch(
        submissions=[sent], predictor=predictor.refresh("ulb"), started_at=sent.received_at + 0.25
    )
    kept = stored(outcome)
    assert kept.queue_ms == pytest.approx(250, abs=0.01)
    assert min(kept.features_ms, kept.model_ms) > 0
    assert kept.features_ms == pytest.approx(stages.features_s * 1000)
    assert kept.model_ms == pytest.approx(stages.model_s * 1000)
    assert kept.latency_ms == answer(outcome)["latency_ms"]
    assert kept.latency_ms == pytest.approx((kept.created_at.timestamp() - sent.received_at) * 1000, abs=0.002)


@pytest.mark.parametrize("schema", ["ulb", "handbook"])
def test_the_stages_of_a_batch_take_no_longer_than_the_batch(champion, handbook_champion, acme, schema):
    payload = seed_payload() if schema == "ulb" else payment()
    loaded = predictor.refresh(schema)
    began = time.perf_counter()
    _, stages = batches.score_batch(
        submissions=[submission(acme.pk, payload)], predictor=loaded, started_at=time.time()
    )
    whole_s = time.perf_counter() - began
    assert min(stages.features_s, stages.model_s, stages.storage_s) > 0
    assert stages.features_s + stages.model_s + stages.storage_s <= whole_s


def test_a_clock_that_is_behind_makes_no_time_negative(score, acme):
    ahead = msgspec.structs.replace(submission(acme.pk, seed_payload()), received_at=time.time() + 3_600)
    [outcome] = score(ahead)
    assert (stored(outcome).queue_ms, stored(outcome).latency_ms) == (0, 0)


def test_what_is_known_is_answered_as_before_and_other_content_is_a_conflict(score, acme, globex):
    first, other = score(
        submission(acme.pk, seed_payload(transaction_id="order-1")),
        submission(globex.pk, seed_payload(transaction_id="order-1")),
    )
    again = [
        submission(acme.pk, seed_payload(transaction_id="order-1")),
        submission(acme.pk, seed_payload(transaction_id="order-1", Amount=1)),
        submission(acme.pk, seed_payload(transaction_id="order-2")),
        submission(globex.pk, seed_payload(transaction_id="order-1")),
        submission(acme.pk, seed_payload()),
    ]
    outcomes = score(*again)
    assert kinds(outcomes) == [Kind.REPEATED, Kind.CONFLICT, Kind.SCORED, Kind.REPEATED, Kind.SCORED]
    assert (outcomes[0].answer, outcomes[3].answer) == (first.answer, other.answer), "of each client its own"
    assert Transaction.objects.count() == 4


def test_a_message_that_is_delivered_twice_gets_the_same_answer_and_is_no_repeat(score, acme):
    batch = [submission(acme.pk, seed_payload()), submission(acme.pk, seed_payload(transaction_id="order-1"))]
    assert score(*batch) == score(*batch)
    assert Prediction.objects.count() == 2


def test_copies_in_one_batch_are_one_transaction(score, acme):
    copies = [submission(acme.pk, seed_payload(transaction_id="order-1")) for _ in range(3)]
    outcomes = score(*copies)
    assert len({outcome.answer for outcome in outcomes}) == 1
    assert sorted(kinds(outcomes)) == [Kind.REPEATED, Kind.REPEATED, Kind.SCORED]
    assert Transaction.objects.count() == 1


def test_a_customer_is_known_from_batch_to_batch_and_within_one(pay):
    first, second = pay({"amount": 10.0}, {"amount": 30.0})
    [third] = pay({"amount": 20.0})
    counts = [stored(outcome).derived["customer_count_1d"] for outcome in (first, second, third)]
    assert counts == [1, 2, 3]
    assert stored(third).derived["customer_mean_amount_1d"] == 20
    assert stored(first).features_ms > 0


def test_copies_count_once_in_a_history(pay):
    outcomes = pay({}, {}, {}, transaction_id="order-1", event_time=timezone.now().isoformat())
    assert kinds(outcomes) == [Kind.SCORED, Kind.REPEATED, Kind.REPEATED]
    [later] = pay({})
    assert stored(later).derived["customer_count_1d"] == 2


def test_what_is_new_is_scored_beside_what_is_known(pay):
    order = {"transaction_id": "order-1", "event_time": timezone.now().isoformat()}
    [known] = pay(order)
    repeated, new, conflict = pay(order, {"amount": 7.0}, order | {"customer": "bob"})
    assert kinds([repeated, new, conflict]) == [Kind.REPEATED, Kind.SCORED, Kind.CONFLICT]
    assert repeated.answer == known.answer
    assert stored(new).derived["customer_count_1d"] == 2


def cannot_score_666(loaded, monkeypatch, place):
    """As if the model overflowed on this amount."""
    score = loaded.score

    def overflow(features, requests=()):
        scores = score(features, requests)
        scores[features[:, place] == 666] = float("nan")
        return scores

    monkeypatch.setattr(loaded, "score", overflow)


def test_what_the_model_cannot_score_is_not_stored_and_costs_no_other_its_score(score, acme, monkeypatch):
    cannot_score_666(predictor.current("ulb"), monkeypatch, place=-1)
    bad = [submission(acme.pk, seed_payload(Amount=666.0)) for _ in range(2)]
    outcomes = score(bad[0], submission(acme.pk, seed_payload()), bad[1])
    assert kinds(outcomes) == [Kind.UNSCORABLE, Kind.SCORED, Kind.UNSCORABLE]
    assert kinds(score(*bad)) == [Kind.UNSCORABLE] * 2
    assert Transaction.objects.count() == Prediction.objects.count() == 1


def test_what_the_model_cannot_score_is_in_no_history(pay, by_history, monkeypatch):
    cannot_score_666(by_history, monkeypatch, place=0)
    assert kinds(pay({}, {"amount": 666.0}, {})) == [Kind.SCORED, Kind.UNSCORABLE, Kind.SCORED]
    assert Transaction.objects.count() == 2
    [later] = pay({})
    assert stored(later).derived["customer_count_1d"] == 3
    assert kinds(pay({"amount": 666.0}, customer="eve")) == [Kind.UNSCORABLE]
    assert not Transaction.objects.filter(amount=666).exists()


def test_what_is_known_is_answered_beside_what_the_model_cannot_score(pay, by_history, monkeypatch):
    cannot_score_666(by_history, monkeypatch, place=0)
    order = {"transaction_id": "order-1", "event_time": timezone.now().isoformat()}
    [known] = pay(order)
    repeated, unscorable, new = pay(order, {"amount": 666.0}, {})
    assert kinds([repeated, unscorable, new]) == [Kind.REPEATED, Kind.UNSCORABLE, Kind.SCORED]
    assert repeated.answer == known.answer


def test_the_order_of_arrival_is_kept_with_each_transaction_and_its_histories(pay):
    pay({}, {}, {})
    pay({})
    rows = Transaction.objects.order_by("received_at")
    assert list(rows.order_by("sequence")) == list(rows)
    assert set(History.objects.values_list("last_sequence", flat=True)) == {rows.last().sequence}


def test_a_history_that_is_gone_begins_anew_though_the_worker_knows_it(pay):
    for _ in range(3):
        _, bob = pay({}, {"customer": "bob"})
    History.objects.get(token=stored(bob).transaction.tokens["customer"]).delete()
    ada, bob, eve = pay({}, {"customer": "bob"}, {"customer": "eve"})
    assert [stored(outcome).derived["customer_count_1d"] for outcome in (ada, bob, eve)] == [4, 1, 1]


def test_histories_that_were_made_with_a_batch_that_was_undone_are_made_again(pay):
    order = {"transaction_id": "order-1", "event_time": timezone.now().isoformat()}
    pay(order)
    for count in (1, 2, 3):
        repeated, new = pay(order, {"customer": "eve"})
        assert kinds([repeated, new]) == [Kind.REPEATED, Kind.SCORED]
        assert stored(new).derived["customer_count_1d"] == count


def test_more_entities_than_a_worker_remembers_keep_their_histories(pay, monkeypatch):
    monkeypatch.setattr(histories, "TOKENS_KNOWN", 3)
    monkeypatch.setattr(histories, "_known", set())
    for count in (1, 2, 3):
        for number in range(5):
            [outcome] = pay({"customer": f"customer {number}"})
            assert stored(outcome).derived["customer_count_1d"] == count
            assert len(histories._known) <= 3
