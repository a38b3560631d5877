"""Ends our programs with a line or two that name the cause, when a setting, an argument or a service is at fault.

`--traceback` shows the traceback, as in every command of Django.
"""

import re
import sys
from types import TracebackType
from typing import NoReturn

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, CommandParser, execute_from_command_line

from training.core.exceptions import FraudsiteError, did_you_mean

TRACEBACK = "--traceback"
# The commands whose second word says what they do.
PARTED = {"policy", "lists", "models", "schema", "api_keys"}
# The commands that change something or give something out, whose runs are in the audit trail.
RECORDED = {
    *("policy", "lists", "models", "schema", "train", "tune", "import_rates", "import_labels", "create_api_key"),
    *("api_keys", "erase", "export_held", "apply_retention", "partition_tables"),
    *("rebuild_histories", "retry_pending", "replay_decisions", "application_role", "verify_audit"),
    *("createsuperuser", "changepassword", "reset_two_factor", "shell", "dbshell", "dumpdata", "loaddata"),
}
# The databases' messages about a missing table or column.
UNMIGRATED = re.compile(r"no such (table|column)|has no column named|(relation|column) .* does not exist")


def main(arguments: list[str]) -> None:
    """Run a command of `manage.py`."""
    CommandParser.error = _refuse  # type: ignore[assignment, method-assign]
    try:
        execute_from_command_line(arguments)
        _record(arguments)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        message = None if TRACEBACK in arguments else explained(error)
        if message is None:
            raise
        sys.exit(message)


def _record(arguments: list[str]) -> None:
    """Add a command of ours that has ended well to the audit trail."""
    command = arguments[1] if len(arguments) > 1 else ""
    if "--help" in arguments or command not in RECORDED or (command in PARTED and len(arguments) < 3):
        return
    from fraudsite.audit import trail

    # No more than the second word: arguments may hold identifiers or passwords, which are stored nowhere.
    trail.record("ran", kind="manage.py", object_id=command, detail=arguments[2] if command in PARTED else "")


def explained(error: BaseException) -> str | None:
    """The message for the user of the program; None if the error is a fault of the program itself."""
    if isinstance(error, FraudsiteError | ImproperlyConfigured):
        return str(error)
    return _of_the_database(error) or _of_redis(error) or _of_a_file(error)


def _of_the_database(error: BaseException) -> str | None:
    from django.db import DatabaseError, OperationalError, ProgrammingError

    if isinstance(error, OperationalError | ProgrammingError) and UNMIGRATED.search(str(error)):
        return f"{_line(error)} The database is not up to date: run `manage.py migrate`."
    if isinstance(error, OperationalError) or type(error) is DatabaseError:
        database = settings.DATABASES["default"]
        file = f" The file is {database['NAME']}." if "sqlite3" in database["ENGINE"] else ""
        return f"DATABASE_URL: {_line(error)}{file}"
    return None


def _of_redis(error: BaseException) -> str | None:
    from kombu.exceptions import OperationalError
    from redis import RedisError

    return f"REDIS_URL: {_line(error)}" if isinstance(error, RedisError | OperationalError) else None


def _of_a_file(error: BaseException) -> str | None:
    if not isinstance(error, OSError) or error.filename is None:
        return None
    is_ours = str(error.filename).startswith(str(settings.VAR_DIR))
    return f"{error.filename}: {error.strerror}.{' VAR_DIR names the directory.' if is_ours else ''}"


def _line(error: BaseException) -> str:
    message = " ".join(str(error).split())
    return message if message.endswith((".", "?")) else f"{message}."


def _refuse(parser: CommandParser, message: str) -> NoReturn:
    """Replaces argparse's error, which begins with the whole usage."""
    if choice := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
        word, known = choice[1], re.findall("'(.*?)'", choice[2])
        message += f".{did_you_mean(word, known)}"
    elif option := re.match(r"unrecognized arguments: (--[^\s=]+)", message):
        message += f".{did_you_mean(option[1], parser._option_string_actions)}"
    if not parser.called_from_command_line:
        raise CommandError(f"Error: {message}")
    parser.exit(2, f"{parser.prog}: {message}\n")


def excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print the error of a setting in one line, in programs that are not started by `main`, such as Celery."""
    if isinstance(error, ImproperlyConfigured):
        print(error, file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)
