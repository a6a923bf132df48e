r"""What a written key stands for: a kind, and a form that is equal for equal answers.

Identity is a property of one answer, never of a pair: two keys are the same answer when their kinds and forms are
equal, and different when both were computed and are not. Three standings:

- *exact*: the form was computed.
- *coarse*: it says less than others may (a rounded decimal, a number without its unit, a date that may be two, a time
  without its half of the day, a formula without its name). It has a form of its own, and says what it `fits`.
- *opaque*: a limit was hit, or the notation is not read; only algebra can say what it equals.

What is read is a function of the key and of the kind of its vote alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache

from thinkscale.answers import dates, units
from thinkscale.answers import structures as s
from thinkscale.answers.canonical import is_expression, is_number
from thinkscale.answers.code import is_code
from thinkscale.answers.complexes import LimitError
from thinkscale.answers.evaluate import form, rational_form, relation_form, root_of_line, shown
from thinkscale.answers.formula import Node, parse
from thinkscale.answers.jsons import object_key
from thinkscale.answers.numerals import rounded_digits
from thinkscale.answers.tokens import ReadError
from thinkscale.types import AnswerKind

_MAX_KEY = 1200
_QUANTITY = re.compile(r"(-?[0-9][0-9/.]*) (\S.*)")
_BASE = re.compile(r"([0-9]{1,60})_\{?([2-9]|1[0-6])\}?")
_UNIT_BEHIND = re.compile(r"(.+(?:[0-9})\]]|\\pi))\s*((?:[^\W\d_]{2,}|°)[^\s{}()]*)")
_FLAT = (AnswerKind.choice, AnswerKind.text, AnswerKind.json, AnswerKind.tool_calls, AnswerKind.code)
_HALF_TURN = Fraction(180)
_NOTHING: frozenset[str] = frozenset()


class Standing(StrEnum):
    """How much is known of what an answer stands for."""

    exact = "exact"
    coarse = "coarse"
    opaque = "opaque"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a key stands for."""

    kind: AnswerKind
    form: str
    standing: Standing = Standing.exact
    fits: frozenset[str] = _NOTHING
    """What a coarse answer may turn out to be; it joins the one exact class of a vote that offers one of these."""
    offers: frozenset[str] = _NOTHING
    value: Decimal | None = field(default=None, compare=False)
    """Of a number: 30 digits of it, where it is real."""
    places: int | None = field(default=None, compare=False)
    """Of a decimal that may be a rounding: the digits behind its point."""

    @property
    def name(self) -> str:
        """Kind and form in one text: equal names are one answer."""
        return f"{self.kind}:{self.form}"


def read(key: str, kind: AnswerKind = AnswerKind.auto) -> Reading:
    """What a written key stands for in a vote of a kind; never raises, in a bounded number of operations."""
    if kind in _FLAT:
        return Reading(kind, key)
    return _by_look(key)


@lru_cache(maxsize=8192)
def _by_look(key: str) -> Reading:
    if key[:1] == "#" or len(key) > _MAX_KEY or not key:
        return Reading(AnswerKind.text, key)
    simple = _plain(key) or _when(key)
    if simple is not None:
        return simple
    if object_key(key) is not None:
        return Reading(AnswerKind.json, key)
    if "\n" in key and is_code(key):
        return Reading(AnswerKind.code, key)
    if not is_expression(key) and "\\" not in key:
        return Reading(AnswerKind.text, key.casefold())
    try:
        return _formal(key)
    except ReadError:
        return _unread(key)
    except LimitError:
        return Reading(s.kind_of_signs(key), key, Standing.opaque)


