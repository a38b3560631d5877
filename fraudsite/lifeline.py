"""Ends a process when the process that started it has ended, even if that one was killed.

`python fraudsite/lifeline.py PROGRAM ARGUMENT…` does so for any program. It imports little, to start fast.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

CHECK_EVERY_S = 0.5
PR_SET_PDEATHSIG = 1


def following(*command: str) -> list[str]:
    """The command that runs another command and ends it with the process that starts it."""
    return [sys.executable, __file__, *command]


def follow_parent(parent: int | None = None) -> None:
    """Kill this process as soon as its parent has ended. On Linux the kernel does it when the parent's thread ends,
    also after `exec`; elsewhere a thread of this process watches the parent."""
    parent = parent or os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended meanwhile
            os.kill(os.getpid(), signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), name="lifeline", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(CHECK_EVERY_S)
    os.kill(os.getpid(), signal.SIGKILL)


def main(command: list[str]) -> None:
    if sys.platform == "linux":
        follow_parent()
        os.execvp(command[0], command)  # noqa: S606
    _run_beside(command)


def _run_beside(command: list[str]) -> None:
    """Run a program and pass signals on to it; kill it when our own parent has ended."""
    parent = os.getppid()
    with subprocess.Popen(command) as program:  # noqa: S603
        for wanted in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(wanted, lambda number, frame: program.send_signal(number))
        while program.poll() is None:
            if os.getppid() != parent:
                program.kill()
            time.sleep(CHECK_EVERY_S)
    code = program.returncode
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main(sys.argv[1:])
