"""The signs of a formula, one by one: numbers, commands, letters and marks. It knows no grammar."""

from __future__ import annotations

import re

MAX_TOKENS = 400
FUNCTIONS = frozenset(
    re.findall(
        "[A-Za-z]+",
        "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log lg exp sqrt abs sign gcd lcm max min Re Im",
    )
)
ALIASES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "sgn": "sign", "tg": "tan", "ctg": "cot"}
_SPACES = frozenset({"\\,", "\\;", "\\:", "\\!", "\\ ", "\\quad", "\\qquad", "\\displaystyle", "\\limits", "~"})
_TOKEN = re.compile(
    r"""\s*(?: (?P<number>[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]{1,3}(?![0-9A-Za-z.]))?|\.[0-9]+)
             | (?P<command>\\(?:[A-Za-z]+|[^A-Za-z]))
             | (?P<word>[A-Za-z]+)
             | (?P<sign>\*\*|[-+*/^_!|(){}\[\]'°%]) )""",
    re.VERBOSE,
)
_WORDS = sorted((*FUNCTIONS, *ALIASES), key=len, reverse=True)


class ReadError(ValueError):
    """A text is no formula that this parser reads."""


def tokens(text: str) -> list[tuple[str, str]]:
    """The kind of each sign and the sign itself; a command and a mark are their own kind.

    Raises:
        ReadError: there is a sign that no formula has, or there are too many.
    """
    found: list[tuple[str, str]] = []
    position, text = 0, text.rstrip()
    while position < len(text):
        m = _TOKEN.match(text, position)
        if m is None:
            raise ReadError(f"`{text[position]}` is in no formula")
        position = m.end()
        kind = m.lastgroup or ""
        if m[kind] in _SPACES or m[kind] in ("\\left", "\\right", "\\big", "\\Big"):
            continue
        found += _words(m[kind]) if kind == "word" else [(kind if kind == "number" else m[kind], m[kind])]
        if len(found) > MAX_TOKENS:
            raise ReadError("the formula is too long")
    if not found:
        raise ReadError("there is nothing to read")
    return found


def _words(word: str) -> list[tuple[str, str]]:
    # `xy` is a product and `sinx` a function of x; `pi` is the constant.
    parts: list[tuple[str, str]] = []
    while word:
        known = next((w for w in _WORDS if word.startswith(w) and (len(w) > 2 or word == w)), None)
        if known:
            parts.append(("\\", "\\" + ALIASES.get(known, known)))
        elif word.startswith("pi") and (len(word) == 2 or not word[2].islower()):
            known = "pi"
            parts.append(("\\", "\\pi"))
        else:
            known = word[0]
            parts.append(("word", known))
        word = word[len(known) :]
    if sum(kind == "word" for kind, _ in parts) > 4:
        raise ReadError("words are no formula")
    return parts