def _plain(key: str) -> Reading | None:
    if key in ("yes", "no"):
        return Reading(AnswerKind.yes_no, key)
    if is_number(key):
        return _number(Fraction(key), rounded_digits(key))
    if key[-1] == "%" and is_number(key[:-1]):
        bare = Fraction(key[:-1])
        found = _number(bare / 100, None)
        return Reading(found.kind, found.form, offers=frozenset({f"bare:{rational_form(bare)}"}), value=found.value)
    if m := _BASE.fullmatch(key):
        # A number in another base is not its value: the base was asked for.
        digits = rational_form(Fraction(m[1]))
        return Reading(AnswerKind.quantity, f"base {m[2]}|{digits}", offers=frozenset({f"bare:{digits}"}))
    m = _QUANTITY.fullmatch(key)
    if m and is_number(m[1]) and (unit := units.unit(m[2])) is not None:
        bare = Fraction(m[1])
        found = _quantity(rational_form(bare * unit.factor), rational_form(bare), unit)
        return found if unit.dimension != "angle" else _angle(found, bare * unit.factor)
    return None


def _number(value: Fraction, places: int | None) -> Reading:
    found = rational_form(value)
    return Reading(
        AnswerKind.number,
        found,
        Standing.exact if places is None else Standing.coarse,
        fits=frozenset({f"bare:{found}"}),
        value=_decimal(found),
        places=places,
    )


def _quantity(scaled: str, bare: str, unit: units.Unit) -> Reading:
    offers = frozenset({f"bare:{bare}"})
    return Reading(AnswerKind.quantity, f"{unit.dimension}|{scaled}", offers=offers)


def _angle(found: Reading, degrees: Fraction) -> Reading:
    # Without its sign an angle may also be meant in radians.
    turned = Node(
        "/", (Node("*", (Node("name", name="\\pi"), Node("number", value=degrees))), Node("number", value=_HALF_TURN))
    )
    return replace(found, offers=found.offers | {f"bare:{form(turned)[1]}"})


def _decimal(found: str) -> Decimal | None:
    # The value of a form: a fraction, or a decimal; complex numbers have none.
    if "/" in found:
        above, below = found.split("/")
        return Decimal(above) / Decimal(below)
    try:
        return Decimal(found)
    except ArithmeticError:
        return None


def _when(key: str) -> Reading | None:
    if not key[0].isalnum():
        return None
    when, kind = dates.day(key), AnswerKind.date
    if when is None:
        when, kind = dates.clock(key), AnswerKind.time
    if when is None:
        return None
    if len(when.could_be) == 1:
        full = when.could_be[0]
        return Reading(kind, full, offers=frozenset({f"{kind}:{full}", *dates.parts(full)}))
    fits = frozenset(f"{kind}:{full}" for full in when.could_be) or frozenset({f"part:{when.key}"})
    return Reading(kind, when.key, Standing.coarse, fits=fits)


def _formal(key: str) -> Reading:
    if (items := s.split(key, ",")) and len(items) > 1:
        return _list_items(items)
    if (parts := s.split_at(key, r"\cup")) and len(parts) > 1:
        return _join("∪", sorted({_item(part).name for part in parts}))
    if (relation := s.relation(key)) is not None:
        return _relation(*relation)
    if (rows := s.matrix(key)) is not None:
        return _matrix(*rows)
    if s.is_closed(key) and (len(s.split(key[1:-1], ",")) != 1 or key[0] + key[-1] not in ("()", "{}")):
        return _bracketed(key)
    if key in (r"\mathbb{R}", r"\R"):
        return Reading(AnswerKind.list, "(number:-inf; number:inf)")
    if key in (r"\emptyset", r"\varnothing", "∅"):
        return Reading(AnswerKind.list, "{}")
    if (sign := s.infinite(key)) is not None:
        return Reading(AnswerKind.number, sign)
    if (parts := s.split(key, ":")) and len(parts) == 2:
        found = _value(Node("/", (parse(parts[0]), parse(parts[1]))))
        return Reading(AnswerKind.list, f"ratio {found.form}", found.standing)
    if (m := _UNIT_BEHIND.fullmatch(key)) and (unit := units.unit(m[2])) is not None and not s.is_argument(m[1]):
        return _scale(parse(m[1]), unit)
    return _formula(key)


def _formula(key: str) -> Reading:
    node = parse(key)
    both = s.both_signs(node)
    if len(both) > 1:
        values = [_value(each) for each in both]
        return _unordered(values)
    return _value(node)


