r"""What stands where a text points: the words up to the end of the sentence, or the value with which they begin.

`read` turns a pointer into a claim: a value, or prose, or nothing where the pointer is empty or what follows it only
talks about the answer ("the answer is correct"). It does not know keys.
"""

from __future__ import annotations

import re

from thinkscale.answers.evidence import Claim, Evidence, Pointer
from thinkscale.answers.values import DATE, NUMBER, Value, outcome, spelled, stated, tokens
from thinkscale.answers.words import DECIMAL_COMMA, compiled, pattern
from thinkscale.types import AnswerKind

_MOST = 600
"""Characters of an answer in the open that are looked at."""
_SHORT = 80
_END = re.compile(
    r"\n|(?<!\b[A-Za-z])[.!?](?=[\s*\"'”’)]|$)|(?<=[0-9}\)$\]])[.!?](?=[A-Z])|[。।۔！？]"
    r"|(?<=[.!?])\s+I hope it is correct|<<|<\|"
)
_REASON = compiled(r"(?<=\S)(?:,\s*|\s+)", "reason", "|\\s\\((?=[a-z]{2})")
_SPAN = re.compile(
    r"\$\$([^$]{1,600})\$\$|\$((?!\s)[^$\n]{1,400}(?<!\s)|\s[^$\n]{1,400}\s|[^$\n\\]{0,60}\\[A-Za-z][^$\n]{0,400})\$(?![0-9])|\\\((.{1,400}?)\\\)|\\\[(.{1,800}?)\\\]",
    re.DOTALL,
)
_GOES_ON = re.compile(r"\s*(?:[,;+*/^=<>-](?!\s*(?:[a-z]{2,}))|and\b|or\b|\\(?![)\]]))")
_EMPHASIS = re.compile(r"\*\*([^*\n]{1,300}?)\*\*|__([^_\n]{1,300}?)__|\*([^*\n]{1,300}?)\*(?!\*)")
_OPENER = re.compile(r"\s*(?:\$\$?|\\\[|\\\()?\s*\\(?:boxed|fbox)\b")
_HOLLOW = compiled(r"(?:not\s+)?", "hollow", r"|(?:i|we)\b(?!\s*[=<>^])|that\s+(?:i|we)\b")
_VALUE = re.compile(
    r"(?:(?:about|approximately|exactly|approx\.?|roughly|equal to|simply|just|only|a total of"
    r"|circa|etwa|environ|unos|cerca de)\s+)?"
    r"(?:[A-Za-z]\s*(?:=|is)\s*)?"
)
_NOT_A_VALUE = re.compile(
    r"\s?(?:\*(?!\*)|[\^/×·=<>≤≥≈!_]|[-+−]\s?[\dA-Za-z(\\$√]|\\(?:times|cdot|sqrt|frac|pi|le|ge|lt|gt|pm|ln|log|sin|cos)|\(|√|π|[A-Za-z](?![A-Za-z])(?!\s[a-z]{2}))|[-:/.][0-9]|[A-Za-z]\^|i\b"
)
_LIST_GOES_ON = re.compile(
    r"\s*(?:,|;|/|\b(?:and|or|und|oder|et|ou|y|o|e|и|или)\b|、|和|及)\s*(?:[-+−$\\(\[{]*[0-9]|[-+]?[a-z]\b|[\\$])"
)
_COMPUTES = re.compile(r"\s*(?:\*(?!\*)|[=+/×÷≈]|(?:-|x|times|plus|minus|divided by)\s*\$?[0-9])")
_COMMA = re.compile(r"[-+−]?[0-9]{1,3}(?:\.[0-9]{3})*,[0-9]{1,2}(?![0-9])|[-+−]?[0-9]+,[0-9]{4,}(?![0-9])")
_HEADING = re.compile(
    r"(?:[0-9]+[.):](?![0-9])|(?:step|part|case|section|schritt|étape|paso)\b|\S+[^\n]*:\s*$)", re.IGNORECASE
)
_WRAPPED = re.compile(r"\\(?:text(?:bf|rm|it|sf|normal)?|mathrm|mathbf|mbox)\s?\{([^{}]*)\}")
_WORDS = re.compile(r"(?<![\\A-Za-z])[^\W\d_]{2,}")
_SYMBOLIC = re.compile(r"[0-9\\^=+*/(\[{]")
_VAGUE = re.compile(
    r"(?:given|found|looking|obtained|calculated|computed|determined|what|being|by|in|to|as|for|we|that|which|it|there|one"
    r"|simply|just|this|derived|based|left|shown|stated)\b",
    re.IGNORECASE,
)
_NOT_BUT = re.compile(r"not\s.{1,60}?\bbut\s+(?:rather\s+)?", re.IGNORECASE)
_AFTER = re.compile(rf"\s*{pattern('after')}$")
_NEXT_IS_STEP = re.compile(r"\s*(?:[-*+]\s|[0-9]+[.)]\s|#)")


