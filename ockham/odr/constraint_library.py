"""Named constraints: SQL files with a sentence, parameters with units, and the limit of the value.

A record names one with its parameters, such as `{id: C1, name: loss_improves_by, value: 0.02}`. When the
record is parsed, this becomes an ordinary constraint with text, SQL, operator and threshold.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from ockham import resources
from ockham.errors import BadInputError, suggest_name

# Keys of the SQL form, which a named constraint generates.
SQL_KEYS = ("text", "sql", "op", "threshold", "tolerance", "unit")
# Keys of every constraint that `ockham odr new --constraint` accepts, with their words. No word: a number.
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "judge": ("interval", "mean"),
    "severity": ("error", "warn"),
    "min_n": (),
}
_PARAMETER = re.compile(r"parameter (?P<name>[a-z]+): (?P<kind>[a-z]+); (?P<meaning>.+); (?P<value>.+)")


class ParameterKind(NamedTuple):
    """Unit of a parameter, its accepted range, and its factor and suffix in a sentence."""

    low: float
    high: float
    accepted: str
    factor: int = 1
    suffix: str = ""


KINDS: Mapping[str, ParameterKind] = {
    "share": ParameterKind(0, 1, "0 to 1, where 0.02 is 2 %", 100, " %"),
    "ratio": ParameterKind(-1, 10, "-1 to 10, where 0.02 is 2 %", 100, " %"),
    "quantile": ParameterKind(0.01, 1, "0.01 to 1, where 1 is all cases", 100, " %"),
    "count": ParameterKind(0, 1e9, "an integer from 0"),
    "ms": ParameterKind(0, 1e9, "milliseconds from 0", 1, " ms"),
    "seconds": ParameterKind(0, 1e9, "seconds from 0", 1, " s"),
    "nats": ParameterKind(0, 1e3, "nats per token from 0", 1, " nats/token"),
}


class Parameter(NamedTuple):
    """One parameter. `default` is None if a record must name it."""

    name: str
    kind: ParameterKind
    meaning: str
    example: float
    default: float | None

    @property
    def accepted(self) -> str:
        """Accepted values and default, for messages."""
        default = "" if self.default is None else f"; default {self.default:g}"
        return f"{self.name} ({self.meaning}): {self.kind.accepted}{default}"


class NamedConstraint(NamedTuple):
    """One named constraint, as its SQL file describes it.

    Attributes:
        name: Name in a record, and of its file.
        template: Sentence with parameters in braces.
        use: Purpose.
        op: Comparison operator, or `between`.
        limits: Names of the parameters of the limit, or a number.
        unit: Unit of the value.
        min_n: Default of the smallest number of observations.
        parameters: Parameters in order.
        sql: SELECT over the views.

    """

    name: str
    template: str
    use: str
    op: str
    limits: tuple[str, ...]
    unit: str
    min_n: int
    parameters: tuple[Parameter, ...]
    sql: str

    @property
    def example(self) -> str:
        """Argument of `ockham odr new --constraint`."""
        shown = [f"{parameter.example:g}" for parameter in self.parameters if parameter.default is None]
        return f"{self.name}={'..'.join(shown)}" if shown else self.name


class ResolvedConstraint(NamedTuple):
    """Fields of a constraint that its name and parameters determine."""

    text: str
    sql: str
    op: str
    threshold: float
    tolerance: float
    unit: str
    min_n: int
    parameters: Mapping[str, float]


class ConstraintProblem(NamedTuple):
    """A problem of a named constraint. `key` is the key in the record."""

    key: str
    message: str


@functools.cache
def load_library() -> Mapping[str, NamedConstraint]:
    """Return all named constraints by name."""
    files = sorted((resources.sql_dir() / "constraints").glob("*.sql"))
    return {file.stem: _parse_file(file) for file in files}


def _parse_file(file: Path) -> NamedConstraint:
    lines = file.read_text(encoding="utf-8").splitlines()
    count = next(at for at, line in enumerate(lines) if not line.startswith("-- "))
    header = [line.removeprefix("-- ") for line in lines[:count]]
    values = dict(line.split(": ", 1) for line in header if not line.startswith("parameter "))
    parameters = [match for line in header if (match := _PARAMETER.fullmatch(line))]
    return NamedConstraint(
        file.stem,
        values["text"],
        values["use"],
        values["op"],
        tuple(values["threshold"].split()),
        values["unit"],
        int(values["min_n"]),
        tuple(_parse_parameter(match) for match in parameters),
        "\n".join(lines[count:]),
    )


def _parse_parameter(match: re.Match[str]) -> Parameter:
    word, number = match["value"].split()
    default = float(number) if word == "default" else None
    return Parameter(match["name"], KINDS[match["kind"]], match["meaning"], float(number), default)


def parameter_names() -> frozenset[str]:
    """Return the names of all parameters of all named constraints."""
    return frozenset(one.name for named in load_library().values() for one in named.parameters)


def find_problems(values: Mapping[str, Any]) -> list[ConstraintProblem]:
    """Return the problems of a named constraint of a record. Without problems it can be resolved."""
    name = values.get("name")
    named = load_library().get(name) if isinstance(name, str) else None
    if named is None:
        return [ConstraintProblem("name", f"{name!r:.60} is not a named constraint{_suggest(name)}")]
    problems = [
        ConstraintProblem(key, f"{key!r} is generated from the name {named.name!r}; remove one of the two")
        for key in SQL_KEYS
        if key in values
    ]
    known = [parameter.name for parameter in named.parameters]
    for key in parameter_names().intersection(values):
        if key not in known:
            accepted = "; ".join(parameter.accepted for parameter in named.parameters) or "no parameter"
            problems.append(ConstraintProblem(key, f"{named.name} has no {key!r}; accepted: {accepted}"))
    for parameter in named.parameters:
        value = values.get(parameter.name, parameter.default)
        if not _is_accepted(parameter, value):
            given = "is missing" if value is None else f"is {value!r:.40}{_percent(parameter, value)}"
            message = f"{parameter.name!r} of {named.name} {given}; accepted: {parameter.accepted}"
            problems.append(ConstraintProblem(parameter.name, message))
    if not problems and named.op == "between" and values[named.limits[0]] > values[named.limits[1]]:
        message = f"{named.name}: low is {values['low']!r}, above high, which is {values['high']!r}"
        problems.append(ConstraintProblem("low", message))
    return problems


def _suggest(name: object) -> str:
    close = suggest_name(str(name).casefold(), load_library())
    return close if close.startswith("; did") else "; `ockham odr constraints` lists them"


def _percent(parameter: Parameter, value: object) -> str:
    """Return `, which means 200 %` for a share of 2. Empty for other parameters, types and large values."""
    if parameter.kind.factor == 1 or isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    if not abs(value) < 1e6:
        return ""
    return f", which means {value * parameter.kind.factor:g}{parameter.kind.suffix}"


def _is_accepted(parameter: Parameter, value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    kind = parameter.kind
    return kind.low <= value <= kind.high and (kind is not KINDS["count"] or value == int(value))


def resolve_constraint(values: Mapping[str, Any]) -> ResolvedConstraint | None:
    """Return the fields of a named constraint of a record. None if it has problems."""
    if find_problems(values):
        return None
    named = load_library()[values["name"]]
    given = {one.name: float(values.get(one.name, one.default)) for one in named.parameters}
    text = re.sub(r"\{([a-z]+)\}", lambda match: _format(named, match[1], given), named.template)
    sql = re.sub(
        r"\$([a-z]+)\b", lambda match: repr(given[match[1]]) if match[1] in given else match[0], named.sql
    )
    limits = [given[limit] if limit in given else float(limit) for limit in named.limits]
    op, threshold, tolerance = named.op, limits[0], 0.0
    if op == "between":
        op, threshold = "==", (limits[0] + limits[1]) / 2
        # The larger one, so that rounding excludes neither limit.
        tolerance = max(abs(limits[0] - threshold), abs(limits[1] - threshold))
    return ResolvedConstraint(text, sql, op, threshold, tolerance, named.unit, named.min_n, given)


def _format(named: NamedConstraint, name: str, given: Mapping[str, float]) -> str:
    """Return a parameter with its unit: 0.02 as `2 %`."""
    kind = next(one.kind for one in named.parameters if one.name == name)
    return f"{format_plain(Decimal(repr(given[name])) * kind.factor)}{kind.suffix}"


def format_plain(number: Decimal) -> str:
    """Return a number without exponent and without trailing zeros."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def parse_constraint_argument(text: str) -> dict[str, Any]:
    """Return the keys of a constraint for `NAME`, `NAME=VALUE` or `NAME=LOW..HIGH`.

    After a comma follow other parameters, or options such as `judge=mean`.

    Raises:
        BadInputError: If the name, a parameter or an option is not accepted.

    """
    head, *others = text.split(",")
    name, _, first = head.partition("=")
    values: dict[str, Any] = {"name": name.strip()}
    named = load_library().get(values["name"])
    if named is None:
        raise _argument_error(text, find_problems(values)[0].message)
    free = [one.name for one in named.parameters if one.default is None]
    numbers = first.split("..") if first else []
    if len(numbers) != len(free):
        raise _argument_error(text, f"{named.name} is written as {named.example}")
    known = [*(one.name for one in named.parameters), *OPTIONS]
    for key, number in [*zip(free, numbers, strict=True), *(_split_pair(text, other) for other in others)]:
        if key in values:
            raise _argument_error(text, f"{key!r} is given twice")
        if key not in known:
            raise _argument_error(text, f"unknown parameter {key[:40]!r}; accepted: {', '.join(known)}")
        values[key] = _parse_option(text, key, number) if key in OPTIONS else _parse_number(text, number)
    if problems := find_problems(values):
        raise _argument_error(text, problems[0].message)
    return values