def _value(node: Node) -> Reading:
    closed, found = form(node)
    if closed:
        return Reading(AnswerKind.number, found, fits=frozenset({f"bare:{found}"}), value=_decimal(found))
    return Reading(AnswerKind.expression, found, fits=frozenset({f"value:{found}"}))


def _scale(node: Node, unit: units.Unit) -> Reading:
    closed, bare = form(node)
    if not closed:
        raise ReadError("a unit stands behind no number")
    factor = Node("number", value=unit.factor)
    return _quantity(form(Node("*", (node, factor)))[1], bare, unit)


@lru_cache(maxsize=8192)
def _item(key: str) -> Reading:
    # An item of a list, which is as exact as what it is read as.
    found = _by_look(key)
    if found.standing is Standing.opaque:
        raise LimitError("an item was not computed")
    return found


def _join(sign: str, names: list[str]) -> Reading:
    return Reading(AnswerKind.list, sign + "; ".join(names))


def _list_items(items: list[str]) -> Reading:
    named = [s.assignment(item) for item in items]
    names = [pair[0] for pair in named if pair]
    if len(names) == len(items) == len(set(names)):
        pairs = sorted((pair[0], _item(pair[1]).name) for pair in named if pair)
        values = [value for _, value in pairs]
        offers = frozenset({"values:" + "; ".join(sorted(set(values))), "row:" + "; ".join(values)})
        return Reading(AnswerKind.list, "; ".join(f"{name}={value}" for name, value in pairs), offers=offers)
    if all(s.is_inequality(item) for item in items):
        # `x < 1 or x > 2` is the union of two intervals.
        return _join("∪", sorted({_item(item).name for item in items}))
    return _unordered([reading for item in items for reading in _spread(item)])


def _spread(item: str) -> list[Reading]:
    if r"\pm" in item or r"\mp" in item:
        return [_value(node) for node in s.both_signs(parse(item))]
    return [_item(item)]


def _unordered(values: list[Reading]) -> Reading:
    # A list of values says which there are; naming one twice adds nothing.
    names = sorted({value.name for value in values})
    return Reading(AnswerKind.list, "{" + "; ".join(names) + "}", fits=frozenset({"values:" + "; ".join(names)}))


def _bracketed(key: str) -> Reading:
    items = s.split(key[1:-1], ",")
    if key[0] == "{":
        names = sorted({reading.name for item in items for reading in _spread(item)})
        return Reading(AnswerKind.list, "{" + "; ".join(names) + "}", fits=frozenset({"values:" + "; ".join(names)}))
    row = "; ".join(_item(item).name for item in items)
    fits = frozenset({f"row:{row}"}) if key[0] + key[-1] == "()" else _NOTHING
    return Reading(AnswerKind.list, f"{key[0]}{row}{key[-1]}", fits=fits)


def _matrix(name: str, rows: list[list[str]]) -> Reading:
    if name == "vmatrix":
        return _value(s.determinant([[parse(cell) for cell in row] for row in rows]))
    return Reading(AnswerKind.matrix, " | ".join("; ".join(_item(cell).name for cell in row) for row in rows))


def _relation(sides: list[str], signs: list[str]) -> Reading:
    if (interval := _around(sides, signs) if any("|" in side for side in sides) else None) is not None:
        return interval
    if len(sides) == 3 and (interval := _between(sides, signs)) is not None:
        return interval
    if len(sides) != 2:
        return _chain(sides, signs)
    left, right = sides
    sign = signs[0]
    if sign in (">", ">="):
        left, right, sign = right, left, {">": "<", ">=": "<="}[sign]
    difference = Node("-", (parse(right), parse(left)))
    if sign == "=":
        return _equation(left, right, difference)
    if sign in ("<", "<=") and (line := root_of_line(difference)) is not None:
        place, rises = line
        bound, closed = f"number:{shown(place)}", sign == "<="
        text = (
            f"{'[' if closed else '('}{bound}; number:inf)"
            if rises
            else f"(number:-inf; {bound}{']' if closed else ')'}"
        )
        return Reading(AnswerKind.list, text)
    return Reading(AnswerKind.relation, sign + relation_form(difference, ordered=sign in ("<", "<=")))


