r"""One spelling for the many ways of typing a formula.

Models write `\dfrac12`, `\frac{1}{2}`, `$\tfrac 12$` and `\left( … \right)` for the same thing. This module rewrites
spelling only: it does not know numbers, algebra or what an answer is. No pattern may take long on hostile input,
because the input is whatever a model said.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

_UNICODE = str.maketrans(
    {
        "−": "-",
        "–": "-",
        "×": r"\times ",
        "·": r"\cdot ",
        "⋅": r"\cdot ",
        "÷": "/",
        "π": r"\pi ",
        "√": r"\sqrt ",
        "∞": r"\infty ",
        "≤": r"\le ",
        "≥": r"\ge ",
        "≠": r"\ne ",
        "∪": r"\cup ",
        "∈": r"\in ",
        "±": r"\pm ",
        "％": "%",
        "，": ",",
        "；": ";",
        "：": ":",
        "＝": "=",
        "（": "(",
        "）": ")",
        "\u00a0": " ",
        "\u202f": " ",
        "\u2009": " ",
    }
)

_GROUPED = re.compile(r"(?<=[0-9])(?:\{,\}|,\\!)\s*(?=[0-9]{3})")
_COMMAND = r"(?:d?frac|tfrac|sqrt|boxed|text|left|right|cdot|times|pi|pm|infty)"
_DOUBLED = re.compile(rf"\\\\(?={_COMMAND}(?![a-z]))")
_SPACING = re.compile(
    r"(?<!\\)\\[,;:! ]|\\(?:quad|qquad|displaystyle|textstyle|limits|nolimits)(?![A-Za-z])|~"
    r"|\\(?:left|right|[bB]igg?[lrm]?)(?![A-Za-z])\.?"
)
_SYMBOLS = re.compile(r"(?<!\\)\\[&#_]|\\\(|\\\)|(?<!\\)\\\[|(?<!\\)\\\]")
_CIRCLE = re.compile(r"\^\s*\{?\s*\\circ(?![A-Za-z])\s*\}?|\\(?:degrees?|circ)(?![A-Za-z])")
_CHOOSE = re.compile(r"\{([^{}]*)\\choose(?![A-Za-z])([^{}]*)\}")
_DEGREE_OF = re.compile(r"°\s*([CFK])(?![A-Za-z])")
_PRIME = re.compile(r"\^\s*\{?\s*\\prime(?![A-Za-z])\s*\}?")
_ESCAPED = re.compile(r"(?<!\\)\\([$%])")
_MONEY = re.compile(r"\$(?=\s?-?[0-9.,]+(?:\s*[A-Za-z]+)?\.?\s*$)")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_RAISED = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_FRACTION = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_SHORT_FRACTION = re.compile(r"\\frac\s*(?:\{([^{}]*)\}|([0-9A-Za-z]))\s*(?:\{([^{}]*)\}|([0-9A-Za-z]))")
_SHORT_ROOT = re.compile(r"\\sqrt\s*(?:([0-9]+|[A-Za-z](?![A-Za-z]))|\(([^(){}]*)\))")
_BARE_ROOT = re.compile(r"(?<![\\A-Za-z])sqrt(?=\s*[0-9({])")
_BARE_SYMBOL = re.compile(r"(?<![\\A-Za-z])(pi|infty)(?![A-Za-z])")
_INFINITY = re.compile(r"(?<![\\A-Za-z])(?:infinity|inf|oo)(?![A-Za-z])", re.IGNORECASE)
WRAPPER = re.compile(
    r"\\(?:text(?:bf|rm|it|sf|normal)?|math(?:rm|bf|it|sf|tt)|mbox|hbox|operatorname|boxed|fbox|underline|bm)\s*\{([^{}]*)\}"
)
_INEQUALITY = re.compile(r"\\(leq|geq|neq)(?:slant)?(?![A-Za-z])")
_GAP = re.compile(r"(\\[A-Za-z]+ )\s*(?=[A-Za-z])|(?<=[0-9.])( )\s*(?=[0-9.])|\s+")


def tidy(text: str) -> str:
    r"""The same formula in one spelling, without delimiters and spacing commands."""
    if text.isascii() and text.isalnum():
        return _bare_names(text)
    # Runs of blanks are cut first: patterns that begin with optional blanks would be quadratic on them.
    text = " ".join(_world(text).split())
    text = _GROUPED.sub("", text)
    if "\\" in text:
        text = _commands(text)
    text = _DEGREE_OF.sub(r"°\1", text) if "°" in text else text
    text = _PRIME.sub("'", text) if "prime" in text else text
    text = _dollars(_CIRCLE.sub("°", _SYMBOLS.sub("", text)))
    if "sqrt" in text:
        text = _SHORT_ROOT.sub(_braced_root, _BARE_ROOT.sub(r"\\sqrt", text))
    text = " ".join(_bare_names(text).split()).strip(" `\"'*").rstrip(".,;: ").strip()
    return text.replace("**", "^")


def _world(text: str) -> str:
    # Digits of every script, raised digits and vulgar fractions are ASCII from here on.
    if text.isascii():
        return text
    text = _RAISED.sub(lambda m: "^{" + m[0].translate(_SUPERSCRIPTS) + "}", text.translate(_UNICODE))
    return "".join(map(_character, text))


def _character(c: str) -> str:
    if c.isascii():
        return c
    if (digit := unicodedata.decimal(c, None)) is not None:
        return str(digit)
    if unicodedata.category(c) == "No" and (value := Fraction(unicodedata.numeric(c)).limit_denominator(1000)) % 1:
        return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
    return "-" if c == "‐" else c


def _dollars(text: str) -> str:
    # A dollar sign is a currency where it is escaped or stands alone before a number; a pair encloses a formula.
    if "$" not in text:
        return text.replace(r"\%", "%")
    text = _ESCAPED.sub(lambda m: "\0" if m[1] == "$" else "%", text)
    if text.count("$") == 1:
        text = text.replace("$", "\0") if _MONEY.search(text) else text.replace("$", "")
    return text.replace("$", "").replace("\0", "$")


def squeeze(text: str) -> str:
    """The formula without the spaces that do not matter: those between two numbers or after a command do."""
    return _GAP.sub(r"\1\2", text)


def _commands(text: str) -> str:
    if r"\begin" not in text:
        text = _DOUBLED.sub(r"\\", text)
    text = _SPACING.sub(" ", text)
    text = WRAPPER.sub(r" \1 ", WRAPPER.sub(r" \1 ", text))
    text = text.replace(r"\boxed{", "")  # what is left of them was cut off before it closed
    text = _INEQUALITY.sub(lambda m: "\\" + m[1][:2], text)
    if "frac" in text:
        text = _SHORT_FRACTION.sub(_braced_fraction, _FRACTION.sub(r"\\frac", text))
    text = _CHOOSE.sub(r"\\binom{\1}{\2}", text) if "choose" in text else text
    text = text.replace(r"\langle", "(").replace(r"\rangle", ")")
    return text.replace(r"\lbrace", r"\{").replace(r"\rbrace", r"\}").replace(r"\{", "{").replace(r"\}", "}")


def _braced_fraction(match: re.Match[str]) -> str:
    above = match[1] if match[1] is not None else match[2]
    below = match[3] if match[3] is not None else match[4]
    return rf"\frac{{{above.strip()}}}{{{below.strip()}}}"


def _braced_root(match: re.Match[str]) -> str:
    return rf"\sqrt{{{(match[1] or match[2] or '').strip()}}}"


def _bare_names(text: str) -> str:
    if "i" in text or "o" in text or "I" in text:
        text = _INFINITY.sub(r"\\infty", _BARE_SYMBOL.sub(r"\\\1", text))
    return text
