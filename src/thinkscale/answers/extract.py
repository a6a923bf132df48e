r"""The answer in a text, or the fact that there is none.

This runs on every draw, so it looks only at the end of the text, after the last closed thought, with patterns compiled
once. It does not know which answer is right, nor what a model is; a text that abstains, is cut off or says nothing has
the answer `None`, and `None` never votes.

Under `math` the first of these that gives something usable wins: the last `\boxed{…}` (boxes that stand in one list
are one answer), `#### x`, the last "answer is x" or "Answer: x", a text that is nothing but one formula, the last
number.
"""

from __future__ import annotations

import json
import re

from thinkscale.answers.canonical import canonical, is_number
from thinkscale.answers.choices import choice_in
from thinkscale.answers.kinds import kind_of
from thinkscale.answers.markers import boxed, clean, hashed, is_abstention, payloads
from thinkscale.types import Answer, AnswerKind

TAIL = 8192
"""Characters at the end of a text that are looked at."""
_JSON_TAIL = 65_536
_JSON_TRIES, _JSON_READ = 256, 4 * _JSON_TAIL
"""Beginnings at which JSON is looked for, and characters that may be read for it: what never closes is read in vain."""
_SHORT = 80
"""A free text without marker or number is an answer of its own only up to this length."""
_WINDOWS = (40, 320)

_REAL = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
_NUMBER = re.compile(
    rf"(?:(?<![\w.)\]}}%])[-+−])?\$?(?:\\[dtc]?frac\{{-?[0-9]{{1,40}}\}}\{{[0-9]{{1,40}}\}}"
    rf"|(?:{_REAL})(?:\s?/\s?[0-9]+(?![0-9./])|[eE][-+]?[0-9]+|\s?\\?%)?)"
)
_FORMULA = re.compile(r"\$\$?([^$]+)\$\$?\.?|\\\((.+)\\\)\.?|\\\[(.+)\\\]\.?", re.DOTALL)
_SYMBOLIC = re.compile(r"[0-9\\^=+*/(\[{]")
_FUNCTION = r"(?:sqrt|sin|cos|tan|log|ln|exp|pi)(?![A-Za-z])"
_PROSE = re.compile(rf"(?<![\\A-Za-z])(?!{_FUNCTION})[A-Za-z]{{3,}}")
_WORDY = re.compile(rf"(?<![\\A-Za-z])(?!{_FUNCTION})[A-Za-z]{{2,}}|[A-Za-z]:\s")
_FENCE = re.compile(r"```(?:json|JSON)?[ \t]*\n(.*?)```", re.DOTALL)
_JSON_START = re.compile(r"[{\[]")
_DECODER = json.JSONDecoder()
_ABSTAINED = Answer("", "")
"""Something was pointed out, and it says that there is no answer; not the same as nothing pointed out."""


def extract(
    text: str, kind: AnswerKind = AnswerKind.auto, question: str = "", *, truncated: bool = False
) -> Answer | None:
    """What `text` answers, with the key it votes under, or `None` when it abstains or says nothing usable.

    `question` decides what `auto` means and lets an option be named by its words. Of a `truncated` text only what it
    points out counts: the last number or letter of a thought that was cut off is not its answer. Never raises.

    >>> extract("So 3 + 4 = 7. The answer is **7**.", AnswerKind.math)
    Answer(text='7', key='7')
    """
    if kind is AnswerKind.json:
        return _json(_spoken(text, _JSON_TAIL))
    spoken = _spoken(text, TAIL)
    if kind is AnswerKind.text:
        return _text(spoken, truncated)
    if kind is AnswerKind.choice or (kind is AnswerKind.auto and question and kind_of(question) is AnswerKind.choice):
        return _choice(spoken, question, truncated)
    return _math(spoken, truncated, free=kind is AnswerKind.auto)


def marked(text: str) -> Answer | None:
    """The mathematical answer that `text` points out by a box or a marker; the last number does not count."""
    found = _marked(_spoken(text, TAIL))
    return None if found is _ABSTAINED else found


