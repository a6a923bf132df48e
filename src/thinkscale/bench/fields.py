"""Values of recorded rows, each read as what it has to be or refused by the name of its field.

Nothing here knows which fields there are. Whoever reads a file puts the file and the line in front of what is said.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence

LARGEST = 2**53
"""Whole numbers up to it are kept exactly everywhere."""


class Misread(Exception):
    """A field that is not what it has to be.

    Args:
        field: where it stands in its row, such as `samples[3].reward`.
        told: the rest of the sentence.
    """

    def __init__(self, field: str, told: str) -> None:
        super().__init__(f"`{field}` {told}" if field else told)
        self.field, self.told = field, told

    def below(self, place: str) -> Misread:
        """The same, of a row that stands at a place of another."""
        return Misread(f"{place}.{self.field}" if self.field else place, self.told)


def shown(value: object) -> str:
    """A value as it is quoted in a message, cut where it is long."""
    text = json.dumps(value, ensure_ascii=True, default=str)
    return f"`{text if len(text) <= 60 else text[:57] + '…'}`"


def first(row: Mapping[str, object], names: Sequence[str]) -> tuple[str, object]:
    """The first of some fields that is there, with its value; the first name and `None` without any."""
    for name in names:
        if (value := row.get(name)) is not None:
            return name, value
    return names[0], None


def text(value: object, field: str) -> str:
    """Words, or a number as it is written; nothing is the empty string."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, int | float):
        return json.dumps(value)
    raise Misread(field, f"is {shown(value)}, and a text is expected: write one or leave the field out")


def whole(value: object, field: str) -> int | None:
    """A count; `None` where none is given."""
    found = value if isinstance(value, int) and not isinstance(value, bool) else real(value, field)
    if found is None:
        return None
    if not (isinstance(found, int) or found.is_integer()) or not 0 <= found <= LARGEST:
        raise Misread(field, f"is {shown(value)}, and a whole number from 0 is expected: write one or leave it out")
    return int(found)


def real(value: object, field: str) -> float | None:
    """A number; `None` where none is given, which is also what NaN says."""
    if value is None:
        return None
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            pass
        else:
            return None if math.isnan(number) else number
    raise Misread(field, f"is {shown(value)}, and a number is expected: write one or leave the field out")


def reals(value: object, field: str) -> tuple[float, ...]:
    """Numbers; none where nothing is given."""
    if value is None:
        return ()
    if isinstance(value, list) and {*map(type, value)} <= {float, int}:
        plain = tuple(map(float, value))
        if not any(map(math.isnan, plain)):
            return plain
    numbers = items(value, field, real)
    if None in numbers:
        raise Misread(field, "has an entry that is no number: leave the whole field out where one is missing")
    return tuple(numbers)  # type: ignore[arg-type]


def verdict(value: object, field: str) -> bool | None:
    """Right or wrong, also as 1 or 0; `None` where it is not said."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    raise Misread(field, f"is {shown(value)}, which is neither true nor false: write one of them or leave it out")


def items(value: object, field: str, read: Callable[[object, str], object]) -> list[object]:
    """A list, each entry read."""
    if not isinstance(value, list):
        raise Misread(field, f"is {shown(value)}, and a list is expected")
    return [read(entry, f"{field}[{at}]") for at, entry in enumerate(value)]


def mapping(value: object, field: str) -> Mapping[str, object]:
    """An object with named fields."""
    if not isinstance(value, dict):
        raise Misread(field, f"is {shown(value)}, and an object with named fields is expected")
    return value
