from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(NamedTuple):
    """What a check found. `words` are one sentence, and `remedy` says what to do, empty if nothing has to be done."""

    check: str
    level: Level
    words: str
    remedy: str = ""


def said(fault: BaseException) -> str:
    """What an error says, in one line: drivers of databases tell in several."""
    return " ".join(str(fault).split())


def ok(check: str, words: str) -> Finding:
    return Finding(check, Level.OK, words)


def warning(check: str, words: str, remedy: str) -> Finding:
    return Finding(check, Level.WARNING, words, remedy)


def error(check: str, words: str, remedy: str) -> Finding:
    return Finding(check, Level.ERROR, words, remedy)
