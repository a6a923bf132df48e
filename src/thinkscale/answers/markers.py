r"""How a text points at its answer: boxes, tags, `####`, the field of an object, and phrases such as "the answer is".

Boxes are balanced by counting braces, not by a pattern, because they nest; one that never closes was cut off and says
nothing. This module finds places; `payloads` reads what stands there. The words are those of the lexicon.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache

from thinkscale.answers.evidence import Evidence, Pointer
from thinkscale.answers.words import CLOSE_SCRIPTS, Word, words

_MAX_BOX = 2000
_MAX_TRIES = 8
_MAX_BOXES = 32

_BOX = re.compile(r"(?:boxed|fbox)\s?\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BETWEEN = re.compile(
    r"(?:[\s,;.$()\[\]\\]|\\?text\s?\{|\}|\bfor part\b|\bq?quad\b|\band\b|\bor\b|\\?[A-Za-z]_?\{?[0-9]?\}?\s?=){1,40}"
)
_HASHES = re.compile(r"(?:^|\n)[ \t]*####(?!#)[ \t]*|(?<=[^\n#])####(?!#)[ \t]*")
_TAGS = ("answer", "final_answer", "final", "ans")
_FIELD = re.compile(r"[\"'](?:final[_ ]?|correct[_ ]?)?answer[\"']\s*:\s*", re.IGNORECASE)
_FIELD_VALUE = re.compile(
    r"\"(?P<double>(?:[^\"\\\n]|\\.){0,2000})\"|'(?P<single>(?:[^'\\\n]|\\.){0,2000})'"
    r"|(?P<bare>\[[^\]\n]{0,500}\]|[^,}\]\n\"'{]{1,200})"
)
_LETTERED_LINE = re.compile(r"(?:^|\n)[ \t*]*A:[ \t*]*(?=\S)")
_BEFORE = re.compile(
    r"(?:\b(?:if|suppose|supposing|assume|assuming|whether|would)\s+(?:that\s+)?(?:the\s+|an\s+|our\s+)?(?:\w{1,12}\s+)?"
    r"|\b(?:to|cannot|not|never|please)\s+|n['’]t\s+)$"
)
_FILLED = r"[^\n.:=:。!?؟]{0,60}?"
_SIGNS = r"[::=→⇒⟹—–]|->|=>"
_HEADED = r"[ \t*_]*\}?[ \t]*\n[\s*_]*"
_WITHOUT_COPULA = CLOSE_SCRIPTS | {"ru", "ar", "uk", "he", "fa", "tr", "el", "vi"}
_BARE_LINE = re.compile(r"[ \t]*\n")
_SKIPPED = r"(?:[ \t*_:}]|(?:is|are|be|indeed|therefore|thus|then|simply|just|equal to)\b)*\s*"


def pointers(body: str) -> list[Pointer]:
    """All places that point at an answer, in the order of the text; empty ones point at nothing."""
    folded = lowered(body)
    found: list[Pointer] = []
    if "box" in body:
        found += boxes(body)
    if "####" in body:
        found += [Pointer(m.end(), -1, Evidence.hashes) for m in list(_HASHES.finditer(body))[-_MAX_TRIES:]]
    if ">" in body:
        found += _tags(body, folded)
    if 'answer"' in folded or "answer'" in folded:
        found += _fields(body)
    found += _phrases(body, folded, "name", Evidence.marker)
    found.sort()
    return found


def results(body: str) -> list[Pointer]:
    """The places that name an outcome without calling it the answer."""
    found = [*_phrases(body, lowered(body), "result", Evidence.result)]
    found += [Pointer(m.end(), -1, Evidence.result) for m in list(_LETTERED_LINE.finditer(body))[-_MAX_TRIES:]]
    found.sort()
    return found


def lowered(body: str) -> str:
    """The text in lower case, letter for letter: positions stay."""
    low = body.lower()
    return low if len(low) == len(body) else "".join(c.lower() if len(c.lower()) == 1 else c for c in body)


def boxes(body: str) -> Iterator[Pointer]:
    r"""The closed boxes; those of one list (`\boxed{1} and \boxed{2}`) are one, joined by commas."""
    listed: list[str] = []
    first = until = 0
    unclosed = 0
    for m in list(_BOX.finditer(body))[-_MAX_BOXES:]:
        if m.end() <= until:
            continue
        end = _closing(body, m.end())
        if end < 0:
            unclosed += 1
            if unclosed > _MAX_TRIES:
                break
            continue
        inner = body[m.end() : end - 1].strip()
        if not inner.strip("$ {}"):
            yield Pointer(m.end(), end - 1, Evidence.box)
            continue
        opens = m.start() - body[max(0, m.start() - 1) : m.start()].count("\\")
        if listed and not _joined(body[until:opens]):
            yield _box(first, until, listed)
            listed = []
        if not listed:
            first = m.end()
        listed.append(inner)
        until = end
    if listed:
        yield _box(first, until, listed)


def _box(start: int, until: int, listed: list[str]) -> Pointer:
    return Pointer(start, until - 1, Evidence.box, text=", ".join(dict.fromkeys(listed)))


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


def _tags(body: str, folded: str) -> Iterator[Pointer]:
    for tag in _TAGS:
        opened, closed = f"<{tag}>", f"</{tag}>"
        at = len(body)
        for _ in range(_MAX_TRIES):
            start = folded.rfind(opened, 0, at)
            if start < 0:
                break
            inside = start + len(opened)
            end = folded.find(closed, inside, at + len(closed))
            if end < 0 and at == len(body):
                yield Pointer(inside, -1, Evidence.tag)
            else:
                yield Pointer(inside, end, Evidence.tag)
            at = start


def _fields(body: str) -> Iterator[Pointer]:
    for m in list(_FIELD.finditer(body))[-_MAX_TRIES:]:
        value = _FIELD_VALUE.match(body, m.end())
        if value is None:
            continue
        group = value.lastgroup or "bare"
        yield Pointer(value.start(group), value.end(group), Evidence.field, text=_unescaped(value[group]))


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text.strip()
    try:
        return str(json.loads(f'"{text}"')).strip()
    except ValueError:
        return text.strip()


def _phrases(body: str, folded: str, role: str, evidence: Evidence) -> Iterator[Pointer]:
    for name in _names(role, folded.isascii()):
        if name.text not in folded:  # several times as fast as looking for the last one
            continue
        at = folded.rfind(name.text)
        after = _link(name.language, inverted=" die " in name.text)
        for _ in range(_MAX_TRIES):
            if at < 0:
                break
            end = at + len(name.text)
            if _whole(folded, at, end, name) and not _BEFORE.search(folded, max(0, at - 40), at):
                m = after.match(body, end)
                if m and not (_BARE_LINE.match(body, end) and _in_a_sentence(body, at)):
                    yield Pointer(m.end(), -1, evidence, name.language)
            at = folded.rfind(name.text, 0, at)


@cache
def _names(role: str, ascii_only: bool) -> tuple[Word, ...]:
    return tuple(word for word in words(role) if not ascii_only or word.text.isascii())


@cache
def _link(language: str, *, inverted: bool) -> re.Pattern[str]:
    said = [re.escape(word.text) for word in words("link") if word.language == language]
    links = "|".join(sorted(said, key=len, reverse=True)) or "(?!)"
    links = links if language in CLOSE_SCRIPTS else rf"\b(?:{links})\b"
    direct = r"\s*(?=[-+−]?[0-9$\\(\[]|\*\*|[A-J](?![A-Za-z]))|"
    direct = direct if inverted or language in _WITHOUT_COPULA else ""
    ends = r"(?<=[:.])\s*|" if language == "en" else ""
    linked = rf"(?:{ends}[ \t]*\][ \t]*|{direct}{_FILLED}(?:{links}|{_SIGNS}))"
    return re.compile(rf"{_HEADED}|{linked}{_SKIPPED}", re.IGNORECASE)


def _in_a_sentence(body: str, at: int) -> bool:
    # "We have our answer", at the end of a line, heads nothing.
    before = body[body.rfind("\n", 0, at) + 1 : at].strip()
    return len(before.split()) > 2 and not before.startswith(("#", "*"))


def _whole(folded: str, start: int, end: int, name: Word) -> bool:
    # A name is a word of its own, and not the key of an object, whose value was read as such.
    if name.language in ("zh", "ja", "ko", "th"):
        return True
    before, after = folded[start - 1 : start], folded[end : end + 1]
    if (before.isalpha() and name.text[0].isalpha()) or (after.isalpha() and name.text[-1].isalpha()):
        return False
    return not (before in ("'", '"') and after == before) and before not in ("<", "/") and after != ">"
