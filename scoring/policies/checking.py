"""Checks expressions and policies before they may decide: names, types and functions, each fault at its place.

The checker of Google's CEL implementation knows types, which the faster library that runs expressions does not.
`docs/decisions.md` compares the two.
"""

import math
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING

from django.conf import settings
from msgspec import Struct

from scoring.policies.document import APPETITES, Document, Rule, Segment
from scoring.policies.names import Name, Type, names_of, taken
from training.core.exceptions import did_you_mean
from training.core.schema import Schema

if TYPE_CHECKING:
    from cel_expr_python import cel as checker

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
# Values that expressions are tried on.
SAMPLES = {Type.NUMBER: 1.0, Type.TEXT: "a", Type.TRUTH: True, Type.TEXTS: ["a"]}
CONFIGURATION = """
stdlib:
  disable_macros: true
  include_functions: [{}]
"""
# The operators that need no declaration of ours: they have only the types that the running library has, too.
OPERATORS = ("_&&_", "_||_", "!_", "_?_:_", "_+_", "_-_", "_*_", "_/_", "-_")
LITERAL = re.compile(
    r"""\"{3}(?:[^\\]|\\.)*?\"{3}|'{3}(?:[^\\]|\\.)*?'{3}|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'""", re.S
)
# With the texts' letters taken out.
PATTERN = re.compile(r"""\.matches\s*\(\s*([rR]?" *")?\s*(\))?""")
# The library makes a pattern anew for each transaction, which can take longer than all else that is done with it.
MOST_MS = 2.0
TRIES = 5
POSITION = re.compile(r"<input>:(\d+):(\d+): (.*)")
SAID_OF_TYPES = {
    "double": "a number",
    "int": "a whole number",
    "string": "a text",
    "bool": "a truth value",
    "timestamp": "a time",
    "google.protobuf.timestamp": "a time",
    "duration": "a duration",
    "google.protobuf.duration": "a duration",
    "uint": "a whole number without sign",
    "null_type": "null",
    "list(double)": "a list of numbers",
    "list(int)": "a list of whole numbers",
    "list(string)": "a list of texts",
}


class Fault(Struct, frozen=True):
    """A fault of a policy. `where` is the path of the part, such as `rules.2.when`; line and column count from 1 in an
    expression, and are 0 elsewhere."""

    where: str
    message: str
    line: int = 0
    column: int = 0


def faults(document: Document, schema: Schema, lists: Collection[str] = ()) -> list[Fault]:
    """Everything that keeps a policy of this schema from deciding; nothing if it may. `lists` are the lists' names."""
    names = names_of(schema, document, lists)
    found = [*_of_thresholds(document), *_of_constants(document, schema), *_of_control(document)]
    groups: dict[str, Sequence[Segment | Rule]] = {"segments": document.segments, "rules": document.rules}
    for kind, parts in groups.items():
        seen: set[str] = set()
        for index, part in enumerate(parts):
            where = f"{kind}.{index}"
            if not NAME.fullmatch(part.name):
                found.append(
                    Fault(f"{where}.name", "A name has lower-case letters, digits and _, and begins with a letter.")
                )
            elif part.name in seen:
                found.append(Fault(f"{where}.name", f"There are two of the name {part.name}."))
            seen.add(part.name)
            found += [
                Fault(f"{where}.when", fault.message, fault.line, fault.column)
                for fault in expression_faults(part.when, names)
            ]
    if len(document.rules) > settings.POLICY_RULES_LIMIT:
        found.append(Fault("rules", f"A policy has at most {settings.POLICY_RULES_LIMIT} rules (POLICY_RULES_LIMIT)."))
    return found


def _of_thresholds(document: Document) -> Iterable[Fault]:
    if document.appetite not in APPETITES:
        yield Fault(
            "appetite", f"The appetite is one of {', '.join(APPETITES)}.{did_you_mean(document.appetite, APPETITES)}"
        )
    if document.capacity is not None and not 0 < document.capacity < math.inf:
        yield Fault("capacity", "Give how many reviews a day analysts can do, above 0, or nothing.")
    parts: list[tuple[str, Document | Segment]] = [
        ("", document),
        *((f"segments.{index}.", segment) for index, segment in enumerate(document.segments)),
    ]
    for prefix, part in parts:
        given = {name: getattr(part, name) for name in ("challenge", "review", "block")}
        ordered = [(name, value) for name, value in given.items() if value is not None]
        for name, value in ordered:
            if not 0 < value <= 1:
                yield Fault(prefix + name, "A threshold lies above 0 and is at most 1, like a score.")
        for (lower, low), (upper, high) in pairwise(ordered):
            if low > high:
                yield Fault(prefix + upper, f"The {upper} threshold is not below the {lower} threshold.")


