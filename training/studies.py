"""Studies: where searches for hyperparameters are kept, and the trials that workers do for them."""

import re
from pathlib import Path

from django.conf import settings

from training.core import search
from training.core.datasets import storage
from training.core.exceptions import ConfigurationError


def path_of(name: str) -> Path:
    """The file of a study, which all machines that take part share.

    Raises:
        ConfigurationError: the name cannot be a file's.
    """
    if not re.fullmatch(r"[\w.-]{1,100}", name) or name.startswith("."):
        raise ConfigurationError(f"A study's name has letters, digits, -, _ and dots only, unlike {name!r}.")
    return settings.VAR_DIR / "studies" / f"{name}.log"


def take_part(name: str) -> None:
    """Do one trial of a study that exists."""
    study = search.open_study(path_of(name))
    search.run_trial(study, storage.read_chosen(settings.DATASETS_DIR, search.begun_with(study)))
