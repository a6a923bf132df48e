"""The lettered option that a text picks: by its letter, or by the words of the option.

The article "A" and the pronoun "I" are letters too, so a letter counts only where a text points at it: in a box, after
a marker or a verb of choosing, before "is correct", in brackets, or alone on a line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from thinkscale.answers import reading
from thinkscale.answers.abstentions import is_abstention
from thinkscale.answers.canonical import canonical
from thinkscale.answers.evidence import Claim, Evidence, Pointer
from thinkscale.answers.statements import pieces
from thinkscale.answers.values import outcome, values
from thinkscale.answers.words import compiled
from thinkscale.types import AnswerKind

_TAIL = 3000
_LINE = 300
_LETTER = r"(?<![A-Za-z0-9])(?P<letter>[A-J])(?![A-Za-z0-9'’_^=])"
_LEAD = (
    r"(?:(?:option|choice|letter|answer|text|textbf|mathrm|mathbf|boxed|la|a|o|le|der|die|the|letra|lettre|buchstabe"
    r"|opción|opção|вариант|буква|विकल्प|选项|選択肢)\b[\s:{(*]*)*"
)
_LEADING = re.compile(rf"[\s*`\"'\\$({{\[_:“]*{_LEAD}([A-Ja-j])(?![A-Za-z0-9'’])(.?)", re.IGNORECASE | re.DOTALL)
_ARTICLE = re.compile(r"\s+[a-z]")
_AFTER_LETTER = ("because", "since", "is", "as", "and not", "was", "it")
_ALONE = re.compile(r"(?m)^[ \t*`\"'$(\[#]*(?:\\boxed\{|\\text\{)?(?P<letter>[A-Ja-j])[ \t*`\"'$)\]}.:]*$")
_VERDICT = re.compile(
    rf"{_LETTER}[)*.:\s]*\s(?:is|are|would\sbe|must\sbe|seems|appears\sto\sbe|remains)\s?(?:(?:indeed|clearly|therefore|thus|definitely"
    r"|most|likely|probably|the|a|only|best|our|my|also|then|to be)\s)*(?:correct|right|true|best|appropriate|accurate"
    r"|answer|choice|option|plausible|likely|suitable|fitting|reasonable|valid|one|left)(?![a-z])"
)
_JUDGED = re.compile(rf"(?m)^\W{{0,6}}{_LETTER}[).:*]+.{{0,120}}?[\s:(*—–-]+(?:right|correct|true|yes)\b(?!\s*\?)")
_TICKED = re.compile(rf"{_LETTER}[)*.: ]*✅|✅[ *(]*(?P<other>[A-J])(?![A-Za-z])")
_CHOSEN = compiled("", "choose", rf"[\s:,*]*(?:the\s)?(?i:option|choice|answer|letter)?[\s:*\"“]*\(?{_LETTER}")
_HEADLINE = re.compile(rf"(?m)^[ \t*#>\"“-]*\(?{_LETTER}[).:]+[ \t*]*(?P<words>[^\n]*)")
_BOLD = re.compile(rf"\*\*[\s(]*(?:[Oo]ption\s)?{_LETTER}[).:]?(?P<words>[^*\n]*)\*\*")
_BRACKETED = re.compile(
    rf"(?<![A-Za-z0-9])\({_LETTER}\)|\b[Oo]ption\s\**\(?(?P<other>[A-J])\b|\b[Cc]hoice\s\**\(?(?P<third>[A-J])\b"
)
_LAST = re.compile(
    r"(?<![A-Za-z0-9'’+*/^=-]\s)(?<![A-Za-z0-9'’+*/^=-])(?P<letter>[A-J])[.!)*\s]*$|\s(?P<other>[B-H])[.!)*]+\s*$"
)
_REJECTED = re.compile(
    r"\b(?:not|unlike|rather than|instead of|than|nor|neither|eliminates?d?|rules? out|ruled out|exclud\w+)"
    r"\s+(?:[Oo]ptions?\s+)?\**\(?[A-J]\)?\**"
    r"(?:\s*(?:,|or|and|nor)+\s*\(?[A-J]\)?)*(?![A-Za-z])"
)
_PUNCTUATION = re.compile(r"[^\w.%$+−/^\\=<>-]+|(?<!\d)[.](?!\d)|[.](?!\d)|_")
_ARTICLES = frozenset({"a", "an", "the"})
_DENIED = re.compile(r"(?:\b(?:not|isn't|no|rather than|instead of|unlike|incorrect)\s(?:\w+\s){0,2})$")


def pick(body: str, pointers: Sequence[Pointer], known: Mapping[str, str], *, truncated: bool) -> Claim | None:
    """The letter that a text picks, in upper case; a `truncated` text picks only by what it points out."""
    for pointer in reversed(pointers):
        start, payload = _payload(body, pointer)
        if not payload.strip():
            continue
        if is_abstention(payload):
            return None
        letter = _leading(payload, known) or _named(payload, known) or _mentioned(payload, known)
        if letter:
            return Claim(letter, start, start + len(payload.rstrip()), pointer.evidence, AnswerKind.choice)
    if truncated:
        return None
    return _chosen(body, known) or _by_words(body, known)


def _payload(body: str, pointer: Pointer) -> tuple[int, str]:
    if pointer.end >= 0:
        return pointer.start, pointer.text or body[pointer.start : pointer.end]
    start = pointer.start
    while start < len(body) and body[start] in " \t\n*_:":
        start += 1
    return start, body[start : start + _LINE].partition("\n")[0]


def _allowed(letter: str, known: Mapping[str, str]) -> str | None:
    letter = letter.upper()
    return letter if not known or letter in known else None


def _leading(payload: str, known: Mapping[str, str]) -> str | None:
    m = _LEADING.match(payload)
    if m is None:
        return None
    # "A cat" is an article and its noun; "A) a cat", "A because" and "A." point at the option.
    bare = m[1] in "AaIi" and m[2].isspace()
    rest = payload[m.end(1) :].lstrip()
    if bare and _ARTICLE.match(payload, m.end(1)) and not rest.startswith(_AFTER_LETTER):
        return None
    whole = m.end(1) >= len(payload.rstrip(" .)*}$]\"'"))
    return _allowed(m[1], known) if m[1].isupper() or whole or m[2] == ")" else None


def _chosen(body: str, known: Mapping[str, str]) -> Claim | None:
    # The last of the sentences that choose, else a letter that stands alone, else the last one in brackets.
    start = max(0, len(body) - _TAIL)
    text = _REJECTED.sub(lambda m: " " * len(m[0]), body[start:])
    for find in (_judgements, _alone, _headlines, _brackets, _closing):
        found = [m for m in find(text) if _letter_of(m) in known or not known]
        if found:
            m = found[-1]
            return Claim(_letter_of(m), start + m.start(), start + m.end(), Evidence.letter, AnswerKind.choice)
    return None


def _letter_of(m: re.Match[str]) -> str:
    return next(m[name] for name in m.re.groupindex if name != "words" and m[name]).upper()


def _judgements(text: str) -> list[re.Match[str]]:
    found = [*_VERDICT.finditer(text), *_JUDGED.finditer(text), *_TICKED.finditer(text)]
    found += [m for m in _CHOSEN.finditer(text) if not _is_word(text, m)]
    return sorted(found, key=lambda m: m.end())


def _is_word(text: str, m: re.Match[str]) -> bool:
    letter = m["letter"]
    if letter == "I":
        return text[m.end() : m.end() + 1] not in (")", ".", "*") and m.end() < len(text.rstrip())
    return (
        letter == "A"
        and _ARTICLE.match(text, m.end()) is not None
        and not text[m.end() :].lstrip().startswith(_AFTER_LETTER)
    )


def _alone(text: str) -> list[re.Match[str]]:
    found = list(_ALONE.finditer(text))
    return [m for m in found if not text[m.end() :].strip() or not text[: m.start()].strip()] or found


def _headlines(text: str) -> list[re.Match[str]]:
    for pattern in (_BOLD, _HEADLINE):
        found = list(pattern.finditer(text))
        if len({m["letter"] for m in found}) == 1 and not (
            found[0]["letter"] in "AI" and pattern is _BOLD and _ARTICLE.match(found[0]["words"])
        ):
            return found
    return []


def _brackets(text: str) -> list[re.Match[str]]:
    return list(_BRACKETED.finditer(text))


def _closing(text: str) -> list[re.Match[str]]:
    return [m for m in (_LAST.search(text, max(0, len(text) - 20)),) if m]


def _named(payload: str, known: Mapping[str, str]) -> str | None:
    # An option whose words are all that was pointed at, or whose value is.
    if not known or len(payload) > _LINE + 100:
        return None
    keys = {_key(payload.strip(" *.$"))}
    keys |= {_key(outcome(value.text)) for value in values(payload, 0, len(payload))[:1]}
    letters = [letter for letter, words in known.items() if _key(words) in keys]
    return letters[0] if len(letters) == 1 else None


@lru_cache(maxsize=4096)
def _key(words: str) -> str:
    # What it is worth rather than how it is written: an option `0.5` is meant by `1/2`.
    return reading.read(canonical(words, AnswerKind.math)).name


@lru_cache(maxsize=8192)
def _plain(text: str) -> str:
    words = _PUNCTUATION.sub(" ", text.casefold()).split()
    return " ".join(word for word in words if word not in _ARTICLES)


def _mentioned(text: str, known: Mapping[str, str]) -> str | None:
    # The one option whose words occur; one that is part of a longer one that occurs does not count.
    said = f" {_plain(text)} "
    found = {}
    for letter, words in known.items():
        plain = _plain(words)
        at = said.rfind(f" {plain} ") if plain else -1
        if at >= 0 and not _DENIED.search(said, 0, at + 1):
            found[letter] = plain
    longest = [
        letter
        for letter, plain in found.items()
        if not any(plain != other and plain in other for other in found.values())
    ]
    return longest[0] if len(longest) == 1 else None


def _by_words(body: str, known: Mapping[str, str]) -> Claim | None:
    if not known:
        return None
    stretches = pieces(body)
    for find in (_valued, _mentioned):
        for at in (*reversed(stretches[-6:]), *stretches[:1]):
            letter = find(body[at], known)
            if letter:
                return Claim(letter, at.start, at.stop, Evidence.words, AnswerKind.choice)
    return _likest(body, stretches, known)


def _valued(sentence: str, known: Mapping[str, str]) -> str | None:
    found = values(sentence, 0, min(len(sentence), 2 * _LINE))
    if not found or not any(c.isdigit() or c == "\\" for words in known.values() for c in words):
        return None
    key = _key(outcome(found[-1].text))
    letters = [letter for letter, words in known.items() if _key(words) == key]
    return letters[0] if len(letters) == 1 else None


def _likest(body: str, stretches: Sequence[slice], known: Mapping[str, str]) -> Claim | None:
    # Most of the words of one option, and clearly fewer of every other.
    for at in (*reversed(stretches[-2:]), *stretches[:1]):
        said = set(_plain(body[at]).split())
        shares = []
        for letter, words in known.items():
            wanted = {word for word in _plain(words).split() if len(word) > 2}
            shares.append((len(wanted & said) / len(wanted) if wanted else 0.0, letter))
        shares.sort(reverse=True)
        if len(shares) > 1 and shares[0][0] >= 0.6 and shares[0][0] - shares[1][0] >= 0.3:
            return Claim(shares[0][1], at.start, at.stop, Evidence.words, AnswerKind.choice)
    return None
