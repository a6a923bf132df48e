"""What a sentence says in words: yes or no, or the name that answers a question.

A question and the sentence that answers it share their words; what is new in the sentence is the answer. That holds in
any language with blanks between words, and letter by letter in those without.
"""

from __future__ import annotations

import re
from itertools import pairwise

from thinkscale.answers.evidence import Claim, Evidence
from thinkscale.answers.payloads import clean
from thinkscale.answers.words import pattern
from thinkscale.types import AnswerKind

_SHORT = 160
_LONGEST = 60
_POLAR = re.compile(
    r"(?:^|(?<=[.!?。！？\n])|\b(?:so|hence|therefore|thus|is|say|also|donc|следовательно)\b:?|,|[:*\"“(])[\s*\"“]{0,3}"
    rf"(?:(?P<yes>{pattern('yes')})|(?P<no>{pattern('no')}))(?=\s*[,.!;:。，、！)*\"”]|\s*$|\s+[—–-]|\s*\n|\s+(?:because|since|it|the|this)\b)",
    re.IGNORECASE,
)
_BREAK = re.compile(r"(?<![\s.][A-Z]\.)(?<!\bMr\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\bMrs\.)(?<=[.!?])\s+|\n+|(?<=[。！？।])")
_COPULA = re.compile(
    r"\s(?:is|are|was|were|ist|sind|war|est|sont|était|es|son|era|é|são|is called|called|named):?\s+"
    r"(?!not\b|an?\s+\w+\s+(?:that|which|of)\b)"
    r"|\s[—–]\s|是|は",
)
_BEHIND = re.compile(r"\s(?:is|are|was|were|ist|sind|est|sont|es|son|é|são):?\s+(?:the\s|an?\s)?$")
_NEGATED = re.compile(
    r"\b(?:not|no|never|cannot|nicht|kein\w*|não|не)\b|n['’]t\b|\bn[e'’]\b.{1,30}\bpas\b"
    r"|不|没|ない|ません|않|아니|नहीं|\bليس",
    re.IGNORECASE,
)
_REASONED = re.compile(r"^\W*(?:since|because|as|if|given|when|although|while|thus|so)\b[^,]*,", re.IGNORECASE)
_LEADING = re.compile(
    r"(?:(?:the|a|an|der|die|das|le|la|les|el|los|o|os|called|named|by|it|is|was|are|were|in|at|on|to|of|probably|simply"
    r"|appears|seems|looks|becomes|known as"
    r"|therefore|thus|so|hence|ist|est|es|é|that|this|there|he|she|they|и|это|to be)\b\s*)+",
    re.IGNORECASE,
)
_TRAILING = re.compile(
    r"(?:\s+(?:is|was|are|were|the|a|an|of|in|by|for|and|ist|est|es|é|which|that|who|has|had|did|does)|\s*[—–,;:-])+$",
    re.IGNORECASE,
)
_CUT = re.compile(
    r",?\s+(?:which|who|because|since|as it|where|when|weil|parce|porque|car)\b|,\s+not\b"
    r"|,\s+(?:and|with|a|an|the)\s|\s\(|;|\s(?:in|on|since)\s(?:\w+\s){0,2}[12][0-9]{3}(?![0-9])|\s[—–]\s"
)
_TOKEN = re.compile(r"[^\W_]+(?:['’.-][^\W_]+)*")
_BOLD = re.compile(r"\*\*([^*\n]{1,60})\*\*")
_CLOSE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
_ENDING = re.compile(f"{pattern('after')}$")
_ASKS_NAME = re.compile(r"\b(?:who|wer|qui|quién|quem|кто)\b", re.IGNORECASE)


def polar(body: str, question: str = "", *, asked: bool) -> Claim | None:
    """A yes or no, in any of the languages; unless `asked`, only where a short text opens with it."""
    if asked:
        found = list(_POLAR.finditer(body, max(0, len(body) - 2000)))
        m = found[-1] if found else None
    else:
        start = len(body) - len(body.lstrip(' \t\n*"“'))
        m = _POLAR.match(body, start) if len(body) < _SHORT and "=" not in body and "\n" not in body.strip() else None
    if m is None:
        return _agreement(body, question) if asked and question else None
    said = "yes" if m["yes"] else "no"
    return Claim(said, m.start(said), m.end(said), Evidence.sentence, AnswerKind.yes_no)


