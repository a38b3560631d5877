"""Where a running process spends its time: py-spy looks at it from outside, so nothing has to be prepared in it."""

import os
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

PROC = Path("/proc")
LONGEST_S = 600
SAMPLES_PER_S = 100
# Words in the command line of a process of ours.
OURS = ("fraudsite", "granian", "deliver_webhooks", "consume_stream")
# What py-spy says where no sample was taken of work.
IDLE = "No stack counts found"
REMEDY = (
    "The system lets nobody but an administrator look into another process: run the command as root; with Docker, "
    "docker compose exec --privileged --user root SERVICE python manage.py profile PID."
)


class Command(BaseCommand):
    help = "Draw where a running process of this machine spends its time. Without a PID, list the processes."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("pid", metavar="PID", type=int, nargs="?", help="the number of the process")
        parser.add_argument("--seconds", type=int, default=10, help=f"for how long, up to {LONGEST_S}; default: 10")
        parser.add_argument("--output", type=Path, metavar="FILE", help="default: a new SVG in VAR_DIR/profiles")

    def handle(self, *args: Any, pid: int | None, seconds: int, output: Path | None, **options: Any) -> None:
        if pid is None:
            for number, command in sorted(processes().items()):
                self.stdout.write(f"{number:>8}  {command}")
            return
        if not 1 <= seconds <= LONGEST_S:
            raise CommandError(f"--seconds must lie between 1 and {LONGEST_S}.")
        if PROC.is_dir() and pid not in processes():
            raise CommandError(f"{pid} is no process of Fraudsite on this machine. Without a number, they are listed.")
        output = output or _new_file(pid)
        record(pid, seconds, output)
        self.stdout.write(f"{output} has where process {pid} spent its time. Open it in a browser.")


def processes() -> dict[int, str]:
    """The running processes of Fraudsite but this one, with their command lines; none where the system has no /proc."""
    found = {}
    for directory in PROC.glob("[0-9]*"):
        try:
            command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:  # it has ended, or is not ours to see
            continue
        if int(directory.name) != os.getpid() and "python" in command + _program(directory) and _is_ours(command):
            found[int(directory.name)] = command
    return found


def _program(directory: Path) -> str:
    """What a process runs, whatever it calls itself; empty if that is not ours to see."""
    try:
        return os.readlink(directory / "exe")
    except OSError:
        return ""


def _is_ours(command: str) -> bool:
    return any(word in command for word in OURS)


def record(pid: int, seconds: int, output: Path) -> None:
    """Have py-spy draw a flame graph. It does not stop the process while it looks, so calls are answered as before.

    Raises:
        CommandError: it could not.
    """
    program = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if program is None:
        raise CommandError("py-spy is not installed: pip install -r requirements.txt.")
    how = ["--nonblocking", "--rate", str(SAMPLES_PER_S), "--format", "flamegraph"]
    command = [program, "record", "--pid", str(pid), "--duration", str(seconds), "--output", str(output), *how]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
    if done.returncode or not output.exists():
        said = (done.stderr or done.stdout).strip().splitlines()
        denied = any("ermission" in line or "not permitted" in line for line in said)
        if any(IDLE in line for line in said):
            raise CommandError(f"The process was idle for {seconds} s: there is nothing to draw.")
        raise CommandError(REMEDY if denied else f"py-spy: {said[0] if said else 'nothing was drawn.'}")
    output.chmod(0o600)


def _new_file(pid: int) -> Path:
    directory = Path(settings.VAR_DIR, "profiles")
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory / f"{timezone.now():%Y%m%d-%H%M%S}-{pid}.svg"
