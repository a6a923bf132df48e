"""Lettered options: whether a question has them, and which one a text picks.

The article "A" and the pronoun "I" are letters too, so a letter counts only where a text points at it: in a box, after
a marker, in brackets, or alone on the last line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from thinkscale.answers.canonical import canonical
from thinkscale.answers.markers import boxed, is_abstention, payloads
from thinkscale.types import AnswerKind

_LETTERS = "ABCDEFGHIJ"
_MAX_QUESTION = 20_000
_STYLES = (
    re.compile(r"(?<![A-Za-z0-9(])\(([A-J])\)"),
    re.compile(r"(?:^|(?<=[\s*]))([A-J])\)"),
    re.compile(r"^[ \t*\-]*([A-J])[.:](?=[\s*])", re.MULTILINE),
    re.compile(r"(?:^|(?<=\s))([A-J])\.(?=\s)"),
)
_LEADING = re.compile(
    r"[\s*`\"'\\$({\[]*(?:(?:option|choice|text|textbf|mathrm|mathbf|boxed)\b[\s{(*]*)*([A-Ja-j])(?![A-Za-z0-9'’])(.?)",
    re.IGNORECASE | re.DOTALL,
)
_ALONE = re.compile(r"[\s*`\"'$(\[]*([A-Ja-j])[\s*`\"'$)\].:]*")
_BRACKETED = re.compile(r"(?<![A-Za-z0-9])\(([A-J])\)|\b(?:option|choice)\s+\**\(?([A-J])\b")
_LATEX_EDGES = re.compile(r"^[\s})]+|\\(?:text|math)(?:bf|rm)?\{\s*$")
_ARTICLE = re.compile(r"\s+[a-z]")


def has_options(question: str) -> bool:
    """Whether a question lists options A, B, … in one of the usual styles."""
    return bool(options(question))


def options(question: str) -> Mapping[str, str]:
    """The letters of a question's options and the words that follow each; empty when it lists none."""
    return _options(question[-_MAX_QUESTION:])


@lru_cache(maxsize=1024)
def _options(question: str) -> Mapping[str, str]:
    for style in _STYLES:
        marks = _run(list(style.finditer(question)))
        if len(marks) >= 2:
            ends = [m.start() for m in marks[1:]] + [len(question)]
            return {m[1]: _words(question[m.end() : end]) for m, end in zip(marks, ends, strict=True)}
    return {}


def choice_in(text: str, question: str = "", *, truncated: bool = False) -> str | None:
    """The letter that a text picks, in upper case, or `None`; options may be named by their words.

    A `truncated` text picks only by a box or a marker.
    """
    known = options(question) if question else {}
    pointed = boxed(text)
    for payload in [pointed] if pointed is not None else payloads(text):
        if is_abstention(payload):
            return None
        if letter := _letter(payload, known) or _named(payload, known):
            return letter
    if truncated:
        return None
    return _lone(text, known) or _named(text.strip(), known)


def _run(marks: list[re.Match[str]]) -> list[re.Match[str]]:
    # The last unbroken A, B, C, …: a figure or a worked example before it may use letters too.
    run: list[re.Match[str]] = []
    last: list[re.Match[str]] = []
    for m in marks:
        follows = run and len(run) < len(_LETTERS) and m[1] == _LETTERS[len(run)]
        run = [*run, m] if follows else [m] if m[1] == "A" else []
        if len(run) >= 2:
            last = run
    return last


def _words(text: str) -> str:
    return canonical(_LATEX_EDGES.sub("", text.partition("\n\n")[0]), AnswerKind.math)


def _allowed(letter: str, known: Mapping[str, str]) -> str | None:
    letter = letter.upper()
    return letter if not known or letter in known else None


def _letter(payload: str, known: Mapping[str, str]) -> str | None:
    m = _LEADING.match(payload)
    if m is None:
        return None
    # "A cat" is an article and its noun; "A) a cat", "A because" and "A." point at the option.
    bare = m.start(1) == 0 and m[1] in "AaIi" and m[2].isspace()
    if (
        bare
        and _ARTICLE.match(payload, m.end(1))
        and not payload[m.end(1) :].lstrip().startswith(("because", "since", "is"))
    ):
        return None
    return _allowed(m[1], known) if m[1].isupper() or m.end(1) >= len(payload.rstrip(" .)*}$")) else None


def _named(payload: str, known: Mapping[str, str]) -> str | None:
    if not known or len(payload) > 400:
        return None
    key = canonical(payload, AnswerKind.math)
    letters = [letter for letter, words in known.items() if words and words == key]
    return letters[0] if len(letters) == 1 else None


def _lone(text: str, known: Mapping[str, str]) -> str | None:
    # A letter alone on the last line, else the last one in brackets.
    line = text.rstrip().rpartition("\n")[2]
    m = _ALONE.fullmatch(line)
    if m:
        return _allowed(m[1], known)
    if text.lstrip()[:1] and (m := re.match(r"\s*\(?([A-J])[).:](?=\s|$)", text)) and "\n" not in text.strip():
        return _allowed(m[1], known)
    bracketed = [a or b for a, b in _BRACKETED.findall(text)]
    allowed = [letter for letter in bracketed if _allowed(letter, known)]
    return allowed[-1] if allowed else None
