r"""The written key of an answer: one tidy spelling, which is its own key.

Keys are cheap; they do not know algebra. `\sqrt{4}` and `2` have different keys, and `reading` finds that they stand
for one number. A key says what it is: whoever reads it needs not to know how it was found.

Conventions, each of them a test:

- numbers are exact fractions in lowest terms: `7.5` is `15/2`; a decimal of four digits and more stays one: it
  may be the rounding of another number;
- a unit, a currency and the percent sign stay, in one spelling: `5 km`, `5 USD`, `50%`; what was counted goes, so
  `18 eggs` is `18`;
- `1,234` is a number, `1, 2, 3` a list, and `(1,234)` the pair of 1 and 234: brackets make the comma a separator;
- lists, tuples and intervals keep their order and their brackets, sets are sorted: `{1,2}`, `(1,2)` and `1,2` differ;
- `x = 5`, `f(x) = x^2` and `x \in A` are named by their right-hand side; `y = 2x` and `x=1, y=2` keep the names;
- dates and times have one spelling: `2021-05-01`, `3:30 pm`; yes and no of every language are `yes` and `no`;
- words are compared without case, outer punctuation and articles; `C++`, `-5` and `vitamin A` keep what they are;
- code keeps its tokens and its blocks, and loses blanks and comments;
- what is too long, too deep or has too many digits is never parsed: its key is a digest.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

from thinkscale.answers import dates, units
from thinkscale.answers.code import code_key, is_code
from thinkscale.answers.digits import in_words, part_in_words, regroup
from thinkscale.answers.jsons import json_key, object_key
from thinkscale.answers.latex import WRAPPER, squeeze, tidy
from thinkscale.answers.numerals import MAX_DIGITS, is_label, leading
from thinkscale.answers.words import words
from thinkscale.types import AnswerKind

MAX_LENGTH = 1000
"""Characters of an answer that are looked at; a longer answer is keyed by its digest."""
MAX_CODE = 20_000
_MAX_DEPTH = 20
_MAX_ROUNDS = 6

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_NUMBER_KEY = re.compile(r"-?(?:0|[1-9][0-9]*)(?:/[1-9][0-9]*|\.[0-9]+)?")
_DIGEST_KEY = re.compile(r"#[0-9a-f]{32}")
_MANY_DIGITS = re.compile(rf"[0-9]{{{MAX_DIGITS + 1}}}")
_BRACKETS = re.compile(r"[()\[\]{}]")
_CONNECTOR = re.compile(
    r"\s*[,;]?\s*(?:(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|(?<=[0-9)}])(?:and|or)(?=[A-Z(]))\s*,?\s*"
)
_SEPARATOR = re.compile(r"[()\[\]{},;]")
_NAME = re.compile(
    r"""\s*(?: (?:[A-Za-z]|\\[a-z]+)(?:_(?:[0-9A-Za-z]|\{[^{}=]{1,20}\}))?'?(?:\([A-Za-z](?:\s*,\s*[A-Za-z])*\))?
             | [A-Za-z](?:_\{[A-Z]{1,8}\}|_[0-9]|_\{[0-9]\})?\s*:\s*[A-Za-z](?:_[0-9]|_\{[0-9]\})?
             | \(\s*[A-Za-z](?:\s*,\s*[A-Za-z])*\s*\)
             | \|?[A-Z]{2,4}\|? | \\frac\{[A-Z]{2,4}\}\{[A-Z]{2,4}\} | [A-Z]{2,4}/[A-Z]{2,4}
             | [A-Za-z][A-Za-z ]{1,30} )\s*
        (?: = | \\in(?![A-Za-z]) )\s*(?=[^\s=])""",
    re.VERBOSE,
)
_RELATION = re.compile(r"[=<>]|\\(?:le|ge|ne|in)(?![A-Za-z])")
_LETTERS = re.compile(r"[A-Za-z]")
_COMMANDS = re.compile(r"\\[A-Za-z]+")
_OPENING = re.compile(r"[\s*\"'“]*([^\W\d_]+)")
_WORDLESS = re.compile(r"[=<>^_{}\[\]|]|[0-9]\s*[*+/]|[*+/]\s*[0-9(]")
_CALLED = re.compile(r"(?<![^\W\d_])(?:sqrt|sin|cos|tan|cot|log|ln|exp|gcd|lcm|max|min|arc[a-z]+)\s*\(")
_PROSE = re.compile(r"[A-Za-z][A-Za-z '’,.-]*")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{[a-z]+\*?\}")
_FUNCTIONS = frozenset(
    {"sin", "cos", "tan", "cot", "sec", "csc", "log", "exp", "sqrt", "max", "min", "mod", "gcd", "lcm"}
)
_LEADING_ARTICLE = re.compile(r"^(?:an?|the)\s+(?=\S)")
_THE = re.compile(r"(?<=\S)\s+the(?=\s)")
_SOFT = re.compile(r"(?<=\w)[,;](?=\s)|\*\*|(?<![\w`])`|`(?![\w`])")
_OUTER = " \t\r\n\"'“”‘’«»„`*。，、！？；：.,;:!?…·"
_QUOTES = str.maketrans({"“": '"', "”": '"', "„": '"', "’": "'", "‘": "'", "–": "-", "—": "-", "−": "-"})
_BUILT = re.compile(r"\{\s*[A-Za-z]\s*(?:\\mid(?![A-Za-z])|\||:)\s*([^{}]*)\}")
_PART = re.compile(r"([0-9]{1,30}(?:\.[0-9]{1,30})?) ?([^\W\d_]{1,20})(?:,? (?:and|und|et|y|и) |,? |$)")
_AFFIX = re.compile(r"(?P<before>[-+]?\s*[$€£¥₽₹₩]\s*[-+]?|(?:USD|EUR|GBP|US\s?\$|Rs\.?)\s+)")
_CHOICES = re.compile(r"\s*\(?[A-J]\)?(?:\s*(?:,|;|&|and|,\s*and)\s*\(?[A-J]\)?)+[\s.]*")
_CHOICE = re.compile(
    r"[\s*`\"'\\$({\[|]*(?:(?:text|mathrm|textbf|mathbf)\{\s*\(?)?([A-Za-z])(?![A-Za-z0-9]).*", re.DOTALL
)


def canonical(text: str, kind: AnswerKind = AnswerKind.math) -> str:
    """The key of an extracted answer; a key is its own key.

    A kind says what to look for first; what is not of that kind is read by its look, mathematics before words. Never
    raises, and takes time linear in a capped length.
    """
    if kind is AnswerKind.choice:
        return _choice_key(text)
    if kind is AnswerKind.text:
        return _stable(_words_key, text)
    if kind in (AnswerKind.json, AnswerKind.tool_calls):
        return json_key(text) or json_key(plain := _stable(_words_key, text)) or plain
    if kind is AnswerKind.code:
        return code_key(text) if len(text) <= MAX_CODE else _digest(text)
    if _INTEGER.fullmatch(text):
        return "0" if text == "-0" else text
    if (key := _read_as(text, kind)) is not None:
        return key
    if "\n" in text and len(text) <= MAX_CODE and is_code(text):
        return code_key(text)
    return _math(text) if len(text) <= MAX_LENGTH else _digest(text)


def _read_as(text: str, kind: AnswerKind) -> str | None:
    if len(text) > MAX_LENGTH:
        return None
    if kind is AnswerKind.yes_no:
        return _yes_or_no(text, anywhere=True)
    when = dates.day(text) if kind is AnswerKind.date else dates.clock(text) if kind is AnswerKind.time else None
    return when.key if when else None


@lru_cache(maxsize=4096)
def _math(text: str) -> str:
    # Attempts at one question repeat each other, so most keys are found here.
    return _stable(_math_key, text)


def is_number(key: str) -> bool:
    """Whether a mathematical key is a plain number; two different number keys are different numbers."""
    return _NUMBER_KEY.fullmatch(key) is not None


def is_expression(key: str) -> bool:
    """Whether a mathematical key is a formula, and so may equal another one that is written differently.

    Words are not: a parser of formulas would read `listen` and `silent` as one product of six variables.
    """
    if is_number(key) or not key or key[0] == "#" or not key.replace("°", "").isascii():
        return False
    return all(word in _FUNCTIONS for word in _WORD.findall(_ENVIRONMENT.sub("", key)))


def latex(key: str) -> str:
    """The LaTeX of a mathematical key."""
    return rf"\{key[:-1]}\}}" if key[:1] == "{" and key[-1:] == "}" else key


def _stable(once: Callable[[str], str], text: str) -> str:
    # A key must be its own key; rewriting until nothing changes makes that true by construction.
    for _ in range(_MAX_ROUNDS):
        if _DIGEST_KEY.fullmatch(text):
            return text
        if not _modest(text):
            break
        key = once(text)
        if key == text or is_number(key):
            return key
        text = key
    return _digest(text)


def _modest(text: str) -> bool:
    return len(text) <= MAX_LENGTH and _depth(text) <= _MAX_DEPTH and _MANY_DIGITS.search(text) is None


def _depth(text: str) -> int:
    depth = deepest = 0
    for bracket in _BRACKETS.findall(text):
        depth += 1 if bracket in "([{" else -1
        deepest = max(deepest, depth)
    return deepest


def _digest(text: str) -> str:
    squeezed = "".join(text.split())
    return "#" + hashlib.sha256(squeezed.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _math_key(text: str) -> str:
    if (key := object_key(text) or _yes_or_no(text)) is not None:
        return key
    text = tidy(text)
    if (when := dates.day(text) or dates.clock(text)) is not None:
        return when.key
    text = regroup(text)
    if (key := _quantity(text)) is not None:
        return key
    if _is_prose(text):
        count: Fraction | int | None = in_words(text)
        count = part_in_words(text) if count is None else count
        return _words_key(text) if count is None else str(count)
    if is_wordy(text):
        return _words_key(text)
    text = _CONNECTOR.sub(",", text)
    rows, items = _split(text, ";"), _split(text, ",;")
    if 1 < len(rows) < len(items):
        # `p=5, q=2; p=7, q=2` lists pairs.
        items = [f"({_drop_name(row)})" if len(_split(row, ",")) > 1 else row for row in rows]
    if len(items) > 1:
        # The space keeps the list of 1 and 234 apart from the number 1,234.
        return ", ".join(_items(items))
    return _single_key(items[0] if items else text)


def _items(items: list[str]) -> list[str]:
    # `x=1, y=2` says which is which; `x=1, x=-1` and `x=1, -1` only list values.
    named = [_NAME.match(item) for item in items]
    names = [m[0].strip() for m in named if m]
    if len(names) == len(items) == len(set(names)) and len(items) > 1:
        keys = [_math_key(item[m.end() :]) for item, m in zip(items, named, strict=True) if m]
        return sorted(squeeze(name) + key for name, key in zip(names, keys, strict=True))
    return [_math_key(item) for item in items]


def _drop_name(row: str) -> str:
    items = _split(row, ",")
    return ",".join(item[m.end() :] if (m := _NAME.match(item)) else item for item in items)


def _single_key(text: str) -> str:
    named = _NAME.match(text)
    if named and not _RELATION.search(text, named.end()):
        key = _math_key(text[named.end() :])
        bare = named[0].rstrip(" =")
        if len(bare) > 1 or is_number(key) or not _LETTERS.search(_COMMANDS.sub("", key)):
            return key
        return f"{bare}={key}"
    if m := _BUILT.fullmatch(text):
        # The set of the x for which something holds is named by what holds.
        return _math_key(m[1])
    return _bracketed_key(text) if _is_closed(text) else squeeze(text)


def _quantity(text: str) -> str | None:
    """A number with its unit, or without what it counts, or `None` where the text is something else."""
    before = _AFFIX.match(text)
    if before:
        sign = "-" if "-" in before[0] else ""
        text = sign + text[before.end() :]
    found = leading(text)
    if found is None:
        return None
    behind = found.rest.strip()
    if before:
        money = before[0].strip(" +-\n.").replace(" ", "")
        if behind and units.unit(behind) != units.unit(money):
            return None
        return f"{found.key} {units.symbol(money)}"
    if not behind:
        return found.key
    if behind in ("%", "percent", "per cent", "Prozent", "процентов", "%."):
        return f"{found.key}%"
    if len(behind) == 1 and behind.isascii() and behind.isalpha() and not found.rest[0].isspace():
        return None
    if units.unit(behind) is not None:
        return f"{found.key} {units.symbol(behind)}"
    return _sum(text) or (found.key if is_label(found.rest) else None)


def _sum(text: str) -> str | None:
    """One quantity of several of a dimension, in the unit of the last: `2 hours 30 minutes` is `150 min`."""
    parts = _PART.findall(text)
    if len(parts) < 2 or _PART.sub("", text).strip():
        return None
    found = [(Fraction(number), units.unit(name), name) for number, name in parts]
    if len({unit.dimension if unit else None for _, unit, _ in found}) > 1 or found[0][1] is None:
        return None
    last = units.unit(parts[-1][1])
    total = sum((number * unit.factor for number, unit, _ in found if unit), Fraction(0)) / (last.factor if last else 1)
    return f"{total} {units.symbol(parts[-1][1])}"


def _bracketed_key(text: str) -> str:
    left, right = text[0], text[-1]
    inner = text[1:-1].strip()
    items = [_math_key(item) for item in _split(inner, ",;")]
    if len(items) == 1 and left + right in ("()", "{}"):
        return items[0]
    if left == "{":
        return "{" + ",".join(sorted(set(items))) + "}"
    return left + ",".join(items) + right


def _split(text: str, separators: str) -> list[str]:
    # At the separators outside every bracket; empty items say nothing.
    items, depth, start = [], 0, 0
    for m in _SEPARATOR.finditer(text):
        if m[0] in "([{":
            depth += 1
        elif m[0] in ")]}":
            depth -= 1
        elif depth <= 0 and m[0] in separators:
            items.append(text[start : m.start()])
            start = m.end()
    items.append(text[start:])
    return [item.strip() for item in items if item.strip()]


def _is_closed(text: str) -> bool:
    # Whether the first bracket is closed by the last character; `[1,2)` counts, `(1)(2)` does not.
    if len(text) < 2 or text[0] not in "([{" or text[-1] not in ")]}" or (text[0] == "{") != (text[-1] == "}"):
        return False
    depth = 0
    for m in _BRACKETS.finditer(text):
        depth += 1 if m[0] in "([{" else -1
        if depth == 0:
            return m.end() == len(text)
    return False


def _is_prose(text: str) -> bool:
    if not _PROSE.fullmatch(text):
        return not text.isascii() and all(c.isalpha() or c in " -'’." for c in text) and not text.isspace()
    return text.lower() == "no" or any(word not in _FUNCTIONS | {"and"} for word in _WORD.findall(text))


def is_wordy(text: str) -> bool:
    """Whether a text is words with figures or signs among them, and no formula: `top 10`, `vitamin B12`."""
    if "\\" in text or not text or _WORDLESS.search(text):
        return False
    found = [word for word in re.findall(r"[^\W\d_]+", text) if len(word) > 2 or not word.isascii()]
    found = [word for word in found if word not in ("and", "or")]
    return bool(found) and any(word.lower() not in _FUNCTIONS for word in found) and _CALLED.search(text) is None


def _yes_or_no(text: str, *, anywhere: bool = False) -> str | None:
    """`yes` or `no` where a text is one of these words or begins with it and goes on after a mark."""
    m = _OPENING.match(text)
    if m is None:
        return None
    rest = text[m.end() :].lstrip(" *\"'”")
    word = unicodedata.normalize("NFKC", m[1]).casefold()
    found = _answers().get(word)
    if found is None and not word.isascii():
        found = next(
            (_answers()[word[:n]] for n in range(len(word) - 1, 0, -1) if word[:n] in _answers() and n > 1), None
        )
        return found if anywhere else None
    if found is None or (rest and not (anywhere or rest[0] in ",.;:!。，！、-–—")):
        return None
    return found if not rest or anywhere or "\n" not in rest[:1] else None


@lru_cache(maxsize=1)
def _answers() -> dict[str, str]:
    said = {word.text.casefold(): role for role in ("yes", "no") for word in words(role)}
    return {"yes": "yes", "no": "no", "true": "yes", "false": "no", **said}


def _words_key(text: str) -> str:
    if "\\" in text:
        text = WRAPPER.sub(r" \1 ", text)
    folded = unicodedata.normalize("NFKC", text).translate(_QUOTES).casefold()
    bare = _SOFT.sub("", folded).strip(_OUTER + "$" if folded.count("$") == 2 else _OUTER)  # noqa: RUF100
    bare = " ".join(_outer_dot(folded, bare).split())
    short = _THE.sub("", _LEADING_ARTICLE.sub("", bare))
    return short or bare or " ".join(folded.split())


def _outer_dot(folded: str, bare: str) -> str:
    # `.NET` begins with its dot.
    return "." + bare if re.match(r"[\s\"'`*]*\.[a-z]", folded) and bare else bare


def _choice_key(text: str) -> str:
    if m := _CHOICES.fullmatch(text[:MAX_LENGTH]):
        return ",".join(sorted(set(re.findall("[A-J]", m[0]))))
    m = _CHOICE.match(text[:MAX_LENGTH])
    if m:
        return m[1].upper()
    words = _stable(_words_key, text)
    return words if words == text else _choice_key(words)
