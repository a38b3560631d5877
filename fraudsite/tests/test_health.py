def test_it_is_alive_without_asking_anybody(client):
    response = client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "alive"})


def test_it_is_ready_when_database_broker_and_a_worker_with_a_model_answer(worker, client):
    response = client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"status": "ready", "checks": {"database": "ok", "broker": "ok", "worker": "ok"}}
