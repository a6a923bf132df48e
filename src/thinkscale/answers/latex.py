r"""The many ways of typing one formula, made one.

Models write `\dfrac12`, `\frac{1}{2}`, `$\tfrac 12$` and `\left( … \right)` for the same thing. This module rewrites
spelling only: it does not know numbers, algebra or what an answer is. No pattern may take long on hostile input,
because the input is whatever a model said.
"""

from __future__ import annotations

import re

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
        "²": "^2",
        "³": "^3",
        "½": r"\frac{1}{2}",
        "°": "",
        "％": "",
        "，": ",",
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
_SYMBOLS = re.compile(
    r"(?<!\\)\\[$%&#_]|[%€£¥]|(?<!\\)\$|\\\(|\\\)|(?<!\\)\\\[|(?<!\\)\\\]"
    r"|\^\s*\{?\s*\\circ(?![A-Za-z])\s*\}?|\\(?:degrees?|circ)(?![A-Za-z])"
)
_FRACTION = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_SHORT_FRACTION = re.compile(r"\\frac\s*(?:\{([^{}]*)\}|([0-9A-Za-z]))\s*(?:\{([^{}]*)\}|([0-9A-Za-z]))")
_SHORT_ROOT = re.compile(r"\\sqrt\s*(?:([0-9]+|[A-Za-z](?![A-Za-z]))|\(([^(){}]*)\))")
_BARE_ROOT = re.compile(r"(?<![\\A-Za-z])sqrt(?=\s*[0-9({])")
_BARE_SYMBOL = re.compile(r"(?<![\\A-Za-z])(pi|infty)(?![A-Za-z])")
_INFINITY = re.compile(r"(?<![\\A-Za-z])(?:infinity|inf|oo)(?![A-Za-z])", re.IGNORECASE)
_WRAPPER = re.compile(
    r"\\(?:text(?:bf|rm|it|sf|normal)?|math(?:rm|bf|it|sf|tt)|mbox|hbox|operatorname|boxed|fbox|underline|bm)\s*\{([^{}]*)\}"
)
_UNIT_WRAPPER = re.compile(
    r"(?<=[0-9A-Za-z})\]])\s*\\(?:text|mathrm|textrm|mbox|hbox)\s*\{\s*(?!and\b|or\b)[^{}0-9,;=]*\}\s*(?:\^\s*\{?[23]\}?)?\s*$"
)
_INEQUALITY = re.compile(r"\\(leq|geq|neq)(?:slant)?(?![A-Za-z])")
_GAP = re.compile(r"(\\[A-Za-z]+ )\s*(?=[A-Za-z])|(?<=[0-9.])( )\s*(?=[0-9.])|\s+")


def tidy(text: str) -> str:
    r"""The same formula in one spelling, without delimiters, spacing commands, units in `\text` or percent signs."""
    if text.isascii() and text.isalnum():
        return _bare_names(text)
    # Runs of blanks are cut first: patterns that begin with optional blanks would be quadratic on them.
    text = " ".join(text.translate(_UNICODE).split())
    text = _GROUPED.sub("", text)
    if "\\" in text:
        text = _commands(text)
    text = _SYMBOLS.sub("", text)
    if "sqrt" in text:
        text = _SHORT_ROOT.sub(_braced_root, _BARE_ROOT.sub(r"\\sqrt", text))
    text = " ".join(_bare_names(text).split()).strip(" `\"'*").rstrip(".,;: ").strip()
    return text.replace("**", "^")


def squeeze(text: str) -> str:
    """The formula without the spaces that do not matter: those between two numbers or after a command do."""
    return _GAP.sub(r"\1\2", text)


def _commands(text: str) -> str:
    if r"\begin" not in text:
        text = _DOUBLED.sub(r"\\", text)
    text = _SPACING.sub(" ", text)
    text = _UNIT_WRAPPER.sub("", text)
    text = _WRAPPER.sub(r" \1 ", _WRAPPER.sub(r" \1 ", text))
    text = text.replace(r"\boxed{", "")  # what is left of them was cut off before it closed
    text = _INEQUALITY.sub(lambda m: "\\" + m[1][:2], text)
    if "frac" in text:
        text = _SHORT_FRACTION.sub(_braced_fraction, _FRACTION.sub(r"\\frac", text))
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
