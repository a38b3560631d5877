"""A web server that is told to end by SIGTERM goes on for `WEB_DRAIN_S` seconds, and says meanwhile that it ends.

What spreads calls over several web servers hears of it by `/healthz` before this one takes no more calls. Answers tell
clients to close their connection (RFC 9112, 9.6), so that none sends a call on one that the server is closing.
"""

import asyncio
import signal
from typing import Any

# Whether this process is about to end. The main process tells it to those that serve: see `fraudsite.web`.
begun = False


def listen() -> None:
    """Hear of the end by SIGUSR1. Call it on the event loop of a process that serves."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _begin)


def _begin() -> None:
    global begun
    begun = True


def closing(scope: dict[str, Any], send: Any) -> Any:
    """An ASGI `send` whose answer closes its connection. HTTP/2 has no such header."""
    if not scope["http_version"].startswith("1"):
        return send

    async def sent(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = message | {"headers": [*message.get("headers", ()), (b"connection", b"close")]}
        await send(message)

    return sent
