r"""Values as they stand in a sentence: formulas, numbers with their units, dates, times, brackets, number words.

Every function looks at a bounded stretch of text and gives spans in it. What a value is worth is not known here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from thinkscale.answers.words import numbers
from thinkscale.types import AnswerKind


class Value(NamedTuple):
    """A value in a text; `text` is how it is to be read."""

    start: int
    end: int
    text: str
    kind: AnswerKind | None = None
    """`date`, `time`, `list` or `expression` where the shape says so, otherwise a number."""


_FRACTION = r"\\[dtc]?frac\s?\{\s?-?[0-9]{1,40}\s?\}\s?\{\s?[0-9]{1,40}\s?\}"
_SPACED = r"[0-9]{1,3}(?:[\u00a0\u202f][0-9]{3})+(?![0-9])|[0-9]{1,3}(?:\s[0-9]{3}){2,}(?![0-9])"
_REAL = rf"{_SPACED}|(?:[0-9]{{1,3}}(?:(?:,|\{{,\}}|,\\!)[0-9]{{3}})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
_UNIT = (
    r"(?:km/h|m/s(?:\^?\{?2\}?|²)?|mph|miles?\sper\shour|°\s?[CF]?|degrees?(?:\s(?:Celsius|Fahrenheit))?|percent|per\scent"
    r"|(?:square|cubic|sq\.?|cu\.?)\s(?:centi|milli|kilo)?(?:met(?:er|re)s?|inch(?:es)?|f(?:ee|oo)t|units?|yards?|miles?|cm|m|km|ft|in)"
    r"|(?:centi|milli|kilo)?(?:met(?:er|re)s?|grams?|lit(?:er|re)s?|joules?|watts?)|newtons?|pounds?|ounces?|inch(?:es)?"
    r"|f(?:ee|oo)t|yards?|miles?|dollars?|cents?|euros?|rupees?|yen|thousand|million|billion|trillion|hours?|minutes?|seconds?|days?|weeks?|months?|years?"
    r"|(?:[kcmdµn]?m|[kmµ]?g|[cdm]?[lL]|[km]?s|k?[JWNV]|[kM]?Hz|k?Pa|mol|[kMG]?eV|lbs?|oz|ft|hrs?|mins?|USD|EUR)(?:\^?\{?[23]\}?|[²³])?)"
    r"(?![^\W_])"
)
NUMBER = re.compile(
    rf"(?:(?<![\w.)\]}}%])[-+−]\s?)?(?:(?:[$€£¥₹]|\\\$)\s?)?(?:{_FRACTION}|√[0-9]{{1,6}}|(?:{_REAL})(?:\s[0-9]{{1,3}}/[0-9]{{1,4}}(?![0-9./])|\s?/\s?[0-9]+(?![0-9./])|\s:\s[0-9]+(?![0-9:])|\s?[√π][0-9]{{0,6}}|[eE][-+]?[0-9]+)?)"
    rf"(?:\s?\\?%|\s?[€£¥₹])?"
)
_UNITS = re.compile(rf"\s?{_UNIT}|\s?\$(?![0-9$])")
_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)\.?"
)
_DATE = (
    rf"{_MONTH}\s[0-9]{{1,2}}(?:st|nd|rd|th)?(?:,\s?|\s)[12][0-9]{{3}}(?![0-9])"
    r"|(?<![0-9/.-])(?:[12][0-9]{3}-[01]?[0-9]-[0-3]?[0-9]|[0-3]?[0-9]/[0-3]?[0-9]/(?:[0-9]{4}|[0-9]{2}))(?![0-9/-])"
    r"|(?<![0-9.])[0-3]?[0-9]\.[01]?[0-9]\.[12][0-9]{3}(?![0-9.])"
    rf"|(?<![0-9])[0-3]?[0-9](?:st|nd|rd|th|º|er)?\s(?:of\s)?{_MONTH},?\s[12][0-9]{{3}}(?![0-9])"
    r"|(?<![0-9])[0-3]?[0-9]\.?\s(?:de\s)?[^\W\d_]{3,10}\s(?:de\s|del\s)?[12][0-9]{3}(?![0-9])"
    r"|[12][0-9]{3}\s?[年년]\s?[01]?[0-9]\s?[月월]\s?[0-3]?[0-9]\s?[日일]"
)
DATE = re.compile(_DATE)
_MERIDIEM = r"\s?(?:[aApP]\.\s?[mM]\.|[aApP][mM](?![^\W_]))"
_TIME = (
    rf"(?<![0-9:.])[0-2]?[0-9]:[0-5][0-9](?::[0-5][0-9])?(?![0-9:])(?:{_MERIDIEM})?|(?<![0-9:.])[01]?[0-9]{_MERIDIEM}"
)
_ITEM = r"\s?[-+−]?[0-9a-z.\\/^{}√π∞]{1,20}\s?"
_BRACKET = rf"[(\[]{_ITEM}(?:,{_ITEM}){{1,11}}[)\]]|\{{{_ITEM}(?:,{_ITEM}){{1,11}}\}}"
_TOKEN = re.compile(
    rf"(?=[0-9.(\[{{$€£¥₹+−√\\JFMASOND-])(?:(?P<date>{_DATE})|(?P<time>{_TIME})|(?P<list>(?<![\w\\]){_BRACKET})|(?P<number>{NUMBER.pattern}))"
)
_FORMULA = re.compile(
    r"\$\$(?P<a>[^$]{1,600})\$\$|\$(?P<b>(?!\s)[^$\n]{1,400}(?<!\s)|\s[^$\n]{1,400}\s|[^$\n\\]{0,60}\\[A-Za-z][^$\n]{0,400})\$(?![0-9])|\\\((?P<c>.{1,400}?)\\\)|\\\[(?P<d>.{1,800}?)\\\]"
    r"|(?P<e>\\begin\{(?:[pbvBV]?matrix|array)\}.{1,600}?\\end\{(?:[pbvBV]?matrix|array)\})",
    re.DOTALL,
)
_FUNCTION = r"(?:sqrt|sin|cos|tan|cot|sec|csc|log|ln|exp|pi|mod|gcd|lcm|max|min|arcsin|arccos|arctan)(?![A-Za-z])"
_PROSE = re.compile(rf"(?<![\\A-Za-z{{])(?!{_FUNCTION})[A-Za-z]{{3,}}")
_EQUALS = re.compile(r"(?<![<>!\\:])=(?![=>])|\\(?:approx|equiv|implies|Rightarrow|Longrightarrow)(?![A-Za-z])|[≈⇒]")
_CLOSED = re.compile(r"[-+−]?\s?\$?(?:[0-9.,\s]|\\[dtc]?frac|\\sqrt|\\pi|\\%|[{}()/%^+*-])+")
_LAYOUT = re.compile(r"\\(?:begin|end)\{(?:aligned|align|gathered|gather)\*?\}")
_BARE = re.compile(
    r"\s*(?:\\?[A-Za-z]+(?:_\{?[A-Za-z0-9]{1,8}\}?)?'?(?:\s?\([^()=]{1,12}\))?|\([A-Za-z](?:\s?,\s?[A-Za-z])+\))\s*"
)
_SUBORDINATE = re.compile(
    r"(?=[abswiougdnf(])(?<![^\W_])(?:(?P<firm>because|since|(?:for|at|with)\s\$?[A-Za-z](?=\s?=)"
    r"|in(?=\s(?:1[5-9]|20)[0-9]{2}(?![0-9])))|after|when|if|out\sof|than|unlike|given\sthat|while|although|but\snot"
    r"|instead\sof|where|as\s(?:shown|seen|stated|required|given)|in\s(?:step|part|case|equation)|over|during|nach|après"
    r"|después|weil|for\seach)(?![^\W_])|(?<=\s)\((?=[A-Za-z])"
)
_PART = re.compile(r"\s(?:hours?|minutes?|seconds?|days?|weeks?|feet|foot|inch(?:es)?|pounds?|ounces?|years?|months?)$")
_STATES = re.compile(r"\b(?:is|are|was|were|equals|gives|becomes)\s")
_SUBJECT = re.compile(
    r"\s+(?:is|are|ist|est|es|é)\s+(?:[0-9.]+\s?%\s+of|the|our|what|how|a\s+(?:third|quarter|half))\b"
)
_JOINT = re.compile(
    r"\s*(?:,|;|,?\s*\b(?:and|or|und|oder|et|ou|y|o|e|и|или)\b|、|和|及)\s*(?:\$?(?P<name>[A-Za-z])\s?=\s?)?"
)
_NAME = re.compile(r"(?<![^\W_])(?P<name>[A-Za-z])\s?=\s?$")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*(?:[\u0900-\u097f]+)?")
_HAN = re.compile(r"[零一二两三四五六七八九十百千]+")
_PRONOUN = re.compile(
    r"(?:this|that|the|which|only|no|any|every|each|another|last|first|next|other|step)\s$", re.IGNORECASE
)
_AFTER_PRONOUN = re.compile(r"\s(?:of|another|by|way|more|can|should|must|has|needs)\b")


def formulas(body: str, start: int, end: int) -> list[Value]:
    """The formulas between delimiters in a stretch; prose between two signs of dollar is none."""
    found = []
    for m in _FORMULA.finditer(body, start, end):
        group = m.lastgroup or "a"
        inner = m[group].strip()
        money = group == "b" and (m[group][0] == " " or m[group][-1] == " ") and _PROSE.search(m[group])
        if inner and not money and not (group == "b" and len(_PROSE.findall(inner)) > 2 and "\\" not in inner):
            found.append(Value(m.start(group), m.end(group), inner.rstrip(".,;"), AnswerKind.expression))
    return found


def tokens(body: str, start: int, end: int) -> list[Value]:
    """Dates, times, bracketed lists and numbers in a stretch, as they stand, units with them."""
    found = []
    for m in _TOKEN.finditer(body, start, end):
        kind = m.lastgroup
        stop = m.end()
        if kind == "number":
            unit = _UNITS.match(body, stop, end)
            stop = unit.end() if unit else stop
        known = AnswerKind(kind) if kind in ("date", "time", "list") else None
        found.append(Value(m.start(), stop, body[m.start() : stop].strip().replace("−", "-"), known))
    return found


def values(body: str, start: int, end: int) -> list[Value]:
    """Formulas, and the tokens outside them, in the order of the text."""
    inside = formulas(body, start, end) if "$" in body[start:end] or "\\" in body[start:end] else []
    if not inside:
        return tokens(body, start, end)
    found: list[Value] = []
    at = start
    for formula in inside:
        found += tokens(body, at, max(at, formula.start - 1)) if at < formula.start else []
        found.append(formula)
        at = formula.end + 1
    return found + tokens(body, at, end)


def stated(body: str, start: int, end: int, *, listed: bool = False) -> Value | None:
    """The value that a sentence states: neither in its subordinate part nor, where it has a subject, in what follows.

    With `listed`, values that stand in one list are one.
    """
    found = values(body, start, end)
    if not found:
        return spelled(body, start, end)
    if len(found) > 1 and found[0].kind is None and _SUBJECT.match(body, found[0].end, end):
        return found[0]
    cut = _SUBORDINATE.search(body, found[0].end, end)
    computed = _compute(body, found, end)
    if cut and (cut["firm"] or not (computed or _STATES.search(body, cut.end(), found[-1].start))):
        found = [v for v in found if v.start < cut.start()]
        computed = _compute(body, found, end)
    if computed is not None:
        found = found[: found.index(computed) + 1]
    last = _compound(body, found)
    if listed or last.kind is AnswerKind.expression:
        return _with_list(body, found)
    return last


def _compound(body: str, found: list[Value]) -> Value:
    # "2 hours and 30 minutes" is one quantity.
    last = found[-1]
    if len(found) > 1 and _PART.search(last.text) and _PART.search(found[-2].text):
        between = body[found[-2].end : last.start].strip(" ,")
        if between in ("", "and"):
            return Value(found[-2].start, last.end, body[found[-2].start : last.end])
    return last


def _compute(body: str, found: list[Value], end: int) -> Value | None:
    # In a sentence that computes, the result stands behind the last sign of equality.
    sign = body.rfind("=", found[0].end, end)
    return next((v for v in found if v.start > sign), None) if sign >= 0 else None


_JOINED = (None, AnswerKind.expression)


def _with_list(body: str, found: list[Value]) -> Value:
    # Values of several names keep them: `x = 3 and y = 4` is no list of two values of one thing.
    first = last = len(found) - 1
    names = set()
    while first > 0 and found[first - 1].kind in _JOINED and found[last].kind in _JOINED:
        between = _JOINT.fullmatch(body[found[first - 1].end : found[first].start].strip("$\\()"))
        if between is None:
            break
        names.add(between["name"])
        first -= 1
    if first == last:
        return found[last]
    named = _NAME.search(body, max(0, found[first].start - 8), found[first].start)
    if named and names - {None, named["name"]}:
        return Value(named.start(), found[last].end, body[named.start() : found[last].end], AnswerKind.list)
    texts = [outcome(v.text) if v.kind is AnswerKind.expression else v.text for v in found[first:]]
    return Value(found[first].start, found[last].end, ", ".join(texts), AnswerKind.list)


def outcome(formula: str, sentence: str = "") -> str:
    r"""The right-hand side of a computation: `2 + 3 = 5` is 5, `x = 4` and `y = 2x + 3` stay as they are."""
    if "aligned" in formula or "align" in formula or "gather" in formula:
        formula = _LAYOUT.sub("", formula).replace("&", "").strip(" \\")
    parts = _EQUALS.split(formula)
    if len(parts) < 2 or not parts[-1].strip():
        return formula
    last = parts[-1].strip().rstrip(".,;")
    if "," in formula and len(parts) > 2 and len(formula.split(",")) > 1 and "(" not in formula:
        return formula
    if len(parts) > 2 or _BARE.fullmatch(parts[0]):
        return last if len(parts) > 2 else formula
    if not re.search(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", parts[0])):
        return last
    told = re.search(r"\b(?:equation|inequality|line|circle|curve|relation|parabola|ellipse|plane)\b", sentence)
    return last if _CLOSED.fullmatch(last) and not told else formula


def spelled(body: str, start: int, end: int) -> Value | None:
    """The last number that is written in words, as digits."""
    table = numbers()
    run: list[int] = []
    best: Value | None = None
    at = edge = start
    for m in _WORD.finditer(body, start, end):
        parts = [table.get(part) for part in (m[0].lower(), *m[0].lower().split("-"))]
        known = [parts[0]] if parts[0] is not None else parts[1:] if None not in parts[1:] else []
        joins = run and m[0].lower() in ("and", "und", "y", "e", "et")
        if known and not (m[0].lower() in ("one", "una", "um") and _is_pronoun(body, m.start(), m.end())):
            if not run:
                at = m.start()
            run += [value for value in known if value is not None]
            edge = m.end()
        elif not joins and run:
            best, run = Value(at, edge, str(_sum(run))), []
    best = Value(at, edge, str(_sum(run))) if run else best
    return best or _han(body, start, end)


def _is_pronoun(body: str, start: int, end: int) -> bool:
    return bool(_PRONOUN.search(body, max(0, start - 10), start) or _AFTER_PRONOUN.match(body, end))


def _sum(run: list[int]) -> int:
    total = part = 0
    for value in run:
        if value >= 1000:
            total, part = total + (part or 1) * value, 0
        elif value == 100:
            part = (part or 1) * 100
        else:
            part += value
    return total + part


def _han(body: str, start: int, end: int) -> Value | None:
    if body.isascii():
        return None
    found = list(_HAN.finditer(body, start, end))
    if not found:
        return None
    m = found[-1]
    total = part = 0
    for c in m[0]:
        if c in "十百千":
            total, part = total + (part or 1) * {"十": 10, "百": 100, "千": 1000}[c], 0
        else:
            part = "零一二三四五六七八九".find("二" if c == "两" else c)
    return Value(m.start(), m.end(), str(total + part))
