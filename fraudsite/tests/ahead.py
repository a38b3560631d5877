"""Runs a module in a process whose clock is wrong: `python fraudsite/tests/ahead.py SECONDS MODULE ARGUMENT…`.

It runs as a file: as a module, the package would be imported before the clock is set.
"""

import datetime
import os
import runpy
import sys
import time
from typing import Any


def set_clock(ahead_s: float) -> None:
    """Have Python's clocks, but the monotonic ones, so many seconds ahead in whatever is imported from now on."""
    import pandas  # noqa: F401  # compiled code would take the class below for Python's own

    true, true_ns, class_ = time.time, time.time_ns, datetime.datetime
    time.time = lambda: true() + ahead_s
    time.time_ns = lambda: true_ns() + int(ahead_s * 1e9)

    class Alike(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, class_)

        def __subclasscheck__(cls, subclass: type) -> bool:
            return issubclass(subclass, class_)

    class Ahead(class_, metaclass=Alike):  # type: ignore[misc, valid-type]
        """All that it makes are datetimes of Python's own class."""

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            return class_(*args, **kwargs)

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return class_.fromtimestamp(time.time(), tz)

        @classmethod
        def utcnow(cls) -> Any:
            return cls.now(datetime.UTC).replace(tzinfo=None)

    datetime.datetime = Ahead  # type: ignore[misc]


if __name__ == "__main__":
    set_clock(float(sys.argv[1]))
    sys.path[0] = os.getcwd()  # as `python -m` has it
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
