import asyncio
import signal
from typing import Any

from django.core.management.base import BaseCommand

from scoring.messages import clock
from scoring.telemetry import port, tracing
from scoring.webhooks.delivering import Deliverer


class Command(BaseCommand):
    help = "Send webhooks until it is told to stop. Any number of these may run, on any machine."

    def handle(self, *args: Any, **options: Any) -> None:
        port.serve()
        clock.follow()
        tracing.start("deliverer")
        asyncio.run(_deliver())
        tracing.stop()


async def _deliver() -> None:
    deliverer = Deliverer()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, deliverer.stop)
    await deliverer.run()