def _of_control(document: Document) -> Iterable[Fault]:
    control, limit = document.control, settings.CONTROL_SHARE_LIMIT
    if not 0 <= control.share <= limit:
        yield Fault("control.share", f"The share of the control group is 0 to {limit:g} (CONTROL_SHARE_LIMIT).")
    if control.share and not 0 < control.max_amount < math.inf:
        yield Fault("control.max_amount", "Give the largest amount that the control group may let through.")
    if control.share and not control.seed:
        yield Fault("control.seed", "Give a seed, any text that clients do not know.")


def _of_constants(document: Document, schema: Schema) -> Iterable[Fault]:
    reserved = taken(schema)
    for name, value in document.constants.items():
        if isinstance(value, float) and not math.isfinite(value):
            yield Fault(f"constants.{name}", "A constant is a finite number, a text or a truth value.")
        if not NAME.fullmatch(name):
            yield Fault(f"constants.{name}", "A name has lower-case letters, digits and _, and begins with a letter.")
        elif name in reserved:
            yield Fault(f"constants.{name}", f"{name} is a name of the schema. Give the constant another one.")


def expression_faults(source: str, names: Mapping[str, Name], *, is_condition: bool = True) -> list[Fault]:
    """The faults of one expression; none if it is a condition over these names, or else anything but a time or list."""
    if not source.strip():
        return [Fault("", "Write a condition, such as amount > 1000.", 1, 1)]
    if len(source) > settings.POLICY_EXPRESSION_LIMIT:
        return [
            Fault(
                "",
                f"An expression has at most {settings.POLICY_EXPRESSION_LIMIT} characters (POLICY_EXPRESSION_LIMIT).",
                1,
                1,
            )
        ]
    try:
        checked = _environment(frozenset((name.name, name.type) for name in names.values())).compile(source)
    except RuntimeError as error:
        return [_translated(line, column, message, names) for line, column, message in _positions(str(error))]
    kind = checked.return_type().name().lower()
    if not is_condition and kind not in ("bool", "string", "double", "int"):
        return [Fault("", f"The expression is {SAID_OF_TYPES.get(kind, kind)}. Make a number or a text of it.", 1, 1)]
    if is_condition and kind != "bool":
        return [
            Fault(
                "",
                f"The expression is {SAID_OF_TYPES.get(kind, kind)}, not a condition. Compare it with something.",
                1,
                1,
            )
        ]
    return _tried(source, names)


def _positions(error: str) -> list[tuple[int, int, str]]:
    if "recursion" in error:
        return [(1, 1, "Its parts are nested too deeply, or too many: make several rules of it.")]
    found = [(int(line), int(column), message) for line, column, message in POSITION.findall(error)]
    return found or [(1, 1, error.removesuffix(" [INVALID_ARGUMENT]"))]


def _translated(line: int, column: int, message: str, names: Mapping[str, Name]) -> Fault:
    """The checker's message in our words, with a remedy."""
    if undeclared := re.match(r"undeclared reference to '([^']*)'", message):
        name = undeclared[1]
        if name in FUNCTIONS or name in OPERATORS:
            remedy = f"{name} does not take these."
        elif name == "has":
            remedy = "Whether an optional value is there, its name with has_ before it says, such as has_device."
        else:
            remedy = f"There is no {name}.{did_you_mean(name, [*names, *_function_names()])}"
        return Fault("", remedy, line, column)
    if overload := re.match(r"found no matching overload for '([^']*)' applied to '\(([^']*)\)'", message):
        function, given = overload[1], re.split(r", (?![^(]*\))", overload[2].removeprefix("").strip())
        said = " and ".join(SAID_OF_TYPES.get(kind.lower(), kind) for kind in given)
        shown = function.replace("_", " ").replace("@", "").strip() or function
        remedy = f"{shown} does not go with {said}."
        if set(given) == {"double", "int"}:
            remedy += " Write whole numbers in calculations with a point, such as 2.0."
        elif "null_type" in given:
            remedy += " Whether an optional value is there, its name with has_ before it says."
        return Fault("", remedy, line, column)
    if "Syntax error" in message:
        hint = {"=": " Compare with ==.", "and": " Write &&.", "or": " Write ||.", "not": " Write !."}
        found = re.search(r"(?:at: |input )'([^']*)'", message)
        word = found[1].strip() if found else ""
        what = (
            "The expression ends too early."
            if word == "<EOF>"
            else f"{word!r} is out of place."
            if word
            else "It cannot be read."
        )
        return Fault("", what + hint.get(word, ""), line, column)
    return Fault("", message.removesuffix(" [INVALID_ARGUMENT]"), line, column)


