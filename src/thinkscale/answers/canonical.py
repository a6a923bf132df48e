r"""The key under which an answer votes: equal keys mean equal answers.

Keys are cheap and exact; they do not know algebra. `\sqrt{4}` and `2` have different keys and it is for `equivalence`
to find them equal. A mathematical key is itself LaTeX, so it can be handed to a verifier without remembering who
wrote it.

Conventions, each of them a test:

- numbers are exact fractions in lowest terms: `7.50` is `15/2`; units, currency and the percent sign are dropped;
- `1,234` is a number, `1, 2, 3` a list, and `(1,234)` the pair of 1 and 234: brackets make the comma a separator;
- lists, tuples and intervals keep their order and their brackets, sets are sorted: `{1,2}`, `(1,2)` and `1,2` differ;
- `x = 5`, `f(x) = 5` and `x \in A` are named by their right-hand side;
- an answer in words is compared as words, without case, punctuation and articles;
- what is too long, too deep or has too many digits is never parsed: its key is a digest.
"""

from __future__ import annotations

import hashlib
import json
import re
import string
import unicodedata
from collections.abc import Callable
from functools import lru_cache

from thinkscale.answers.latex import squeeze, tidy
from thinkscale.answers.numerals import MAX_DIGITS, number
from thinkscale.types import AnswerKind

MAX_LENGTH = 1000
"""Characters of an answer that are looked at; a longer answer is keyed by its digest."""
_MAX_DEPTH = 20
_MAX_ROUNDS = 6

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_NUMBER_KEY = re.compile(r"-?(?:0|[1-9][0-9]*)(?:/[1-9][0-9]*)?")
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
             | \|?[A-Z]{2,4}\|? | [A-Za-z][A-Za-z ]{1,30} )\s*
        (?: = | \\in(?![A-Za-z]) )\s*(?=[^\s=])""",
    re.VERBOSE,
)
_RELATION = re.compile(r"[=<>]|\\(?:le|ge|ne|in)(?![A-Za-z])")
_LETTER = re.compile(r"\s*\(?\s*([A-Za-z])\s*\)?\s*")
_PROSE = re.compile(r"[A-Za-z][A-Za-z '’,.-]*")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{[a-z]+\*?\}")
_FUNCTIONS = frozenset(
    {"sin", "cos", "tan", "cot", "sec", "csc", "log", "exp", "sqrt", "max", "min", "mod", "gcd", "lcm"}
)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation + "“”‘’«»„–—…·。，、！？；：")
_CHOICE = re.compile(
    r"[\s*`\"'\\$({\[]*(?:(?:text|mathrm|textbf|mathbf)\{\s*\(?)?([A-Za-z])(?![A-Za-z0-9]).*", re.DOTALL
)


def canonical(text: str, kind: AnswerKind = AnswerKind.math) -> str:
    """The key of an extracted answer; a key is its own key.

    `auto` is read as `math`, whose keys fall back on words. Never raises, and takes time linear in a capped length.
    """
    if kind is AnswerKind.choice:
        return _choice_key(text)
    if kind is AnswerKind.text:
        return _stable(_words_key, text)
    if kind is AnswerKind.json:
        return _json_key(text)
    if _INTEGER.fullmatch(text):
        return "0" if text == "-0" else text
    return _math(text) if len(text) <= MAX_LENGTH else _digest(text)


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
    if is_number(key) or not key or key[0] == "#" or not key.isascii():
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
    text = tidy(text)
    value = number(text)
    if value is not None:
        return str(value)
    if _is_prose(text):
        return _words_key(text)
    text = _CONNECTOR.sub(",", text)
    rows, items = _split(text, ";"), _split(text, ",;")
    if 1 < len(rows) < len(items):
        # `p=5, q=2; p=7, q=2` lists pairs.
        items = [f"({row})" if len(_split(row, ",")) > 1 else row for row in rows]
    if len(items) > 1:
        # The space keeps the list of 1 and 234 apart from the number 1,234.
        return ", ".join(_math_key(item) for item in items)
    return _single_key(items[0] if items else text)


def _single_key(text: str) -> str:
    named = _NAME.match(text)
    if named and not _RELATION.search(text, named.end()):
        return _math_key(text[named.end() :])
    return _bracketed_key(text) if _is_closed(text) else squeeze(text)


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
        return text.isalpha() and not text.isascii()
    return text.lower() == "no" or any(word not in _FUNCTIONS for word in _WORD.findall(text))


def _words_key(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    bare = folded.translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split()) or " ".join(bare.split()) or " ".join(folded.split())


def _choice_key(text: str) -> str:
    m = _CHOICE.match(text[:MAX_LENGTH])
    if m:
        return m[1].upper()
    words = _stable(_words_key, text)
    return words if words == text else _choice_key(words)


def _json_key(text: str) -> str:
    try:
        value = json.loads(text)
        return json.dumps(_normal(value), sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        return _stable(_words_key, text)


def _normal(value: object) -> object:
    # 1.0 and 1 are one number; beyond 2**53 a float no longer names one integer.
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, list):
        return [_normal(item) for item in value]
    if isinstance(value, dict):
        return {key: _normal(item) for key, item in value.items()}
    return value
