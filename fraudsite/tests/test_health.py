import httpx
import pytest
from django.urls import reverse

from fraudsite.testing import free_port, web_server, worker_environment

PROBES = {"/healthz": 200, "/readyz": 200, "/metrics": 401}
HOSTS = ["10.1.2.3:8000", "[fd00::7]:8000", "web", "evil.example", "under_score", "a b", "", ":", "h\xe9", "x" * 300]
NO_PROBES = [
    *("/", "/admin/", "/admin/login/", "/predict", "/api/v1/predict", "/api/v1/predict/batch", "/api/v1/schema"),
    *("/api/v1/docs", "/static/fraudsite/site.css", "/nothing", "//healthz", "/HEALTHZ", "/healthz/", "/healthzx"),
    *("/metrics/", "/metrics/../admin/", "/metrics%2f..%2fadmin/", "/metrics%0a", "/healthz;/admin/", "/x/readyz"),
]


def test_it_is_alive_without_asking_anybody(client):
    response = client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "alive"})


def test_it_is_ready_when_database_broker_and_a_worker_with_a_model_answer(worker, client):
    response = client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"status": "ready", "checks": {"database": "ok", "broker": "ok", "worker": "ok"}}


def test_probes_are_answered_whatever_the_host(worker, client):
    for path, status in PROBES.items():
        for host in HOSTS:
            assert client.get(f"{path}?x=1", headers={"Host": host}).status_code == status, (path, host)


@pytest.mark.django_db
@pytest.mark.parametrize("path", NO_PROBES)
def test_nothing_else_is_answered_to_an_unknown_host(client, path):
    for host in HOSTS:
        assert client.get(path, headers={"Host": host}).status_code == 400, host


def test_a_web_server_answers_probes_by_any_name_without_tls_and_nothing_else(transactional_db, capfd):
    environment = worker_environment() | {"HTTPS": "true", "BEHIND_PROXY": "true", "READY_TIMEOUT_MS": "50"}
    with web_server(environment) as url, httpx.Client(base_url=url, headers={"Host": "10.1.2.3"}) as http:
        assert [http.get(path).status_code for path in PROBES] == [200, 503, 401]
        for number, path in enumerate(NO_PROBES):
            headers = {"X-Forwarded-Proto": "https", "X-Request-ID": f"call-{number}"}
            assert http.get(path, headers=headers).status_code == 400, path
        refusal = http.post(reverse("predict"), json={}, headers={"X-Forwarded-Proto": "https"})
        assert refusal.headers["Content-Type"] == "application/problem+json"
        assert "ALLOWED_HOSTS" in refusal.json()["detail"]
    log = capfd.readouterr().err
    assert all(f"[call-{number}]" in log for number in range(len(NO_PROBES)))


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
