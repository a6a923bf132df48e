"""Fields of a JSON body, read with their types checked; what is wrong is said in the words of OpenAI's API.

It knows no endpoint. `where` is the path of the object that is read, such as `messages[0]`, and empty for the body.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from thinkscale.errors import ServeError

Json = Mapping[str, object]
VALUES = 2**18
"""Most values in a body: going through more keeps everybody else waiting."""


def path_of(where: str, name: str) -> str:
    """The path of a field."""
    return f"{where}.{name}" if where else name


def missing(param: str) -> ServeError:
    """The refusal of a body without a field."""
    return ServeError(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")


def mistyped(param: str, expected: str, seen: object) -> ServeError:
    """The refusal of a value of another type."""
    said = f"Invalid type for '{param}': expected {expected}, but got {_kind(seen)} instead."
    return ServeError(said, param=param, code="invalid_type")


def invalid(param: str, why: str, code: str = "invalid_value") -> ServeError:
    """The refusal of a value that cannot be used, for a reason in a whole sentence."""
    return ServeError(f"Invalid '{param}': {why}", param=param, code=code)


def unsupported(param: str, why: str) -> ServeError:
    """The refusal of something that the endpoint has at OpenAI and not here."""
    return ServeError(f"Unsupported parameter: '{param}'. {why}", param=param, code="unsupported_parameter")


def text(of: Json, name: str, where: str = "", *, required: bool = False) -> str | None:
    """A string."""
    value, param = of.get(name), path_of(where, name)
    if value is None and required:
        raise missing(param)
    if value is not None and not isinstance(value, str):
        raise mistyped(param, "a string", value)
    return value


def flag(of: Json, name: str, where: str = "", *, default: bool = False) -> bool:
    """True or false."""
    value = of.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise mistyped(path_of(where, name), "a boolean", value)
    return value


def whole(of: Json, name: str, *, least: int | None = None, most: int | None = None) -> int | None:
    """A whole number."""
    value = of.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise mistyped(name, "an integer", value)
    _bounded(name, value, least, most, "integer")
    return value


def number(
    of: Json, name: str, where: str = "", *, least: float | None = None, most: float | None = None
) -> float | None:
    """A number that is finite."""
    value, param = of.get(name), path_of(where, name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise mistyped(param, "a decimal", value)
    if isinstance(value, float) and not math.isfinite(value):
        raise invalid(param, "a finite number was expected.")
    _bounded(param, value, least, most, "decimal")
    return value


def table(of: Json, name: str, where: str = "") -> Json | None:
    """An object."""
    value = of.get(name)
    if value is not None and not isinstance(value, Mapping):
        raise mistyped(path_of(where, name), "an object", value)
    return value


def rows(of: Json, name: str, where: str = "", *, most: int | None = None) -> Sequence[Json] | None:
    """A list of objects, which may be empty."""
    value, param = of.get(name), path_of(where, name)
    if value is None:
        return None
    if not isinstance(value, list):
        raise mistyped(param, "an array of objects", value)
    if most is not None and len(value) > most:
        seen = f"Expected an array with maximum length {most}, but got an array with length {len(value)} instead."
        raise invalid(param, f"array too long. {seen}", "array_above_max_length")
    for at, row in enumerate(value):
        if not isinstance(row, Mapping):
            raise mistyped(f"{param}[{at}]", "an object", row)
    return value


def one_of(value: str, param: str, allowed: Collection[str]) -> str:
    """A word out of a few."""
    if value not in allowed:
        supported = ", ".join(f"'{word}'" for word in allowed)
        said = f"Invalid value: '{value[:100]}'. Supported values are: {supported}."
        raise ServeError(said, param=param, code="invalid_value")
    return value


def shallow(body: Json, most: int) -> None:
    """Check how deep and how wide a body nests and that its strings are text, without recursion.

    Raises:
        ServeError: it nests deeper than `most`, has more than `VALUES`, or holds half of a surrogate pair.
    """
    left: list[tuple[object, int]] = [(body, 1)]
    seen = 0
    while left:
        value, depth = left.pop()
        if isinstance(value, str):
            if not value.isascii() and not _encodes(value):
                raise ServeError("We could not parse the JSON body of your request: a string is not valid Unicode.")
        elif isinstance(value, Mapping | list):
            if depth > most:
                raise ServeError(f"The body of your request nests more than {most} levels deep, which is the limit.")
            seen += len(value)
            if seen > VALUES:
                raise ServeError(f"The body of your request has more than {VALUES} values, which is the limit.")
            inside = [*value.keys(), *value.values()] if isinstance(value, Mapping) else value
            left.extend((each, depth + 1) for each in inside)


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _bounded(param: str, value: float, least: float | None, most: float | None, kind: str) -> None:
    if least is not None and value < least:
        seen = f"{kind} below minimum value. Expected a value >= {least:g}, but got {_shown(value)} instead."
        raise invalid(param, seen, f"{kind}_below_min_value")
    if most is not None and value > most:
        seen = f"{kind} above maximum value. Expected a value <= {most}, but got {_shown(value)} instead."
        raise invalid(param, seen, f"{kind}_above_max_value")


def _shown(value: float) -> str:
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    return str(value)


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal number"
        case str():
            return "a string"
        case Mapping():
            return "an object"
        case list() if not value:
            return "an empty array"
        case _:
            return "an array"
