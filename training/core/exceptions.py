"""The exceptions of Fraudsite. A class's docstring is its default message."""

import difflib
import inspect
from collections.abc import Iterable


class FraudsiteError(Exception):
    """Something went wrong in Fraudsite."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.getdoc(type(self)))


class SchemaNotFound(FraudsiteError):
    """There is no dataset schema of that name."""


class SchemaInvalid(FraudsiteError):
    """The dataset schema declares something that makes no sense."""


class DatasetError(FraudsiteError):
    """The dataset cannot be used."""


class BundleRefused(FraudsiteError):
    """The model bundle is incomplete, altered, unsigned or made for another schema."""


class SchemaChanged(BundleRefused):
    """The model bundle was made for another version of its schema."""


class StoreUnavailable(FraudsiteError):
    """The store (STORAGE_URL) does not answer, or refuses."""


class NoChampion(FraudsiteError):
    """No model has been promoted to champion: run `manage.py train`, or promote one in the admin."""


class StageRefused(FraudsiteError):
    """The model version cannot change its stage so."""


class TrainingRefused(FraudsiteError):
    """The model cannot be trained now."""


class StaleHistory(FraudsiteError):
    """An entity's history was kept under another declaration: rebuild it from stored transactions."""


class ConfigurationError(FraudsiteError):
    """The training configuration cannot be used."""


class NoThreshold(DatasetError):
    """No threshold attains what the policy asks of the validation rows."""


def did_you_mean(word: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """A question with the known word that is most similar to a misspelt one, after a space; empty if no word has at
    least this similarity (0 to 1).

    >>> did_you_mean("model.dropuot", ["model.dropout", "split.seed"])
    ' Did you mean model.dropout?'
    """
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=likeness)
    return f" Did you mean {close[0]}?" if close else ""
