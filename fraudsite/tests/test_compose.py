"""The compose file bounds what each service may take."""

import pytest
import yaml
from django.conf import settings

SERVICES = yaml.safe_load((settings.BASE_DIR / "docker-compose.yml").read_text())["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_bounded_in_memory_and_logs_and_has_time_to_stop(name):
    service = SERVICES[name]
    assert service["mem_limit"]
    assert service["stop_grace_period"]
    assert service["logging"]["options"]["max-size"]
    assert service["restart"]


def test_redis_refuses_before_its_container_has_no_memory_left():
    command = SERVICES["redis"]["command"]
    assert command[command.index("--maxmemory") + 1]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