def _agreement(body: str, question: str) -> Claim | None:
    # Who was asked whether 17 is prime and says that it is not says no, without the word.
    said = pieces(body)
    wanted = {word.casefold() for word in _TOKEN.findall(question) if len(word) > 3 or word.isdigit()}
    for at in reversed(said[-2:]):
        repeated = {word.casefold() for word in _TOKEN.findall(body[at])} & wanted
        if wanted and len(repeated) >= len(wanted) / 2 and not body[at].rstrip().endswith("?"):
            differs = bool(_NEGATED.search(_REASONED.sub("", body[at]))) != bool(_NEGATED.search(question))
            return Claim("no" if differs else "yes", at.start, at.stop, Evidence.sentence, AnswerKind.yes_no)
    return None


def statement(body: str, question: str) -> Claim | None:
    """The name or phrase that a text states: in bold, new against the question, or behind "is"."""
    said = pieces(body)
    if not said:
        return None
    bold = list(_BOLD.finditer(body))
    if bold and question and not bold[-1][1].rstrip().endswith(":"):
        return Claim(clean(bold[-1][1]), bold[-1].start(1), bold[-1].end(1), Evidence.emphasis, prose=True)
    for at in (said[-1], said[0]) if len(said) > 1 else said:
        claim = (_news(body, at, question) if question else None) or _behind_copula(body, at)
        if claim is not None:
            return claim
    return None


def pieces(body: str) -> list[slice]:
    """The sentences and lines of a text that are not empty."""
    edges = [0, *(m.end() for m in _BREAK.finditer(body)), len(body)]
    return [slice(a, b) for a, b in pairwise(edges) if body[a:b].strip()]


def _news(body: str, at: slice, question: str) -> Claim | None:
    sentence = body[at]
    if len(sentence) > 3 * _SHORT:
        return None
    if _CLOSE.search(sentence):
        return _news_by_letter(body, at, question)
    cut = _CUT.search(sentence)
    end = cut.start() if cut and cut.start() > 12 else len(sentence)
    asked = set(_TOKEN.findall(question))
    folded = {word.casefold() for word in asked}
    shared = [
        m
        for m in _TOKEN.finditer(sentence, 0, end)
        # "Pacific Ocean" answers what the largest ocean is: within a sentence a capital makes another word.
        if m[0] in asked or ((m[0].islower() or not sentence[: m.start()].strip()) and m[0].casefold() in folded)
    ]
    if not shared:
        return None
    edges = [0, *(edge for m in shared for edge in m.span()), end]
    gaps = [_trim(sentence, a, b) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    gaps = [gap for gap in gaps if gap.start < gap.stop]
    if not gaps:
        return None
    best = max(
        gaps,
        key=lambda gap: (
            sentence[gap][:1].isupper() and gap.start > 0,
            _BEHIND.search(sentence, max(0, gap.start - 12), gap.start) is not None,
            gap.stop - gap.start,
        ),
    )
    return _phrase(body, at.start + best.start, at.start + best.stop, named=_ASKS_NAME.search(question) is not None)


def _trim(sentence: str, start: int, end: int) -> slice:
    while start < end and not sentence[start].isalnum() and sentence[start] not in '$\\"“«(-':
        start += 1
    if m := _LEADING.match(sentence, start, end):
        start = m.end()
        while start < end and sentence[start] in ": ":
            start += 1
    if m := _TRAILING.search(sentence[:end], start):
        end = m.start()
    return slice(start, end)


def _phrase(body: str, start: int, end: int, *, named: bool = False) -> Claim | None:
    text = clean(body[start:end])
    if named and (m := re.search(r"\b[^\W\d_a-z]\w*(?:[\s.-]+[^\W\d_a-z]\w*)*", text)) and m.start():
        start += m.start()
        text = text[m.start() :]
    if not text or len(text) > _LONGEST or not any(c.isalnum() for c in text):
        return None
    return Claim(text, start, end, Evidence.sentence, prose=True)


def _news_by_letter(body: str, at: slice, question: str) -> Claim | None:
    sentence = body[at].strip().rstrip("。.！!")
    first = 0
    while first < min(len(sentence), len(question)) and sentence[first] == question[first]:
        first += 1
    start = body.find(sentence, at.start) + first
    text = _ENDING.sub("", sentence[first:])
    copula = re.match(r"[是为は]", text)
    if copula:
        start, text = start + 1, text[1:]
    return (
        Claim(text, start, start + len(text), Evidence.sentence, prose=True)
        if first > 1 and 0 < len(text) <= 20
        else None
    )


def _behind_copula(body: str, at: slice) -> Claim | None:
    if at.stop - at.start > _SHORT:
        return None
    found = list(_COPULA.finditer(body, at.start, at.stop))
    if not found:
        return None
    start = found[-1].end()
    cut = _CUT.search(body, start, at.stop)
    span = _trim(body, start, cut.start() if cut else at.stop)
    text = clean(body[span])
    if not text or len(text.split()) > 5:
        return None
    return _phrase(body, span.start, span.stop)
