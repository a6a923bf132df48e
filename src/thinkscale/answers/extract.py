r"""The answer in a text, or `None`: by ranked evidence, with its place.

This runs on every draw, so it looks only at the end of what was said after the last closed thought, with patterns
compiled once. It does not know which answer is right, nor what a model is; a text that abstains, is cut off or says
nothing has the answer `None`, and `None` never votes.

What a text points out comes first: a box, answer tags, `####`, a field `answer`, "the answer is" and its like in ten
languages; of several the last one counts, and one that is empty or only talks about the answer points at nothing.
Where nothing is pointed out, the conclusion counts (`conclusions`): a named result, bold words, the last sentence, the
last formula, the last value. What follows the heading of another question is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from thinkscale.answers import reading
from thinkscale.answers.abstentions import is_abstention, refuses
from thinkscale.answers.canonical import canonical
from thinkscale.answers.choices import lettered
from thinkscale.answers.choices import options as options_of
from thinkscale.answers.conclusions import code, concluded
from thinkscale.answers.evidence import Claim, Evidence, Found, Pointer
from thinkscale.answers.json_values import TAIL as JSON_TAIL
from thinkscale.answers.json_values import last_json
from thinkscale.answers.kinds import kind_of
from thinkscale.answers.letters import pick
from thinkscale.answers.markers import pointers
from thinkscale.answers.payloads import read
from thinkscale.answers.spoken import spoken
from thinkscale.answers.words import pattern
from thinkscale.types import Answer, AnswerKind

TAIL = 8192
"""Characters at the end of a text that are looked at."""
_NEAR, _LIST_GAP = 500, 60
"""Characters at the end that are looked at first; boxes of one list stand nearer to each other than the second."""
_RUN_ON = re.compile(rf"\n[ \t*#>_]*(?i:{pattern('run')})[ \t]*(?:[0-9]{{1,3}}[ \t]*)?[:.：)*]")
_DIGIT = re.compile(r"\d")
_ENDS = re.compile(r"[^\w\s,;:(\[{=+\\/<>-]|\d")
_WEAK = frozenset(
    {Evidence.whole, Evidence.result, Evidence.emphasis, Evidence.sentence, Evidence.formula, Evidence.value}
)
_ROLE = re.compile(r"\n[ \t]*(?:Q|Question|User|Human)[ \t]*:")
_FOREIGN_DIGITS = re.compile(r"[٠-٩۰-۹०-९０-９：（）％，]")
_ASCII = {ord(c): str(i % 10) for i, c in enumerate("٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹०१२३४५६७८९０１２３４５６７８９")} | {
    ord(a): b for a, b in zip("：（）％，", ":()%,", strict=True)
}


def extract(
    text: str,
    kind: AnswerKind = AnswerKind.auto,
    question: str = "",
    *,
    options: Sequence[str] = (),
    truncated: bool = False,
) -> Answer | None:
    """The answer in `text`, with the key it votes under; `None` if it abstains or has no usable answer.

    `question` decides what `auto` means and lets an option be named by its words; `options` are those words where the
    question does not list them. Of a `truncated` text only what it points out, and is whole, counts: the last number or
    letter of a thought that was cut off is not its answer. Never raises.

    >>> extract("So 3 + 4 = 7. The answer is **7**.", AnswerKind.math)
    Answer(text='7', key='7')
    """
    asked = _asked(kind, question, options, truncated=truncated)
    claim = _claimed(text, asked)
    return None if claim is None else _answer(claim, asked.kind)


def find(
    text: str,
    kind: AnswerKind = AnswerKind.auto,
    question: str = "",
    *,
    options: Sequence[str] = (),
    truncated: bool = False,
) -> Found | None:
    """The same as `extract`, with the evidence, the kind, and the place in `text`."""
    asked = _asked(kind, question, options, truncated=truncated)
    claim = _claimed(text, asked)
    answer = None if claim is None else _answer(claim, asked.kind)
    if claim is None or answer is None:
        return None
    said = claim.kind or (asked.kind if asked.kind is not AnswerKind.math else AnswerKind.auto)
    return Found(answer, reading.read(answer.key, said).kind, claim.evidence, claim.start, claim.end)


def in_words(text: str) -> Answer | None:
    """A whole text as its own answer; `None` for one that abstains or is empty."""
    text = text.strip()
    return None if not text or is_abstention(text) else Answer(text, canonical(text, AnswerKind.text))


def marked(text: str) -> Answer | None:
    """The mathematical answer that `text` points out by a box or a marker; the last number does not count."""
    body = _readable(text[spoken(text, TAIL)])
    claim = _pointed(body, pointers(body), AnswerKind.math, truncated=False)
    return None if claim is None else _answer(claim, AnswerKind.math)


class _Asked(NamedTuple):
    """What is looked for."""

    kind: AnswerKind
    """`auto` where neither the caller nor the question says."""
    question: str
    known: Mapping[str, str]
    """The words of lettered options that were given apart from the question."""
    truncated: bool


def _asked(kind: AnswerKind, question: str, options: Sequence[str], *, truncated: bool) -> _Asked:
    known = lettered(options) if options else {}
    if kind is AnswerKind.auto and known:
        kind = AnswerKind.choice
    elif kind is AnswerKind.auto and question:
        said = kind_of(question)
        kind = AnswerKind.auto if said is AnswerKind.math else said
    return _Asked(kind, question, known, truncated)


def _claimed(text: str, asked: _Asked) -> Claim | None:
    if asked.kind is AnswerKind.json:
        said = spoken(text, JSON_TAIL)
        return _moved(last_json(text[said]), said.start)
    said = spoken(text, TAIL)
    body = _readable(text[said])
    claim = _moved(_said(body, asked), said.start)
    if said.start > 0 and (claim is None or claim.evidence in _WEAK) and _breaks_off(body):
        return _thought(text, said.start, asked) or claim
    return claim


def _moved(claim: Claim | None, by: int) -> Claim | None:
    return claim._replace(start=claim.start + by, end=claim.end + by) if claim and by else claim


def _said(body: str, asked: _Asked) -> Claim | None:
    kind, truncated = asked.kind, asked.truncated
    if (claim := _near_the_end(body, kind, truncated)) is not None:
        return claim
    body, found = _without_run_on(body, pointers(body))
    if kind is AnswerKind.choice:
        if not found and not truncated and refuses(body):
            return None
        return pick(body, found, asked.known or options_of(asked.question), truncated=truncated)
    if kind is AnswerKind.code and (block := code(body)):
        return None if truncated else block
    claim = _pointed(body, found, kind, truncated=truncated)
    if claim is _ABSTAINED:
        return None
    if truncated or (claim and not (claim.prose and kind is not AnswerKind.text and _DIGIT.search(body, claim.end))):
        return claim
    return None if refuses(body) else concluded(body, kind, asked.question, pointed=bool(found)) or claim


def _thought(text: str, end: int, asked: _Asked) -> Claim | None:
    # A text that breaks off in what it says aloud still has what its thinking, which it had closed, pointed out.
    start = max(0, end - TAIL)
    body = _readable(text[start:end])
    if "</think" not in body and "/THINK]" not in body:
        return None
    claim = _pointed(body, pointers(body), asked.kind, truncated=True) if asked.kind is not AnswerKind.choice else None
    if claim is None or claim is _ABSTAINED or claim.prose:
        return None
    return claim._replace(start=claim.start + start, end=claim.end + start, evidence=Evidence.thought)


def _breaks_off(body: str) -> bool:
    # In the middle of a sentence, or of a formula.
    said = body.rstrip()
    if not said:
        return False
    return (
        _ENDS.match(said[-1]) is None or said.count("\\(") > said.count("\\)") or said.count("\\[") > said.count("\\]")
    )


_ABSTAINED = Claim("", 0, 0, Evidence.marker)
"""Something was pointed out, and it says that there is no answer; not the same as nothing pointed out."""


def _near_the_end(body: str, kind: AnswerKind, truncated: bool) -> Claim | None:
    # Most texts point at their answer in their last lines; what is pointed out last counts, so look there first.
    start = body.find("\n", len(body) - _NEAR) + 1 if len(body) > 2 * _NEAR else 0
    if not start or kind in (AnswerKind.choice, AnswerKind.code) or _RUN_ON.search(body):
        return None
    near = body[start:]
    found = pointers(near)
    if not found or found[0].start < _LIST_GAP:
        return None
    claim = _pointed(near, found, kind, truncated=truncated)
    if claim is None or claim is _ABSTAINED or (claim.prose and kind is not AnswerKind.text):
        return None
    return claim._replace(start=claim.start + start, end=claim.end + start)


def _pointed(body: str, found: Sequence[Pointer], kind: AnswerKind, *, truncated: bool) -> Claim | None:
    # The last value that is pointed out; words that nothing sets apart count only where no value is.
    prose: Claim | None = None
    for pointer in reversed(found):
        claim = read(body, pointer, kind, truncated=truncated)
        if claim is None:
            continue
        if is_abstention(claim.text):
            return prose or _ABSTAINED
        if not claim.prose or kind is AnswerKind.text:
            return claim
        prose = prose or claim
    return prose


def _answer(claim: Claim, kind: AnswerKind) -> Answer | None:
    if not claim.text or is_abstention(claim.text):
        return None
    if claim.kind is AnswerKind.choice:
        return Answer(claim.text, claim.text)
    said = claim.kind or (AnswerKind.math if kind is AnswerKind.auto else kind)
    key = canonical(claim.text, AnswerKind.text if claim.prose and claim.evidence is Evidence.whole else said)
    return Answer(claim.text, key) if key else None


def _readable(body: str) -> str:
    # Digits and signs of other scripts as those of ours, letter for letter, so that positions stay.
    return body if body.isascii() or not _FOREIGN_DIGITS.search(body) else body.translate(_ASCII)


def _without_run_on(body: str, found: list[Pointer]) -> tuple[str, list[Pointer]]:
    # Where a base model goes on after its answer with the next question, what follows is not its answer.
    first = min((p.start if p.end < 0 else p.end for p in found), default=-1)
    m = _RUN_ON.search(body, first) if first >= 0 else _ROLE.search(body, 1)
    if m is None or not body[: m.start()].strip():
        return body, found
    return body[: m.start()], [p for p in found if p.start < m.start()]
