"""Complex numbers of 80 digits: the few functions that formulas use, on the standard library's decimals.

Every function is a fixed number of decimal operations. What is too large, undefined or would need more digits than are
carried raises `LimitError`: an answer is then not computed, rather than computed wrongly.
"""

from __future__ import annotations

from decimal import Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from fractions import Fraction
from functools import cache

DIGITS = 80
"""Significant digits carried."""
ZERO_DROP, MAX_DROP = 60, 25
"""A sum that is so many digits smaller than its terms is 0; one between the two has too few digits left."""

Number = tuple[Decimal, Decimal]
"""The real and the imaginary part."""

_C = Context(prec=DIGITS, Emax=10**8, Emin=-(10**8), traps=[DivisionByZero, InvalidOperation, Overflow])
_O, _I = Decimal(0), Decimal(1)
ZERO, ONE, UNIT = (_O, _O), (_I, _O), (_O, _I)
_MAX_ANGLE = Decimal(10**15)
_STIRLING_FROM = 60


class LimitError(ArithmeticError):
    """A value was not computed: too large, undefined, or without enough digits."""


def real(value: int | Fraction | Decimal) -> Number:
    """A real number."""
    if isinstance(value, Fraction):
        return (_C.divide(Decimal(value.numerator), Decimal(value.denominator)), _O)
    return (_C.plus(Decimal(value)), _O)


def size(z: Number) -> int:
    """The exponent of ten of the larger part; very small for 0."""
    return max(part.adjusted() if part else -(10**9) for part in z)


def add(a: Number, b: Number) -> Number:
    """The sum; a difference that is only rounding is 0."""
    z = (_C.add(a[0], b[0]), _C.add(a[1], b[1]))
    if ZERO in (a, b):
        return z
    first, second = size(a), size(b)
    if abs(first - second) > DIGITS - 35:
        raise LimitError("one term is lost beside the other")
    if z == ZERO:
        return z
    drop = max(first, second) - size(z)
    if drop > ZERO_DROP:
        return ZERO
    if drop > MAX_DROP:
        raise LimitError("too few digits are left of a difference")
    return _clean(z)


def negative(z: Number) -> Number:
    """The number with the other sign."""
    return (z[0].copy_negate() if z[0] else _O, z[1].copy_negate() if z[1] else _O)


def times(a: Number, b: Number) -> Number:
    """The product."""
    if not a[1] and not b[1]:
        return (_C.multiply(a[0], b[0]), _O)
    re = _C.subtract(_C.multiply(a[0], b[0]), _C.multiply(a[1], b[1]))
    im = _C.add(_C.multiply(a[0], b[1]), _C.multiply(a[1], b[0]))
    return _clean((re, im))


def over(a: Number, b: Number) -> Number:
    """The quotient."""
    if b == ZERO:
        raise LimitError("a division by zero")
    if not b[1]:
        return (_C.divide(a[0], b[0]), _C.divide(a[1], b[0]) if a[1] else _O)
    square = _C.add(_C.multiply(b[0], b[0]), _C.multiply(b[1], b[1]))
    return over(times(a, (b[0], b[1].copy_negate())), (square, _O))


def absolute(z: Number) -> Number:
    """The distance from 0."""
    if not z[1]:
        return (z[0].copy_abs(), _O)
    return (_C.sqrt(_C.add(_C.multiply(z[0], z[0]), _C.multiply(z[1], z[1]))), _O)


def root(z: Number) -> Number:
    """The principal square root."""
    if not z[1]:
        found = _C.sqrt(z[0].copy_abs())
        return (found, _O) if z[0] >= 0 else (_O, found)
    length = absolute(z)[0]
    re = _C.sqrt(_C.divide(_C.add(length, z[0]), Decimal(2))) if z[0] != length.copy_negate() else _O
    im = _C.sqrt(_C.divide(_C.subtract(length, z[0]), Decimal(2)))
    return _clean((re, im if z[1] > 0 else im.copy_negate()))


def exponential(z: Number) -> Number:
    """E to the power of a number."""
    if abs(z[0]) > 10**8:
        raise LimitError("the exponent is too large")
    length = _C.exp(z[0])
    if not z[1]:
        return (length, _O)
    return _clean((_C.multiply(length, _cos(z[1])), _C.multiply(length, _sin(z[1]))))


def logarithm(z: Number) -> Number:
    """The principal natural logarithm."""
    if z == ZERO:
        raise LimitError("the logarithm of zero")
    if not z[1]:
        return (_C.ln(z[0].copy_abs()), _O if z[0] > 0 else pi())
    return _clean((_C.ln(absolute(z)[0]), _angle(z)))


def power(base: Number, exponent: Number) -> Number:
    """The principal power; whole exponents are multiplied out."""
    if base == ZERO:
        if exponent[0] <= 0 or exponent[1]:
            raise LimitError("zero to a power that is not positive")
        return ZERO
    if not exponent[1] and exponent[0] == exponent[0].to_integral_value() and abs(exponent[0]) < 10**12:
        return _whole_power(base, int(exponent[0]))
    if not base[1] and not exponent[1] and base[0] > 0:
        return (_C.power(base[0], exponent[0]), _O)
    return exponential(times(exponent, logarithm(base)))


def sine(z: Number) -> Number:
    """The sine."""
    if not z[1]:
        return (_sin(z[0]), _O)
    up, down = exponential(times(UNIT, z)), exponential(negative(times(UNIT, z)))
    return over(add(up, negative(down)), (_O, Decimal(2)))


def cosine(z: Number) -> Number:
    """The cosine."""
    if not z[1]:
        return (_cos(z[0]), _O)
    up, down = exponential(times(UNIT, z)), exponential(negative(times(UNIT, z)))
    return over(add(up, down), (Decimal(2), _O))


