"""Which release of Fraudsite this is."""

import tomllib
from functools import cache

from django.conf import settings


@cache
def release() -> str:
    """`FRAUDSITE_RELEASE`, by default the version of `pyproject.toml`."""
    if settings.FRAUDSITE_RELEASE:
        return str(settings.FRAUDSITE_RELEASE)
    with (settings.BASE_DIR / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])
