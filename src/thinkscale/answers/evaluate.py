"""The form of a formula: what it is worth, so that equal formulas have equal forms however they are written.

A closed formula is worth a number, evaluated to 50 digits and more and keyed by 30; a rational one that needs more is
keyed by its exact fraction. A formula with variables is worth its values at 8 fixed points, whose coordinates depend on
the variables' names alone; and for every variable whose sign matters, the value where it is negative (so `|x|` and `x`
differ, while `sqrt(xy)` is the product of two roots).

`LimitError` says that the value was not computed. Nothing here takes long: every function is a bounded number of
decimal operations, and large powers are never written out.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_UP, Context, Decimal, DecimalException
from fractions import Fraction
from functools import lru_cache

from thinkscale.answers import complexes as c
from thinkscale.answers.complexes import LimitError, Number
from thinkscale.answers.formula import Node, names

POINTS = 8
KEYED = 30
"""Significant digits by which values are told apart."""
_EXACT_DIGITS = 28
"""Fractions of at most so many digits differ within the keyed digits."""
_MAX_BITS = 4000
_MAX_FACTORIAL = 300
_MAX_SIGNED = 6
_MAX_COST = 20_000
"""Operations that one answer may cost, a sum or a product being one."""
_COSTS = {
    **dict.fromkeys(("number", "name", "+", "-", "*", "/", "neg", "abs"), 1),
    **dict.fromkeys(("sin", "cos", "arctan"), 20),
    **dict.fromkeys(("tan", "cot", "sec", "csc", "arcsin", "arccos", "sinh", "cosh", "tanh"), 40),
    **dict.fromkeys(("!", "gamma"), 200),
    "binom": 600,
}
_NUDGE = 1 + Decimal(10) ** -45

Env = Mapping[str, Number]


def form(node: Node) -> tuple[bool, str]:
    """Whether a formula is a number, and its form.

    Raises:
        LimitError: it was not computed.
    """
    free = sorted(names(node) - {"\\pi", "e", "i", "\\infty"})
    if "\\infty" in names(node):
        raise LimitError("infinity is no number")
    if not free:
        return True, number_form(node)
    _afford(node, POINTS + min(len(free), _MAX_SIGNED))
    found = [value_at(node, point(free, k)) for k in range(POINTS)]
    keyed = [shown(z) for z in found]
    signed = _vary_signs(node, free, c.ONE, keyed[0])
    if len(set(keyed)) == 1 and not signed:
        return True, keyed[0]
    return False, _digest([*keyed, *signed])


def relation_form(difference: Node, *, ordered: bool) -> str:
    """The form of `difference = 0`, or of `difference > 0` where it is `ordered`: its values up to a common factor.

    Raises:
        LimitError: it was not computed.
    """
    free = sorted(names(difference) - {"\\pi", "e", "i"})
    _afford(difference, POINTS + min(len(free), _MAX_SIGNED))
    found = [value_at(difference, point(free, k)) for k in range(POINTS)]
    scale = next((z for z in found if z != c.ZERO), None)
    if scale is None:
        return "always"
    scale = c.absolute(scale) if ordered else scale
    keyed = [shown(c.over(z, scale)) for z in found]
    return _digest([*keyed, *_vary_signs(difference, free, scale, keyed[0])])


def root_of_line(difference: Node) -> tuple[Number, bool] | None:
    """Where a formula of one variable that is a line is 0, and whether it rises; `None` where it is no line."""
    free = sorted(names(difference) - {"\\pi", "e", "i"})
    if len(free) != 1:
        return None
    _afford(difference, 3)
    places = [c.real(Fraction(n, 10)) for n in (-17, 1, 19)]
    low, middle, high = (value_at(difference, {free[0]: place}) for place in places)
    slope = c.over(c.add(high, c.negative(low)), c.real(Fraction(36, 10)))
    bent = c.add(c.add(low, high), c.negative(c.times(c.real(2), middle)))
    if bent != c.ZERO or slope == c.ZERO or slope[1]:
        return None
    return c.add(places[0], c.negative(c.over(low, slope))), slope[0] > 0


def number_form(node: Node) -> str:
    """The form of a formula without variables."""
    _afford(node, 1)
    value = exact(node)
    return rational_form(value) if value is not None else shown(value_at(node, {}))


def rational_form(value: Fraction) -> str:
    """The form of an exact fraction."""
    if len(str(abs(value.numerator))) + len(str(value.denominator)) > _EXACT_DIGITS:
        return str(value)
    return shown(c.real(value))


def shown(z: Number, *, folded: bool = False) -> str:
    """A value as it is keyed; `folded` leaves the sign of the imaginary part out."""
    top = c.size(z)
    re, im = (_round(part, top) for part in z)
    if folded:
        im = im.removeprefix("-")
    return re if im == "0" else f"{re}&{im}"


def point(free: list[str], k: int) -> dict[str, Number]:
    """The k-th fixed point: a positive coordinate for every variable, by its name."""
    return {name: _coordinate(name, k) for name in free}


@lru_cache(maxsize=4096)
def _coordinate(name: str, k: int) -> Number:
    # Around 1, so that high powers stay comparable; never a simple fraction.
    seed = int.from_bytes(hashlib.blake2b(f"{name}|{k}".encode(), digest_size=6).digest(), "big")
    return c.real(Fraction(6, 10) + Fraction(seed, 2**48))


def _vary_signs(node: Node, free: list[str], scale: Number, at_first: str) -> list[str]:
    first, found = point(free, 0), []
    for name in free[:_MAX_SIGNED]:
        try:
            there = value_at(node, {**first, name: c.negative(first[name])})
            value = shown(c.over(there, scale), folded=True)
        except LimitError:
            value = "none"
        if value != at_first:
            found.append(f"{name}:{value}")
    return found


def _afford(node: Node, times: int) -> None:
    if times * _cost(node) > _MAX_COST:
        raise LimitError("the formula has too many operations")


def _cost(node: Node) -> int:
    return _COSTS.get(node.op, 10) + sum(map(_cost, node.parts))


def _round(part: Decimal, top: int) -> str:
    if not part:
        return "0"
    below = top - part.adjusted()
    if below >= KEYED:
        return "0"
    value = Context(prec=KEYED - below, rounding=ROUND_HALF_UP, Emax=10**9, Emin=-(10**9)).multiply(part, _NUDGE)
    sign, digits, exponent = value.as_tuple()
    text = "".join(map(str, digits)).rstrip("0")
    return f"{'-' if sign else ''}{text}e{int(exponent) + len(digits) - len(text)}"


def _digest(parts: list[str]) -> str:
    return hashlib.blake2b("|".join(parts).encode(), digest_size=16).hexdigest()


def exact(node: Node) -> Fraction | None:
    """The exact value of a rational formula without variables, or `None` where it is not one or is too large."""
    try:
        return _exact(node)
    except (ArithmeticError, ValueError):
        return None


def _exact(node: Node) -> Fraction | None:
    if node.op == "number":
        return node.value
    rule = _EXACT.get(node.op)
    if rule is None:
        return None
    parts = []
    for part in node.parts:
        value = _exact(part)
        if value is None or value.numerator.bit_length() + value.denominator.bit_length() > _MAX_BITS:
            return None
        parts.append(value)
    return rule(*parts)


def _exact_power(base: Fraction, exponent: Fraction) -> Fraction | None:
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if exponent.denominator != 1 or abs(exponent.numerator) * bits > _MAX_BITS:
        return None
    return base ** int(exponent) if base or exponent > 0 else None


def _exact_factorial(value: Fraction) -> Fraction | None:
    whole = value.denominator == 1 and 0 <= value <= _MAX_FACTORIAL
    return Fraction(math.factorial(int(value))) if whole else None


def _exact_choose(n: Fraction, k: Fraction) -> Fraction | None:
    whole = n.denominator == k.denominator == 1 and k >= 0 and 0 <= n <= _MAX_FACTORIAL
    return Fraction(math.comb(int(n), int(k))) if whole else None


def _whole(combine: Callable[[int, int], int]) -> Callable[..., Fraction | None]:
    def rule(a: Fraction, b: Fraction) -> Fraction | None:
        return Fraction(combine(int(a), int(b))) if a.denominator == b.denominator == 1 else None

    return rule


_EXACT: Mapping[str, Callable[..., Fraction | None]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b if b else None,
    "neg": lambda a: -a,
    "abs": abs,
    "^": _exact_power,
    "!": _exact_factorial,
    "binom": _exact_choose,
    "floor": lambda a: Fraction(math.floor(a)),
    "ceil": lambda a: Fraction(math.ceil(a)),
    "gcd": _whole(math.gcd),
    "lcm": _whole(math.lcm),
}


def value_at(node: Node, env: Env) -> Number:
    """The value of a formula where its variables have the given values.

    Raises:
        LimitError: it is not computed.
    """
    try:
        return _value(node, env)
    except DecimalException as error:
        raise LimitError("too large or undefined") from error


def _value(node: Node, env: Env) -> Number:
    if node.op == "number":
        return c.real(node.value)
    if node.op == "name":
        return _named(node.name, env)
    if node.op == "^":
        return _power(node, env)
    parts = [_value(part, env) for part in node.parts]
    if node.op == "call":
        return _apply(node.name, parts)
    rule = _RULES.get(node.op)
    if rule is None or len(parts) > (2 if node.op in _BINARY else 1):
        raise LimitError(f"`{node.op}` is not computed")
    return rule(*parts)


def _named(name: str, env: Env) -> Number:
    if name in env:
        return env[name]
    if name == "\\pi":
        return (c.pi(), Decimal(0))
    if name == "e":
        return c.exponential(c.ONE)
    if name == "i":
        return c.UNIT
    raise LimitError(f"`{name}` has no value")


def _power(node: Node, env: Env) -> Number:
    base, exponent = node.parts
    value = _value(base, env)
    ratio = exact(exponent)
    odd_root = ratio is not None and ratio.denominator % 2 == 1 and ratio.denominator > 1
    if ratio is not None and odd_root and value[0] < 0 and not value[1]:
        # People take the real root of a negative number where there is one.
        found = c.power(c.negative(value), c.real(ratio))
        return c.negative(found) if ratio.numerator % 2 else found
    if ratio == Fraction(1, 2):
        return c.root(value)
    if base.op == "name" and base.name == "e" and "e" not in env:
        return c.exponential(_value(exponent, env))
    return c.power(value, c.real(ratio) if ratio is not None else _value(exponent, env))


def _apply(name: str, parts: list[Number]) -> Number:
    # An unknown function is an arbitrary one: a number that depends on its name and its argument.
    seed = hashlib.blake2b(f"{name}({'|'.join(map(shown, parts))})".encode(), digest_size=6).digest()
    return c.real(Fraction(1, 2) + Fraction(int.from_bytes(seed, "big"), 2**48))


def _log(z: Number, base: Number | None = None) -> Number:
    return c.logarithm(z) if base is None else c.over(c.logarithm(z), c.logarithm(base))


def _half(z: Number) -> Number:
    return c.over(z, c.real(2))


def _step(name: str) -> Callable[[Number], Number]:
    def rule(z: Number) -> Number:
        if z[1] or c.size(z) > KEYED:
            raise LimitError("not computed for such a number")
        near = z[0].to_integral_value()
        if near and c.size(c.add(z, (near.copy_negate(), Decimal(0)))) < -50:
            return (near, Decimal(0))
        return c.real(math.floor(z[0]) if name == "floor" else math.ceil(z[0]))

    return rule


def _choose(n: Number, k: Number) -> Number:
    below = c.times(c.gamma(c.add(k, c.ONE)), c.gamma(c.add(c.add(n, c.negative(k)), c.ONE)))
    return c.over(c.gamma(c.add(n, c.ONE)), below)


def _sign(z: Number) -> Number:
    return c.over(z, c.absolute(z)) if z != c.ZERO else z


_BINARY = frozenset({"+", "-", "*", "/", "binom", "log"})
_RULES: Mapping[str, Callable[..., Number]] = {
    "+": c.add,
    "-": lambda a, b: c.add(a, c.negative(b)),
    "*": c.times,
    "/": c.over,
    "neg": c.negative,
    "abs": c.absolute,
    "sqrt": c.root,
    "exp": c.exponential,
    "ln": _log,
    "log": _log,
    "lg": lambda z: _log(z, c.real(10)),
    "sin": c.sine,
    "cos": c.cosine,
    "tan": lambda z: c.over(c.sine(z), c.cosine(z)),
    "cot": lambda z: c.over(c.cosine(z), c.sine(z)),
    "sec": lambda z: c.over(c.ONE, c.cosine(z)),
    "csc": lambda z: c.over(c.ONE, c.sine(z)),
    "arctan": c.arctangent,
    "arcsin": c.arcsine,
    "arccos": lambda z: c.add(_half((c.pi(), Decimal(0))), c.negative(c.arcsine(z))),
    "sinh": lambda z: _half(c.add(c.exponential(z), c.negative(c.exponential(c.negative(z))))),
    "cosh": lambda z: _half(c.add(c.exponential(z), c.exponential(c.negative(z)))),
    "tanh": lambda z: c.over(_RULES["sinh"](z), _RULES["cosh"](z)),
    "floor": _step("floor"),
    "ceil": _step("ceil"),
    "sign": _sign,
    "!": lambda z: c.gamma(c.add(z, c.ONE)),
    "binom": _choose,
    "Re": lambda z: (z[0], Decimal(0)),
    "Im": lambda z: (z[1], Decimal(0)),
}