def arctangent(z: Number) -> Number:
    """The inverse of the tangent."""
    if not z[1]:
        return (_atan(z[0]), _O)
    iz = times(UNIT, z)
    both = add(logarithm(add(ONE, iz)), negative(logarithm(add(ONE, negative(iz)))))
    return over(both, (_O, Decimal(2)))


def arcsine(z: Number) -> Number:
    """The inverse of the sine."""
    rest = root(add(ONE, negative(times(z, z))))
    if rest == ZERO:
        return (_C.divide(_C.multiply(pi(), z[0]), Decimal(2)), _O)
    if not z[1] and not rest[1]:
        return (_atan(_C.divide(z[0], rest[0])), _O)
    return negative(times(UNIT, logarithm(add(times(UNIT, z), rest))))


def gamma(z: Number) -> Number:
    """The gamma function of a real number, by Stirling's series after moving the argument up."""
    x = z[0]
    if z[1] or abs(x) > 10**4 or (x <= 0 and x == x.to_integral_value()):
        raise LimitError("a factorial that is not computed")
    below = _I
    while x < _STIRLING_FROM:
        below = _C.multiply(below, x)
        x = _C.add(x, _I)
    total = _C.subtract(_C.multiply(_C.subtract(x, Decimal("0.5")), _C.ln(x)), x)
    total = _C.add(total, _C.divide(_C.ln(_C.multiply(Decimal(2), pi())), Decimal(2)))
    step, square = x, _C.multiply(x, x)
    for weight in _stirling():
        total = _C.add(total, _C.divide(weight, step))
        step = _C.multiply(step, square)
    return (_C.divide(_C.exp(total), below), _O)


@cache
def pi() -> Decimal:
    """The ratio of a circle's circumference to its diameter."""
    return _C.multiply(
        Decimal(4),
        _C.subtract(_C.multiply(Decimal(4), _series(_C.divide(_I, Decimal(5)))), _series(_C.divide(_I, Decimal(239)))),
    )


def _clean(z: Number) -> Number:
    # A part that is nothing but rounding is 0.
    re, im = z
    if re and im:
        gap = re.adjusted() - im.adjusted()
        if gap > ZERO_DROP:
            return (re, _O)
        if gap < -ZERO_DROP:
            return (_O, im)
    return z


def _whole_power(base: Number, exponent: int) -> Number:
    if not base[1]:
        return (_C.power(base[0], Decimal(exponent)), _O)
    if abs(exponent) > 10**4:
        return exponential(times(real(exponent), logarithm(base)))
    found, square, left = ONE, base, abs(exponent)
    while left:
        if left & 1:
            found = times(found, square)
        square, left = times(square, square), left >> 1
    return over(ONE, found) if exponent < 0 else found


def _turn(x: Decimal) -> Decimal:
    # The angle within a turn around 0.
    if abs(x) > _MAX_ANGLE:
        raise LimitError("the angle is too large")
    turn = _C.multiply(Decimal(2), pi())
    return _C.subtract(x, _C.multiply(turn, _C.divide(x, turn).to_integral_value()))


def _sin(x: Decimal) -> Decimal:
    return _cos(_C.subtract(_C.divide(pi(), Decimal(2)), x))


def _cos(x: Decimal) -> Decimal:
    x = _turn(x).copy_abs()
    small = _C.divide(x, Decimal(64))
    square, term, total, n = _C.multiply(small, small), _I, _O, 0
    # The versed sine 1 - cos keeps its digits when it is doubled: v(2x) = 2 v(x) (2 - v(x)).
    while abs(term) > Decimal("1e-90"):
        n += 2
        term = _C.divide(_C.multiply(term, square.copy_negate()), Decimal((n - 1) * n))
        total = _C.subtract(total, term)
    for _ in range(6):
        total = _C.multiply(_C.multiply(Decimal(2), total), _C.subtract(Decimal(2), total))
    found = _C.subtract(_I, total)
    return _O if abs(found) < Decimal("1e-65") else found


def _atan(x: Decimal) -> Decimal:
    if abs(x) > 1:
        half = _C.divide(pi(), Decimal(2))
        return _C.subtract(half if x > 0 else half.copy_negate(), _atan(_C.divide(_I, x)))
    for _ in range(3):
        x = _C.divide(x, _C.add(_I, _C.sqrt(_C.add(_I, _C.multiply(x, x)))))
    return _C.multiply(Decimal(8), _series(x))


def _series(x: Decimal) -> Decimal:
    square, term, total, n = _C.multiply(x, x), x, x, 1
    while term and term.adjusted() > -DIGITS - 10:
        n += 2
        term = _C.multiply(term, square.copy_negate())
        total = _C.add(total, _C.divide(term, Decimal(n)))
    return total


def _angle(z: Number) -> Decimal:
    re, im = z
    if not re:
        half = _C.divide(pi(), Decimal(2))
        return half if im > 0 else half.copy_negate()
    angle = _atan(_C.divide(im, re))
    if re > 0:
        return angle
    return _C.add(angle, pi()) if im >= 0 else _C.subtract(angle, pi())


@cache
def _stirling() -> tuple[Decimal, ...]:
    # The weights B(2k) / (2k (2k - 1)) of Stirling's series.
    bernoulli = [Fraction(1)]
    for m in range(1, 81):
        total, choose = Fraction(0), 1
        for k in range(m):
            total += choose * bernoulli[k]
            choose = choose * (m + 1 - k) // (k + 1)
        bernoulli.append(-total / (m + 1))
    return tuple(real(bernoulli[2 * k] / (2 * k * (2 * k - 1)))[0] for k in range(1, 41))
