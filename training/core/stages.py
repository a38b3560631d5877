"""What a long computation is at: it tells, and whoever runs it may listen."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

EVERY_S = 5.0

_listener: ContextVar[Callable[[str], object] | None] = ContextVar("listener", default=None)


class Stream(Protocol):
    """Where a command writes."""

    def isatty(self) -> bool: ...

    def write(self, text: str, /) -> object: ...

    def flush(self) -> None: ...


def enter(stage: str) -> None:
    """Tell what is done from now on."""
    if listener := _listener.get():
        listener(stage)


@contextmanager
def told(listener: Callable[[str], object]) -> Iterator[None]:
    """Have `listener` hear each stage that is entered meanwhile."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def printed(out: Stream, every_s: float = EVERY_S) -> Iterator[None]:
    """Print a line with the stage and the seconds that all has taken, every few seconds. A terminal is left to the bars
    that show it there."""
    if out.isatty():
        yield
        return
    stage, began, over = "Starting", time.monotonic(), threading.Event()

    def hear(said: str) -> None:
        nonlocal stage
        stage = said

    def repeat() -> None:
        while not over.wait(every_s):
            out.write(f"{time.monotonic() - began:.0f} s: {stage}\n")
            out.flush()  # into a pipe, lines would wait for each other

    thread = threading.Thread(target=repeat, name="stages", daemon=True)
    thread.start()
    try:
        with told(hear):
            yield
    finally:
        over.set()
        thread.join()