def read(body: str, pointer: Pointer, kind: AnswerKind, *, truncated: bool = False) -> Claim | None:
    """What a pointer points at, or `None` where that is nothing."""
    if pointer.end >= 0:
        return _enclosed(body, pointer, kind)
    start = pointer.start
    if pointer.evidence is Evidence.hashes and not _is_answer_line(body, start):
        return None
    if _OPENER.match(body, start) and pointer.evidence is not Evidence.tag:
        return None  # the box is a pointer of its own
    while start < len(body) and body[start] in " \t\n*_:":
        start += 1
    if start >= len(body) or (_on_new_line(body, pointer.start, start) and not _fits_a_line(body, start)):
        return None
    claim = _whole_span(body, start, pointer) or _line(body, start, pointer, kind)
    if claim is None or (truncated and not _is_closed(body, claim)):
        return None
    return claim


def clean(text: str) -> str:
    """An answer without emphasis, quotes, math delimiters and the full stop."""
    text = text.strip(" \t\r\n*`\"'“”«»„「」✅✓✔☑🎉").rstrip(".,;:!。，").strip(" \t\r\n*`\"'“”«»「」")
    m = _SPAN.fullmatch(text)
    return (m[1] or m[2] or m[3] or m[4]).strip() if m else text


def without_label(text: str) -> str:
    r"""What a box holds without `\\text` around all of it and without a label such as "Answer:"."""
    return _WRAPPED.sub(r" \1 ", text).strip() if _WRAPPED.fullmatch(text.strip()) else text


def decimal(text: str, language: str) -> str:
    """A number of a language with a decimal comma, with a point."""
    if language not in DECIMAL_COMMA or "," not in text or _COMMA.match(text) is None:
        return text
    return _COMMA.sub(lambda m: m[0].replace(".", "").replace(",", "."), text)


def _enclosed(body: str, pointer: Pointer, kind: AnswerKind) -> Claim | None:
    text = clean(pointer.text or body[pointer.start : pointer.end])
    if not text:
        return None
    if pointer.evidence is Evidence.tag and "box" in text:
        return None
    if pointer.evidence in (Evidence.tag, Evidence.field) and kind is not AnswerKind.text:
        text = _shorten(text) or text
    return Claim(without_label(text), pointer.start, pointer.end, pointer.evidence)


def _shorten(text: str) -> str | None:
    # Inside a tag may stand a whole sentence; short contents are left as they are.
    if len(_WORDS.findall(text)) <= 3:
        return None
    value = stated(text, 0, len(text))
    return None if value is None else outcome(value.text) if value.kind is AnswerKind.expression else value.text


def _is_answer_line(body: str, start: int) -> bool:
    # `#### 12 eggs` is an answer, `#### Step 3` and `#### 3. Add them up` are headings.
    line, _, rest = body[start : start + _MOST].partition("\n")
    if not line.strip() or _HEADING.match(line.strip()):
        return False
    if re.match(r"[-+−$\\(\[{€£]*[0-9\\(\[$]", line.strip()):
        return True
    return not rest.strip() or len(line) <= 3 or _HASH_NEXT.match(rest) is not None


_HASH_NEXT = re.compile(r"\s*(?:#|Q|<)|\n")


def _on_new_line(body: str, pointed: int, start: int) -> bool:
    line = body.rfind("\n", max(0, start - 40), start)
    return line >= 0 and not body[line + 1 : start].strip(" \t*_#>$\\[({") and line >= pointed - 12


def _fits_a_line(body: str, start: int) -> bool:
    # Below "Answer:" stands the answer itself, or the reasoning that leads to it.
    if _NEXT_IS_STEP.match(body, start) and not body.startswith(("**", "*"), start):
        return False
    if body.startswith(("$", "\\", "**", "`"), start):
        return True
    line = body[start : start + 2 * _SHORT].partition("\n")[0]
    rest = body[start + len(line) :].strip()
    return len(line) <= _SHORT and (len(_WORDS.findall(line)) <= 4 or not rest)


def _whole_span(body: str, start: int, pointer: Pointer) -> Claim | None:
    for shape in (_SPAN, _EMPHASIS):
        m = shape.match(body, start)
        if m is None:
            continue
        group = next(i for i, inner in enumerate(m.groups(), 1) if inner is not None)
        if "boxed" in m[group]:
            return None
        if shape is _SPAN and _GOES_ON.match(body, m.end()):
            continue
        text = clean(m[group])
        if shape is _SPAN:
            text = outcome(text)
        elif len(_WORDS.findall(text)) > 2 and (value := stated(text, 0, len(text))):
            text = value.text
        prose = shape is _EMPHASIS and _SYMBOLIC.search(text) is None and len(text) > 2
        return (
            Claim(decimal(text, pointer.language), m.start(group), m.end(group), pointer.evidence, prose=prose)
            if text
            else None
        )
    return None


