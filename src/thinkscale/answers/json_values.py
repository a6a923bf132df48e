"""The last JSON value in a text, also where it is written as Python writes it. It reads JSON and evaluates nothing."""

from __future__ import annotations

import json
import re

from thinkscale.answers.evidence import Claim, Evidence
from thinkscale.types import AnswerKind

TAIL = 65_536
_TRIES, _READ = 256, 4 * TAIL
"""Beginnings at which JSON is looked for, and characters that may be read for it: what never closes is read in vain."""
_LENIENT = 16_384
_FENCE = re.compile(r"```(?:json|JSON)?[ \t]*\n(.*?)```", re.DOTALL)
_START = re.compile(r"[{\[]")
_DECODER = json.JSONDecoder()
_PIECES = re.compile(
    r"\"(?:[^\"\\]|\\.)*\"|'(?P<single>(?:[^'\\]|\\.)*)'|(?P<comma>,\s*(?=[}\]]))|\b(?P<word>True|False|None)\b",
    re.DOTALL,
)
_WORDS = {"True": "true", "False": "false", "None": "null"}


def last_json(body: str) -> Claim | None:
    """The last complete value, that of the last fenced block first."""
    fenced = list(_FENCE.finditer(body))
    if fenced and (claim := _last(body, fenced[-1].start(1), fenced[-1].end(1))):
        return claim._replace(evidence=Evidence.fence)
    return _last(body, 0, len(body)) or _lenient(body)


def _last(body: str, start: int, end: int) -> Claim | None:
    whole = body[start:end].strip()
    if _loads(whole):
        at = body.find(whole, start)
        return _claim(whole, at, at + len(whole), Evidence.whole)
    found: Claim | None = None
    position, read = start, 0
    for _ in range(_TRIES):
        m = _START.search(body, position, end)
        if m is None or read > _READ:
            break
        try:
            _, position = _DECODER.raw_decode(body, m.start())
            found = _claim(body[m.start() : position], m.start(), position, Evidence.value)
        except json.JSONDecodeError as error:
            read += error.pos - m.start()
            position = m.end()
        except (ValueError, RecursionError):
            position = m.end()
    return found


def _lenient(body: str) -> Claim | None:
    # Single quotes, a comma too many, Python's words: from the first bracket to the last one.
    start = min((at for at in (body.find("{"), body.find("[")) if at >= 0), default=-1)
    end = max(body.rfind("}"), body.rfind("]")) + 1
    if start < 0 or not 0 < end - start <= _LENIENT:
        return None
    written = _PIECES.sub(_as_json, body[start:end])
    return _claim(written, start, end, Evidence.value) if _loads(written) else None


def _as_json(m: re.Match[str]) -> str:
    if m["single"] is not None:
        return json.dumps(m["single"].replace("\\'", "'"), ensure_ascii=False)
    if m["word"]:
        return _WORDS[m["word"]]
    return "" if m["comma"] else m[0]


def _claim(text: str, start: int, end: int, evidence: Evidence) -> Claim:
    return Claim(text, start, end, evidence, AnswerKind.json)


def _loads(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
