"""Reports the current stage of a long computation to a listener, if there is one."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

EVERY_S = 5.0

_listener: ContextVar[Callable[[str], object] | None] = ContextVar("listener", default=None)


class Stream(Protocol):
    """The stream that a command writes to."""

    def isatty(self) -> bool: ...

    def write(self, text: str, /) -> object: ...

    def flush(self) -> None: ...


def enter(stage: str) -> None:
    """Report the stage that begins now."""
    if listener := _listener.get():
        listener(stage)


@contextmanager
def reported_to(listener: Callable[[str], object]) -> Iterator[None]:
    """Call `listener` with each stage that is entered inside the block."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def printed(out: Stream, every_s: float = EVERY_S) -> Iterator[None]:
    """Print a line with the current stage and the seconds since the start, every few seconds. On a terminal nothing is
    printed, as progress bars show it there."""
    if out.isatty():
        yield
        return
    stage, began, over = "Starting", time.monotonic(), threading.Event()

    def enter_stage(entered: str) -> None:
        nonlocal stage
        stage = entered

    def repeat() -> None:
        while not over.wait(every_s):
            out.write(f"{time.monotonic() - began:.0f} s: {stage}\n")
            out.flush()  # a pipe would buffer the lines

    thread = threading.Thread(target=repeat, name="stages", daemon=True)
    thread.start()
    try:
        with reported_to(enter_stage):
            yield
    finally:
        over.set()
        thread.join()
