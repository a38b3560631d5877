"""This machine: its Python packages and its disk."""

import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from django.conf import settings
from packaging.requirements import Requirement

from fraudsite.doctor.findings import Finding, error, ok, warning

PYTHON = (3, 11)
SHOWN = 5
GIGABYTE = 1 << 30


def packages() -> Iterator[Finding]:
    if sys.version_info[:2] != PYTHON:
        remedy = f"Run Fraudsite with Python {'.'.join(map(str, PYTHON))}."
        yield error("python", f"This is Python {sys.version.split()[0]}.", remedy)
    differing = []
    for line in (settings.BASE_DIR / "requirements.txt").read_text().splitlines():
        pinned = line.partition("#")[0].strip()
        if not pinned or pinned.startswith("-"):
            continue
        wanted = Requirement(pinned)
        if wanted.marker and not wanted.marker.evaluate():
            continue
        try:
            installed = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            installed = "missing"
        if not wanted.specifier.contains(installed if installed != "missing" else "0", prereleases=True):
            differing.append(f"{wanted.name} is {installed}, not {str(wanted.specifier).removeprefix('==')}")
    if differing:
        more = f" and {len(differing) - SHOWN} more" if len(differing) > SHOWN else ""
        remedy = "Install requirements.txt in a new environment: other versions were not tested."
        yield warning("packages", f"{'; '.join(differing[:SHOWN])}{more}.", remedy)
    else:
        yield ok("packages", "All packages have the versions of requirements.txt.")


def disk() -> Iterator[Finding]:
    places = [settings.VAR_DIR, settings.ATTACHMENTS_DIR]
    if "://" not in settings.STORAGE_URL:
        places.append(Path(settings.STORAGE_URL))
    seen = set()
    for place in places:
        there = next(each for each in (place, *place.parents) if each.exists())
        if (device := there.stat().st_dev) in seen:
            continue
        seen.add(device)
        free = shutil.disk_usage(there).free / GIGABYTE
        words = f"{free:,.1f} GB are free at {place}."
        if free < settings.DOCTOR_DISK_FREE_GB:
            yield error("disk", words, "Make room, or delete what is no longer needed: docs/operators.md.")
        else:
            yield ok("disk", words)