def _argument_error(text: str, problem: str) -> BadInputError:
    return BadInputError(f"--constraint {text[:80]!r}: {problem}")


def _split_pair(text: str, pair: str) -> tuple[str, str]:
    key, separator, number = pair.partition("=")
    if not separator:
        raise _argument_error(text, f"{pair[:40]!r} is not KEY=VALUE")
    return key.strip(), number.strip()


def _parse_option(text: str, key: str, value: str) -> str | int:
    """Return the value of an option: one of its words, or a number of observations from 1."""
    words = OPTIONS[key]
    if value in words or (not words and value.isascii() and value.isdigit() and int(value) > 0):
        return value if words else int(value)
    accepted = " or ".join(words) or "an integer from 1"
    raise _argument_error(text, f"{key!r} is {value[:40]!r}; accepted: {accepted}")


def _parse_number(text: str, number: str) -> float | int:
    """Return a number; `2%` is 0.02."""
    percent = number.strip().endswith("%")
    try:
        value = Decimal(number.strip().removesuffix("%").strip()) / (100 if percent else 1)
        return int(value) if value == int(value) else float(value)
    except (ArithmeticError, ValueError):
        raise _argument_error(text, f"{number[:40]!r} is not a number") from None


def flow_fields(name: str, parameters: Mapping[str, float]) -> Iterable[str]:
    """Return `name: NAME` and each parameter that differs from its default, as YAML."""
    yield f"name: {name}"
    for one in load_library()[name].parameters:
        if parameters[one.name] != one.default:
            yield f"{one.name}: {format_plain(Decimal(repr(float(parameters[one.name]))))}"
