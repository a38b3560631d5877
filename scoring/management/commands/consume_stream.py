import platform
import signal
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from scoring.models import Client


class Command(BaseCommand):
    help = "Score the transactions of a Redis stream until it is told to stop. Any number of these may run."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("stream", metavar="STREAM", help="one of those that STREAMS gives a client")
        parser.add_argument(
            "--consumer", default=platform.node(), help="its name, another for each process; default: the host's name"
        )

    def handle(self, *args: Any, stream: str, consumer: str, **options: Any) -> None:
        if not consumer.strip():
            raise CommandError("--consumer: give each process a name of its own.")
        client = self._client_of(stream)
        from scoring import served
        from scoring.messages import clock
        from scoring.streams.consumer import ClientInactive, Consumer
        from scoring.streams.group import Group
        from scoring.streams.rights import NoKey, Rights
        from scoring.telemetry import port, tracing
        from scoring.worker import starting

        try:
            Rights(client, stream).key()  # told before models are loaded
            port.serve()
            tracing.start("stream")
            served.follow()
            clock.follow()
            at_work = Consumer(client=client, group=Group(stream, consumer))
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: at_work.stop())
            starting.get_ready(f"stream {stream} {consumer}", "stream")
            self.stdout.write(f"Consuming the stream {stream} for {client}.")
            at_work.run()
        except (ClientInactive, NoKey) as error:
            raise CommandError(str(error)) from error
        finally:
            tracing.stop()

    def _client_of(self, stream: str) -> Client:
        if stream not in settings.STREAMS:
            known = f"It has {', '.join(settings.STREAMS)}." if settings.STREAMS else "It is empty."
            raise CommandError(f"The setting STREAMS gives the stream {stream!r} no client. {known}")
        name = settings.STREAMS[stream]
        try:
            client = Client.objects.get(name=name)
        except Client.DoesNotExist:
            raise CommandError(f"STREAMS: there is no client {name!r}. Make it in the admin.") from None
        if not client.is_active:
            raise CommandError(f"STREAMS: the client {name} is not active.")
        return client