def _tried(source: str, names: Mapping[str, Name]) -> list[Fault]:
    """What the library that runs the expression finds on a sample, such as a division by zero or a faulty pattern."""
    from datetime import UTC, datetime

    import cel

    sample = {name.name: SAMPLES.get(name.type, datetime(2026, 1, 1, tzinfo=UTC)) for name in names.values()}
    blanked = LITERAL.sub(lambda text: f'"{" " * (len(text[0]) - 2)}"', source)
    for called in PATTERN.finditer(blanked):
        start, end = called.span(1)
        line, column = source.count("\n", 0, start) + 1, start - source.rfind("\n", 0, start)
        if not (called[1] and called[2]):
            place = called.start() + 1
            line, column = source.count("\n", 0, place) + 1, place - source.rfind("\n", 0, place)
            return [Fault("", "Give matches a text in quotes: a pattern is checked before it counts.", line, column)]
        try:
            cel.evaluate(f'"a".matches({source[start:end]})')
        except Exception:  # the library raises errors of many types
            return [Fault("", f"{source[start:end]} is no regular expression.", line, column)]
    try:
        program = cel.compile(source)
        context = cel.Context({name: sample[name] for name in program.variables()})
        taken_ms = min(_milliseconds(partial(program.execute, context)) for _ in range(TRIES))
    except Exception as error:
        return [Fault("", f"It cannot be calculated: {str(error).splitlines()[0]}", 1, 1)]
    if taken_ms > MOST_MS:
        remedy = "Repeat less in patterns, and write [a-z0-9] for \\w and \\d, which know all alphabets."
        return [Fault("", f"It takes {taken_ms:.0f} ms a transaction, and may take {MOST_MS:g}. {remedy}", 1, 1)]
    return []


def _milliseconds(run: Callable[[], object]) -> float:
    """How long a processor takes to run it."""
    begin = time.thread_time()
    run()
    return (time.thread_time() - begin) * 1000


# The functions of expressions: those that both libraries have. Each overload is its result and its arguments.
ORDERED: list[tuple[str, ...]] = [
    ("bool", "double", "double"),
    ("bool", "double", "int"),
    ("bool", "int", "double"),
    ("bool", "int", "int"),
    ("bool", "string", "string"),
    ("bool", "timestamp", "timestamp"),
    ("bool", "duration", "duration"),
]
FUNCTIONS: dict[str, tuple[bool, list[tuple[str, ...]]]] = {
    **dict.fromkeys(("_<_", "_<=_", "_>_", "_>=_"), (False, list(ORDERED))),
    **{operator: (False, [*ORDERED, ("bool", "bool", "bool")]) for operator in ("_==_", "_!=_")},
    "@in": (False, [("bool", "double", "[double]"), ("bool", "double", "[int]"), ("bool", "string", "[string]")]),
    **{name: (True, [("bool", "string", "string")]) for name in ("startsWith", "endsWith", "contains", "matches")},
    "size": (True, [("int", "string")]),
    **{
        name: (True, [("int", "timestamp")])
        for name in ("getFullYear", "getMonth", "getDate", "getDayOfWeek", "getHours", "getMinutes")
    },
    "timestamp": (False, [("timestamp", "string")]),
    "duration": (False, [("duration", "string")]),
    "double": (False, [("double", "int"), ("double", "double")]),
}


def _function_names() -> list[str]:
    return [name for name in FUNCTIONS if name[0] not in "_@"]


@cache
def _environment(variables: frozenset[tuple[str, Type]]) -> "checker.Env":
    # Imported late: web processes and commands check, workers only run expressions.
    from cel_expr_python import cel as checker

    kinds = {
        "bool": checker.Type.BOOL,
        "double": checker.Type.DOUBLE,
        "int": checker.Type.INT,
        "string": checker.Type.STRING,
        "timestamp": checker.Type.TIMESTAMP,
        "duration": checker.Type.DURATION,
    }
    kinds |= {f"[{name}]": checker.Type.List(kind) for name, kind in kinds.items()}
    of_type = {Type.NUMBER: "double", Type.TEXT: "string", Type.TRUTH: "bool", Type.TIME: "timestamp"}
    of_type[Type.TEXTS] = "[string]"
    functions = [
        checker.FunctionDecl(
            name,
            [
                checker.Overload(
                    id=f"{name}{index}",
                    return_type=kinds[result],
                    parameters=[kinds[kind] for kind in arguments],
                    is_member=is_member,
                )
                for index, (result, *arguments) in enumerate(overloads)
            ],
        )
        for name, (is_member, overloads) in FUNCTIONS.items()
    ]
    return checker.NewEnv(
        config=checker.NewEnvConfigFromYaml(
            CONFIGURATION.format(", ".join(f'{{name: "{name}"}}' for name in OPERATORS))
        ),
        variables={name: kinds[of_type[kind]] for name, kind in variables},
        functions=functions,
    )
