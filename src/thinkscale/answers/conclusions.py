"""The conclusion of a text that points at no answer: from its last sentences, bold words, formulas and values.

The kind of the question says what to look for. This is the weak half of extraction: it runs only where no box, tag,
marker or their like was found, and never on a text that was cut off.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from thinkscale.answers.evidence import Claim, Evidence
from thinkscale.answers.markers import results
from thinkscale.answers.payloads import clean, read
from thinkscale.answers.statements import polar, statement
from thinkscale.answers.values import Value, formulas, outcome, spelled, stated, tokens, values
from thinkscale.answers.words import compiled
from thinkscale.types import AnswerKind

_WINDOW = 900
"""Characters at the end of a text in which a conclusion is looked for."""
_SHORT = 80
_ONE_SENTENCE = 60
_SENTENCES, _NEIGHBOURS = 24, 4
_BREAK = re.compile(r"(?<=[.!?])(?:[\"'”*)$]|\\\)|\\\])*\s+(?=[^\sa-z])|\n\s*|(?<=[。！？।])")
_CONCLUDES = compiled("", "conclude")
_FURTHER = compiled("", "conclude", r"|=")
_BOLD = re.compile(r"\*\*([^*\n]{1,200}?)\*\*|(?<![*\w])__([^_\n]{1,200}?)__")
_LABEL = re.compile(r"[^\d:=]{2,40}:\s*")
_FENCE = re.compile(r"```[ \t]*[\w+#.-]*[ \t]*\n(.*?)(?:\n[ \t]*```|$)", re.DOTALL)
_FORMULA = re.compile(r"\$\$?([^$]+)\$\$?\.?|\\\((.+)\\\)\.?|\\\[(.+)\\\]\.?", re.DOTALL)
_SYMBOLIC = re.compile(r"[0-9\\^=+*/(\[{]")
_FUNCTION = r"(?:sqrt|sin|cos|tan|log|ln|exp|pi)(?![A-Za-z])"
_WORDY = re.compile(rf"(?<![\\A-Za-z])(?!{_FUNCTION})[A-Za-z]{{2,}}|[A-Za-z]:\s")
_CODE = re.compile(
    r"(?m)^[ \t]*(?:def|class|import|from|return|for|while|if|print|#include|function|const|let|var|SELECT)\b"
)
_HOW_MANY = re.compile(
    r"\bhow (?:many|much)\b|\bwie viele\b|\bcombien\b|\bcuánt|\bquant[oa]s\b|\bсколько\b", re.IGNORECASE
)
_ASKS_MORE = re.compile(
    r"\b(?:how|what|which|who|whom|whose|when|where|why|find|compute|calculate|determine|evaluate|solve|simplify)\b",
    re.I,
)
_ALL_CODE = re.compile(
    r"```(?:python|py|js|javascript|ts|java|c|cpp|c\+\+|rust|go|sql|bash|sh|ruby)\n.*```$|(?:def|class)\s\w+.*:\s"
    r"|(?:import|from)\s\w[\w.]*\s*(?:\n|import\b)|print\(.*\)$|#include\s*<|(?:const|let|var)\s\w+\s*=[^\n]*;"
    r"|function\s\w+\(|console\.log\(|SELECT\s.+\sFROM\s|for\s\w+\sin\s.+:\s|while\s.+:\s",
    re.DOTALL,
)
_ASKS_NAME = re.compile(
    r"^\W*(?:who|whom|whose)\b|\b(?:which|what)\s(?:city|country|person|state|planet|author|company|language|animal"
    r"|colou?r|word|name|day|month|continent|river|element|team|film|movie|book|song)\b|\bcapital\sof\b|\bname\s(?:of\s)?the\b",
    re.IGNORECASE,
)
_OPEN = AnswerKind.auto, AnswerKind.math
_HAS_LIST = re.compile(
    r"\b(?:are|sind|son|sont|são|factors|roots|solutions|values|list|order|numbers)\b|[:=]", re.IGNORECASE
)
_DIGIT = re.compile(r"\d")
_HOLDS_VALUE = re.compile(r"[\d\\$]")
_WORDS = re.compile(r"(?<![\\A-Za-z])[^\W\d_]{2,}")
_EMPTY_BOX = re.compile(r"\$?\\(?:boxed|fbox)\s?\{\s*\}\$?")
_RESIDUE = AnswerKind.date, AnswerKind.time


def concluded(body: str, kind: AnswerKind, question: str, *, pointed: bool = False) -> Claim | None:
    """The best conclusion, or `None`; `body` was not cut off, and where it `pointed`, it pointed at nothing usable."""
    alone = body.strip()
    if not alone:
        return None
    if kind is AnswerKind.code:
        return code(body)
    if kind in _OPEN and not question and _ALL_CODE.match(alone) and (written := code(body)):
        return written
    polarity = polar(body, question, asked=kind is AnswerKind.yes_no)
    if polarity and (kind is AnswerKind.yes_no or (kind in _OPEN and not _ASKS_MORE.search(question))):
        return polarity
    if kind is AnswerKind.text:
        return None if pointed else _stated_name(body, question) or _all(body)
    if kind in _OPEN and not pointed and _ASKS_NAME.search(question):
        named = statement(body, question)
        if named is not None and not _DIGIT.search(named.text):
            return named
    if kind in _RESIDUE and (found := _of_kind(body, kind)):
        return found
    return (
        _last_line(body)
        or _result(body, kind)
        or _bold(body)
        or _formula(body)
        or _sentence(body, kind, question)
        or (_free(body, question) if kind is AnswerKind.auto and not pointed else None)
    )


def code(body: str) -> Claim | None:
    """The last fenced block, or the whole text where it is code and has no fence."""
    fenced = list(_FENCE.finditer(body))
    if fenced:
        m = fenced[-1]
        return Claim(m[1].strip("\n"), m.start(1), m.end(1), Evidence.fence, AnswerKind.code)
    if "`" not in body and _CODE.search(body):
        return Claim(body.strip("\n"), 0, len(body), Evidence.whole, AnswerKind.code)
    return None


def _all(body: str) -> Claim | None:
    text = clean(_EMPTY_BOX.sub("", body))
    return Claim(text, 0, len(body), Evidence.whole, prose=True) if text else None


def _of_kind(body: str, kind: AnswerKind) -> Claim | None:
    found = [v for v in tokens(body, max(0, len(body) - _WINDOW), len(body)) if v.kind is kind]
    return Claim(found[-1].text, found[-1].start, found[-1].end, Evidence.value, kind) if found else None


def _last_line(body: str) -> Claim | None:
    # A text that ends in a displayed formula, or in a line that is little else than one.
    end = len(body.rstrip(" \n.*"))
    start = max(body.rfind("\\[", 0, end), body.rfind("$$", 0, max(0, end - 2)), 0)
    if not body.endswith(("\\]", "$$"), 0, end) or end - start > _WINDOW:
        start = body.rfind("\n", 0, end) + 1
    found = formulas(body, start, end)
    if not found or found[-1].end < end - 3:
        return None
    outside = len(_WORDS.findall(body[start : found[-1].start])) - sum(len(_WORDS.findall(v.text)) for v in found[:-1])
    return _claim(found[-1], body, Evidence.formula) if len(found) == 1 and outside <= 3 else None


def _result(body: str, kind: AnswerKind) -> Claim | None:
    for pointer in reversed(results(body)):
        claim = read(body, pointer, kind)
        if claim and not claim.prose:
            return None if _FURTHER.search(body, claim.end) else claim
    return None


def _bold(body: str) -> Claim | None:
    for m in reversed(list(_BOLD.finditer(body, max(0, len(body) - _WINDOW)))):
        group = 1 if m[1] is not None else 2
        start, end = m.span(group)
        label = _LABEL.match(body, start, end)
        start = label.end() if label else start
        text = clean(body[start:end])
        found = values(body, start, end)
        if not found or text[-1:] == ":" or _FURTHER.search(body, m.end()):
            continue
        if len(found) == 1 and (label or len(text) <= len(found[0].text) + 24):
            return _claim(found[0], body, Evidence.emphasis)
        if _SYMBOLIC.search(text) and not _WORDY.search(text):
            return Claim(outcome(text), start, end, Evidence.emphasis)
    return None


def _formula(body: str) -> Claim | None:
    # A reply that is nothing but `$\frac{3}{4}$` or `x^2 + 1`.
    text = body.strip().lstrip("= ")
    if not text or len(text) > 4 * _SHORT:
        return None
    start = body.find(text)
    if m := _FORMULA.fullmatch(text):
        return (
            Claim(clean(m[1] or m[2] or m[3]), start, start + len(text), Evidence.whole)
            if "$" not in text[2:-2]
            else None
        )
    if "\n" in text or _SYMBOLIC.search(text) is None or _WORDY.search(text):
        return None
    return Claim(clean(text), start, start + len(text), Evidence.whole)


def _sentences(body: str) -> Iterator[slice]:
    # From the last one back, within the window.
    start = max(0, len(body) - _WINDOW)
    edges = [start, *(m.end() for m in _BREAK.finditer(body, start)), len(body)]
    for first, last in zip(reversed(edges[:-1]), reversed(edges[1:]), strict=True):
        if body[first:last].strip():
            yield slice(first, last)


def _sentence(body: str, kind: AnswerKind, question: str) -> Claim | None:
    # The last sentence that concludes and holds a value, else the last that holds one.
    last: Claim | None = None
    for count, at in enumerate(_sentences(body)):
        if count >= (_SENTENCES if last is None else _NEIGHBOURS):
            break
        concludes = _CONCLUDES.search(body, at.start, min(at.stop, at.start + 60)) is not None
        if last is not None and (not concludes or "=" in body[at.stop : last.end]):
            continue
        value = _value(body, at, kind, question)
        if value is not None:
            last = _claim(value, body, Evidence.sentence if concludes else Evidence.value, at)
            if concludes or (kind is AnswerKind.number and value.kind is None and count == 0):
                break
    return last or _anywhere(body)


def _value(body: str, at: slice, kind: AnswerKind, question: str) -> Value | None:
    if _HOLDS_VALUE.search(body, at.start, at.stop) is None:
        far = at.stop - at.start > _SHORT and _DIGIT.search(body) is not None
        return None if far else spelled(body, at.start, at.stop)
    listed = kind is AnswerKind.list or (
        _HAS_LIST.search(body, at.start, at.stop) is not None and not _HOW_MANY.search(question)
    )
    return stated(body, at.start, at.stop, listed=listed)


def _claim(value: Value, body: str, evidence: Evidence, at: slice | None = None) -> Claim:
    text, sentence = value.text, body[at] if at else ""
    if value.kind is AnswerKind.expression:
        text = outcome(text, sentence)
        evidence = Evidence.formula if evidence is Evidence.value else evidence
    return Claim(text, value.start, value.end, evidence, None if value.kind is AnswerKind.expression else value.kind)


def _anywhere(body: str) -> Claim | None:
    found = tokens(body, max(0, len(body) - 4 * _WINDOW), len(body))
    return Claim(found[-1].text, found[-1].start, found[-1].end, Evidence.value, found[-1].kind) if found else None


def _stated_name(body: str, question: str) -> Claim | None:
    # Without a question nobody knows which part of a text was asked for: only a name behind "is" is then one.
    if question:
        return statement(body, question)
    named = statement(body, "") if len(body.strip()) <= _ONE_SENTENCE else None
    return named if named and not (named.text.isascii() and named.text[:1].islower()) else None


def _free(body: str, question: str) -> Claim | None:
    text = body.strip()
    if len(text) > 2 * _SHORT:
        return statement(body, question) if question else None
    return _stated_name(body, question) or (_all(body) if len(text) <= _SHORT else None)
