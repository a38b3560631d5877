import httpx

from fraudsite.testing import free_port, web_server, worker_environment


def test_it_is_alive_without_asking_anybody(client):
    response = client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "alive"})


def test_it_is_ready_when_database_broker_and_a_worker_with_a_model_answer(worker, client):
    response = client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"status": "ready", "checks": {"database": "ok", "broker": "ok", "worker": "ok"}}


def test_it_is_alive_but_not_ready_while_everything_behind_it_is_down(db):
    nobody = {
        "DATABASE_URL": f"postgresql://fraudsite:secret@127.0.0.1:{free_port()}/fraudsite",
        "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "READY_TIMEOUT_MS": "200",
    }
    with web_server(worker_environment() | nobody) as url:
        assert httpx.get(f"{url}/healthz").status_code == 200
        response = httpx.get(f"{url}/readyz", timeout=10)
        assert response.status_code == 503
        checks = response.json()["checks"]
        assert checks.keys() == {"database", "broker", "worker"}
        assert "ok" not in checks.values()
        assert "secret" not in response.text
        assert httpx.get(f"{url}/healthz").status_code == 200