def _spoken(text: str, size: int) -> str:
    tail = text[-size:]
    thought = tail.rfind("</think>")
    return tail if thought < 0 else tail[thought + 8 :]


def _math(text: str, truncated: bool, free: bool) -> Answer | None:
    found = _marked(text)
    if found is not None:
        return None if found is _ABSTAINED else found
    if truncated:
        return None
    alone = text.strip()
    if is_abstention(alone):
        return None
    return _formula(alone) or _last_number(text) or (_free(alone) if free else None)


def _marked(text: str) -> Answer | None:
    pointed = boxed(text)
    if pointed is None:
        pointed = hashed(text)
    if pointed is not None:
        return _ABSTAINED if is_abstention(pointed) else _answer(pointed)
    for payload in payloads(text):
        if is_abstention(payload):
            return _ABSTAINED
        if found := _usable(payload):
            return found
    return None


def _answer(text: str) -> Answer | None:
    key = canonical(text)
    return Answer(text, key) if key else None


def _usable(payload: str) -> Answer | None:
    # A number or a formula stands for itself; a sentence around a number stands for the number.
    found = _answer(payload)
    if found is None or is_number(found.key):
        return found
    words = len(_PROSE.findall(payload))
    symbolic = _SYMBOLIC.search(payload) is not None
    if symbolic and words > 1:
        return _last_number(payload) or found
    return found if symbolic or len(payload) <= _SHORT else None


def _formula(text: str) -> Answer | None:
    # A reply that is nothing but `$\frac{3}{4}$` or `x^2 + 1`.
    if not text or len(text) > 4 * _SHORT:
        return None
    m = _FORMULA.fullmatch(text)
    if m is not None:
        return _answer(clean(m[1] or m[2] or m[3]))
    one_line = "\n" not in text and _SYMBOLIC.search(text) is not None and _WORDY.search(text) is None
    return _answer(clean(text)) if one_line else None


def _last_number(text: str) -> Answer | None:
    # Most texts end with their number, so look there first; a match at the very edge may be half a number.
    for size in _WINDOWS:
        edge = len(text) - size
        found = _NUMBER.search(text, edge) if edge > 0 else None
        if found and found.start() > edge + 8:
            break
    else:
        edge = 0
    numbers = _NUMBER.findall(text, edge)
    return _answer(numbers[-1].replace("−", "-").replace("$", "")) if numbers else None


def _free(text: str) -> Answer | None:
    if not text or len(text) > _SHORT:
        return None
    key = canonical(text, AnswerKind.text)
    return Answer(text, key) if key else None


def _text(text: str, truncated: bool) -> Answer | None:
    pointed = boxed(text)
    if pointed is None:
        pointed = next(iter(payloads(text)), "") or ("" if truncated else clean(text))
    if not pointed or is_abstention(pointed):
        return None
    key = canonical(pointed, AnswerKind.text)
    return Answer(pointed, key) if key else None


def _choice(text: str, question: str, truncated: bool) -> Answer | None:
    letter = choice_in(text, question, truncated=truncated)
    return Answer(letter, letter) if letter else None


def _json(text: str) -> Answer | None:
    fenced = _FENCE.findall(text)
    found = _last_json(fenced[-1]) if fenced else None
    found = found or _last_json(text)
    return Answer(found, canonical(found, AnswerKind.json)) if found else None


def _last_json(text: str) -> str | None:
    whole = text.strip()
    if _loads(whole):
        return whole
    found, position, read = None, 0, 0
    for _ in range(_JSON_TRIES):
        m = _JSON_START.search(text, position)
        if m is None or read > _JSON_READ:
            break
        try:
            _, position = _DECODER.raw_decode(text, m.start())
            found = text[m.start() : position]
        except json.JSONDecodeError as error:
            read += error.pos - m.start()
            position = m.end()
        except (ValueError, RecursionError):
            position = m.end()
    return found


def _loads(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
