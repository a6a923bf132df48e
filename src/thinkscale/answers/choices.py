"""Lettered options: whether a question has them, and the words of each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

LETTERS = "ABCDEFGHIJ"
_MAX_QUESTION = 20_000
_STYLES = (
    re.compile(r"(?<![A-Za-z0-9(])\(([A-J])\)"),
    re.compile(r"(?:^|(?<=[\s*]))([A-J])\)"),
    re.compile(r"^[ \t*\-]*([A-J])[.:](?=[\s*])", re.MULTILINE),
    re.compile(r"(?:^|(?<=\s))([A-J])\.(?=\s)"),
)
_LATEX_EDGES = re.compile(r"^[\s})*]+|\\(?:text|math)(?:bf|rm)?\{\s*$|\\q?quad\s*\$?|\\\\|[\s*]+$")


def has_options(question: str) -> bool:
    """Whether a question lists options A, B, … in one of the usual styles."""
    return bool(options(question))


def options(question: str) -> Mapping[str, str]:
    """The letters of a question's options and their words; empty if it lists none."""
    return _options(question[-_MAX_QUESTION:])


def lettered(listed: Sequence[str]) -> Mapping[str, str]:
    """The same of options that were given one by one."""
    return dict(zip(LETTERS, listed, strict=False))


@lru_cache(maxsize=1024)
def _options(question: str) -> Mapping[str, str]:
    for style in _STYLES:
        marks = _run(list(style.finditer(question)))
        if len(marks) >= 2:
            ends = [m.start() for m in marks[1:]] + [len(question)]
            return {m[1]: _words(question[m.end() : end]) for m, end in zip(marks, ends, strict=True)}
    return {}


def _run(marks: list[re.Match[str]]) -> list[re.Match[str]]:
    # The last unbroken A, B, C, …: a figure or a worked example before it may use letters too.
    run: list[re.Match[str]] = []
    last: list[re.Match[str]] = []
    for m in marks:
        follows = run and len(run) < len(LETTERS) and m[1] == LETTERS[len(run)]
        run = [*run, m] if follows else [m] if m[1] == "A" else []
        if len(run) >= 2:
            last = run
    return last


def _words(text: str) -> str:
    return _LATEX_EDGES.sub("", _LATEX_EDGES.sub("", text.partition("\n\n")[0].strip()))
