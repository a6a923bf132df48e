"""How a text points at its answer: boxes, `####`, and phrases such as "the answer is".

Boxes are balanced by counting braces, not by a pattern, because they nest; one that never closes was cut off and says
nothing. This module finds words; it does not know what they mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_MAX_BOX = 2000
_MAX_TRIES = 8

_BOX = re.compile(r"(?:boxed|fbox)\s?\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BETWEEN = re.compile(
    r"(?:[\s,;.$()\[\]\\]|\\?text\s?\{|\}|\bfor part\b|\bq?quad\b|\band\b|\bor\b|\\?[A-Za-z]_?\{?[0-9]?\}?\s?=){1,40}"
)
_HASHES = re.compile(r"####[ \t]*([^\n]*)")
_MARKER = re.compile(
    r"\banswer(?:s|\*\*)?\b(?:[^\n.:=]{0,60}?(?:\b(?:is|are|be)\b|[:=])|\s*\*\*\s*(?=\n))"
    r"(?:\s*\b(?:is|are|be)\b|\s*[:=]|\s*\*\*|\s*(?:indeed|therefore|thus|then|simply|just|equal to|option)\b)*\s*",
    re.IGNORECASE,
)
_END = re.compile(r"\n|(?<!\b[A-Za-z])[.!?](?=[\s*\"'”]|$)|(?<=[.!?])\s+I hope it is correct")
_REASON = re.compile(
    r"(?<!\s)\s+(?:because|since|which|so|as|where|when|if|after|obtained|and this)\b"
    r"|,\s+(?=(?:because|since|which|so|as|where)\b)|\s\((?=[a-z]{2})"
)
_MATH_SPAN = re.compile(r"\$\$?([^$\n]+)\$\$?|\\\((.+?)\\\)|\\\[(.+?)\\\]")
_GOES_ON = re.compile(r"\s*(?:[,;+*/^=<>-]|and\b|or\b|\\)")
_EMPHASIS = re.compile(r"\*\*(.+?)\*\*")
_ABSTENTION = re.compile(
    r"(?:(?:i|we)\s+)?(?:do\s?n[o'’]?t|do not)\s+know\b.{0,80}|i(?:'|’)?m\s+not\s+sure|unknown|n/?a"
    r"|(?:i\s+)?(?:can\s?not|can['’]?t|am unable to)\s+answer\b.{0,80}|no answer|idk|\?+|",
    re.IGNORECASE | re.DOTALL,
)
_UNWRAPPED = re.compile(r"\\(?:text|mathrm|textbf)\s?\{([^{}]*)\}")


def boxed(text: str) -> str | None:
    r"""The content of the last closed box, or the boxes of one list (`\boxed{1} and \boxed{2}`) joined by commas."""
    if "box" not in text:
        return None
    starts = list(_BOX.finditer(text))[-4 * _MAX_TRIES :]
    found: list[str] = []
    until, tries = -1, 0
    for m in reversed(starts):
        end = _closing(text, m.end())
        if end < 0:
            tries += 1
            if found or tries > _MAX_TRIES:
                break
            continue
        if found and (end > until or not _joined(text[end:until])):
            if end > until:
                continue
            break
        found.append(text[m.end() : end - 1].strip())
        until = text.rfind("\\", 0, m.start()) if m.start() else 0
    return ", ".join(dict.fromkeys(reversed(found))) if found else None


def hashed(text: str) -> str | None:
    """What follows the last `####`, as GSM8K writes it; `None` when nothing does."""
    start = text.rfind("####")
    m = _HASHES.match(text, start) if start >= 0 else None
    return clean(m[1]) or None if m else None


def payloads(text: str) -> Iterator[str]:
    """What follows "answer is", "Answer:" and the like, cleaned, the last one first."""
    for m in reversed(list(_MARKER.finditer(text))[-_MAX_TRIES:]):
        if payload := _payload(text, m.end()):
            yield payload


def is_abstention(text: str) -> bool:
    """Whether an answer clearly says that there is none; "cannot be determined" is an answer and stays one."""
    if len(text) > 120:
        return False
    plain = _UNWRAPPED.sub(r"\1", text) if "\\" in text else text
    return _ABSTENTION.fullmatch(plain.strip(" \t\r\n.!*$\"'()")) is not None


def clean(text: str) -> str:
    """An answer without emphasis, quotes, math delimiters and the full stop."""
    text = text.strip(" \t\r\n*`\"'“”").rstrip(".,;:!").strip(" \t\r\n*`\"'“”")
    m = _MATH_SPAN.fullmatch(text)
    return (m[1] or m[2] or m[3]).strip() if m else text


def _closing(text: str, start: int) -> int:
    # One past the brace that closes the one before `start`, or -1.
    depth = 1
    for m in _BRACE.finditer(text, start, start + _MAX_BOX):
        if m[0] == "{":
            depth += 1
        elif m[0] == "}":
            depth -= 1
            if depth == 0:
                return m.end()
    return -1


def _joined(between: str) -> bool:
    return len(between) <= 40 and _BETWEEN.fullmatch(between) is not None


def _payload(text: str, start: int) -> str:
    m = _MATH_SPAN.match(text, start)
    if m and not _GOES_ON.match(text, m.end()):
        return clean(m[0])
    m = _EMPHASIS.match(text, start)
    if m:
        return clean(m[1])
    end = _END.search(text, start)
    line = text[start : end.start() if end else len(text)]
    reason = _REASON.search(line)
    if reason and reason.start() > 0:
        line = line[: reason.start()]
    return clean(line)