def _equation(left: str, right: str, difference: Node) -> Reading:
    (left_closed, left_form), (right_closed, right_form) = form(parse(left)), form(parse(right))
    if left_closed and right_closed:
        # A true calculation is what it comes to; a false one is only itself.
        if left_form == right_form:
            return Reading(
                AnswerKind.number, right_form, fits=frozenset({f"bare:{right_form}"}), value=_decimal(right_form)
            )
        return Reading(AnswerKind.relation, f"{left_form}={right_form}")
    offers = frozenset({f"value:{right_form}"}) if s.is_name(left) else _NOTHING
    return Reading(AnswerKind.relation, "=" + relation_form(difference, ordered=False), offers=offers)


def _between(sides: list[str], signs: list[str]) -> Reading | None:
    if not s.is_variable(sides[1]) or "=" in signs or "!=" in signs:
        return None
    if signs[0][0] != signs[1][0]:
        return None
    low, high, opened, closed = sides[0], sides[2], signs[0], signs[1]
    if signs[0][0] == ">":
        low, high, opened, closed = high, low, closed, opened
    names = [_item(low).name, _item(high).name]
    if not all(name.startswith("number:") for name in names):
        return None
    left, right = "[" if len(opened) > 1 else "(", "]" if len(closed) > 1 else ")"
    found = f"{left}{'; '.join(names)}{right}"
    return Reading(AnswerKind.list, found)


def _around(sides: list[str], signs: list[str]) -> Reading | None:
    r"""The values within or between two distances from 0: `|x| < 3`, `1 \le |z| \le 2`."""
    if signs[0] in (">", ">=") and all(sign in (">", ">=") for sign in signs):
        sides, signs = sides[::-1], [{">": "<", ">=": "<="}[sign] for sign in signs[::-1]]
    at = next((n for n, side in enumerate(sides) if s.is_distance(side)), 0)
    if not all(sign in ("<", "<=") for sign in signs) or at == 0 or len(sides) > at + 2:
        return _within(sides, signs) if at == 0 and len(sides) == 2 and s.is_distance(sides[0]) else None
    low = parse(sides[0])
    if at == 1 and len(sides) == 2 and form(low)[0]:
        left, right = ("]", "[") if len(signs[0]) > 1 else (")", "(")
        minus = _value(Node("neg", (low,))).name
        beyond = (f"list:(number:-inf; {minus}{left}", f"list:{right}{_value(low).name}; number:inf)")
        return _join("∪", sorted(beyond))
    if at != 1 or len(sides) != 3 or not form(low)[0]:
        return None
    opened, closed = ("[" if len(signs[0]) > 1 else "("), ("]" if len(signs[1]) > 1 else ")")
    high = parse(sides[2])
    near, far, minus_near, minus_far = (
        _value(node).name for node in (low, high, Node("neg", (low,)), Node("neg", (high,)))
    )
    mirrored = ("[" if closed == "]" else "(") + f"{minus_far}; {minus_near}" + ("]" if opened == "[" else ")")
    return _join("∪", sorted((f"list:{opened}{near}; {far}{closed}", f"list:{mirrored}")))


def _within(sides: list[str], signs: list[str]) -> Reading | None:
    if signs[0] not in ("<", "<="):
        return None
    bound = parse(sides[1])
    if not form(bound)[0]:
        return None
    left, right = ("[", "]") if len(signs[0]) > 1 else ("(", ")")
    return Reading(AnswerKind.list, f"{left}{_value(Node('neg', (bound,))).name}; {_value(bound).name}{right}")


def _chain(sides: list[str], signs: list[str]) -> Reading:
    links = zip(sides, signs, sides[1:], strict=False)
    return Reading(AnswerKind.relation, " & ".join(sorted(_relation([a, b], [sign]).name for a, sign, b in links)))


def _unread(key: str) -> Reading:
    # Formulas in a notation that is not read here are for algebra; everything else is words.
    if s.is_formal(key):
        return Reading(s.kind_of_signs(key), key, Standing.opaque)
    return Reading(AnswerKind.text, key.casefold())