def _line(body: str, start: int, pointer: Pointer, kind: AnswerKind) -> Claim | None:
    if m := DATE.match(body, start):
        return Claim(m[0], m.start(), m.end(), pointer.evidence, AnswerKind.date)
    end = _line_end(body, start)
    if m := _NOT_BUT.match(body, start, end):
        start = m.end()
    if kind is not AnswerKind.text and (claim := _leading_value(body, start, end, pointer)):
        return claim
    if m := _HOLLOW.match(body, start, end):
        return None
    text = clean(body[start:end])
    text = _AFTER.sub("", text) if not text.isascii() else text
    if not text or text.lower().startswith(("not ", "n't ")):
        return None
    if kind is AnswerKind.text:
        return Claim(text, start, end, pointer.evidence, prose=True)
    return _worded(body, text, slice(start, end), pointer)


def _worded(body: str, text: str, at: slice, pointer: Pointer) -> Claim | None:
    start, end = at.start, at.stop
    words = len(_WORDS.findall(text))
    if words > 1 or (words and ("=" in text or not _SYMBOLIC.search(text))):
        value = stated(body, start, end, listed=True) if _SYMBOLIC.search(text) else _opening_word(body, start, end)
        if value is not None:
            said = outcome(value.text) if value.kind is AnswerKind.expression else value.text
            return Claim(decimal(said, pointer.language), value.start, value.end, pointer.evidence, value.kind)
    text = outcome(text)
    if words and not _SYMBOLIC.search(text) and _VAGUE.match(text):
        return None
    if len(text) > _SHORT and words > 3:
        return None
    return Claim(
        decimal(text, pointer.language),
        start,
        end,
        pointer.evidence,
        prose=not _SYMBOLIC.search(text) and len(text) > 1,
    )


def _opening_word(body: str, start: int, end: int) -> Value | None:
    value = spelled(body, start, end)
    return value if value is not None and not _WORDS.search(body, start, value.start) else None


def _line_end(body: str, start: int) -> int:
    limit = min(len(body), start + _MOST)
    m = _END.search(body, start, limit)
    end = m.start() if m else limit
    end = _unmatched(body, start, end)
    reason = _REASON.search(body, start, end)
    return reason.start() if reason else end


_PAIRS = {"\\]": "\\[", "\\)": "\\("}
_MONEY = re.compile(r"[0-9]\s\$(?:[\s.,])?|.{0,2}\$[0-9]", re.DOTALL)
_CLOSERS = re.compile(r"\\.|[{}()\[\]$]")


def _unmatched(body: str, start: int, end: int) -> int:
    # A marker inside `\text{…}`, `\[…\]` or `$…$` ends where they do.
    depth = 0
    dollars = body.count("$", start, end) % 2
    for m in _CLOSERS.finditer(body, start, end):
        mark = m[0]
        if mark in ("{", "\\{"):
            depth += mark == "{"
        elif mark == "}":
            depth -= 1
            if depth < 0:
                return m.start()
        elif mark in _PAIRS:
            if _PAIRS[mark] not in body[start : m.start()]:
                return m.start()
        elif mark == "$" and dollars and not _MONEY.fullmatch(body[m.start() - 2 : m.end() + 1]):
            return m.start()
    return end


def _leading_value(body: str, start: int, end: int, pointer: Pointer) -> Claim | None:
    m = _VALUE.match(body, start, end)
    at = m.end() if m else start
    found = tokens(body, at, min(end, at + 120))
    if not found or found[0].start > at + 1 or body[at : found[0].start].strip(" *$"):
        return None
    first = found[0]
    if first.kind is None and _NOT_A_VALUE.match(body, first.end, end) and not first.text[-1:].isalpha():
        return None
    if _COMPUTES.match(body, first.end, end) or "=" in body[first.end : end]:
        return None
    if _LIST_GOES_ON.match(body, first.end, end) and not _comma_decimal(body, first.start, pointer.language):
        return None
    stop = first.end
    text = first.text
    if comma := _comma_decimal(body, first.start, pointer.language):
        stop, text = comma.end(), decimal(comma[0], pointer.language)
    return Claim(text, first.start, stop, pointer.evidence, first.kind)


def _comma_decimal(body: str, start: int, language: str) -> re.Match[str] | None:
    return _COMMA.match(body, start) if language in DECIMAL_COMMA else None


def _is_closed(body: str, claim: Claim) -> bool:
    # Of a text that was cut off, only what something follows is whole.
    rest = body[claim.end :]
    if claim.prose:
        return _END.match(rest.lstrip("*\"' ") or "") is not None and bool(rest.strip())
    if claim.kind is None and NUMBER.fullmatch(claim.text):
        return re.match(r"[.,]?(?:\s+\S|\n)|[^\s.,0-9/^]", rest) is not None
    return bool(rest.strip("*"))
