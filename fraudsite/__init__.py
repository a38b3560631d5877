import sys

# The client of Redis imports OpenTelemetry where that is installed, without being asked to use it, which makes each
# start slower. `scoring.telemetry.tracing` takes this back where traces are recorded.
sys.modules.setdefault("opentelemetry", None)  # type: ignore[arg-type]  # it stands for "not installed"

from fraudsite.celery import app as celery_app  # noqa: E402

__all__ = ["celery_app"]
