"""Clients of the first days go on as they are: its simulator works, told nothing but address and key."""

from scoring.clients import keys
from scoring.models import Transaction
from scoring.tests.first_simulator import Simulator
from training.core.schema import load_schema
from training.tests.support import made_up_rows

COUNT = 40


def test_the_simulator_of_the_first_days_has_all_of_its_transactions_scored(site, acme):
    _, key = keys.create(client=acme)
    features, labels = made_up_rows(rows=200, frauds=40)
    simulator = Simulator(
        url=site,
        api_key=key,
        names=load_schema("ulb").feature_names,
        features=features,
        labels=labels,
        rate_per_s=1_000,
        fraud_rate=0.5,
        concurrency=8,
        seed=1,
    )
    list(simulator.run(count=COUNT, duration_s=None))
    tally = simulator.tally
    assert (tally.answered, tally.failed, len(tally.latencies_ms)) == (COUNT, {}, COUNT)
    assert tally.caught > tally.fraud / 2
    stored = Transaction.objects.filter(transaction_id__startswith="simulated-")
    assert stored.count() == COUNT
    alerts = stored.filter(prediction__decision__in=["review", "block"])
    assert alerts.count() == tally.caught + tally.false_alerts
