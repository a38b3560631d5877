"""Searches for hyperparameters: where they are kept, and what a worker does for them."""

import re
from pathlib import Path

from django.conf import settings

from training.core import search
from training.core.datasets import storage
from training.core.exceptions import ConfigurationError


def path_of(name: str) -> Path:
    """Where the study of that name is kept; every machine that takes part sees the same file.

    Raises:
        ConfigurationError: it is no name for a file.
    """
    if not re.fullmatch(r"[\w.-]{1,100}", name) or name.startswith("."):
        raise ConfigurationError(f"A study's name has letters, digits, -, _ and dots only, unlike {name!r}.")
    return settings.VAR_DIR / "studies" / f"{name}.log"


def take_part(name: str) -> None:
    """Do one trial of a study that exists."""
    study = search.open_study(path_of(name))
    search.run_trial(study, storage.read_chosen(settings.DATASETS_DIR, study.user_attrs["configuration"]))
