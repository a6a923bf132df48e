"""The grammar of spec strings: `name` or `name(field=value, …)`, where a value is a number, a quoted string, `true`,
`false`, `none`, a list `[…]`, or another spec. A name may also be `FILE.py:Class`, in quotes where its path needs them.

Nothing is ever evaluated, and no name is looked up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from thinkscale.component_files import is_filed
from thinkscale.errors import SpecError


@dataclass(frozen=True, slots=True)
class Call:
    """A parsed spec, before names are looked up."""

    name: str
    fields: tuple[tuple[str, object], ...] = ()


def call_of(text: str) -> Call:
    """What a spec string says, before any name is looked up.

    Raises:
        SpecError: the text does not parse.
    """
    reader = _Reader(text)
    call = reader.call()
    reader.end()
    return call


def literal(value: object) -> str:
    """A value as the grammar spells it."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case Call():
            return value.name
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'
        case tuple() | list():
            return f"[{', '.join(literal(v) for v in value)}]"
        case _:
            return repr(value)


def kebab(class_name: str) -> str:
    """Registry name of a class: `BestOfN` → `best-of-n`, `AheadByK` → `ahead-by-k`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", class_name).lower()


_TOKEN = re.compile(
    r"""\s*(?:(?P<file>[^\s()\[\],="']+\.py:[A-Za-z_]\w*)
    |(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w-]))
    |(?P<name>[A-Za-z0-9_][\w.-]*)
    |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<mark>[()\[\],=]))""",
    re.VERBOSE,
)
_WORDS: dict[str, object] = {"true": True, "false": False, "none": None, "True": True, "False": False, "None": None}
_ESCAPES = {"n": "\n", "t": "\t"}
_LONGEST, _DEEPEST, _LONGEST_NUMBER = 10_000, 50, 400


def _unquoted(word: str) -> str:
    return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), word[1:-1], flags=re.DOTALL)


class _Reader:
    """A cursor over the tokens of one spec string."""

    def __init__(self, text: str) -> None:
        if len(text) > _LONGEST:
            raise SpecError(f"a spec of {len(text)} characters is too long: the limit is {_LONGEST}")
        self.text = text
        self.at = 0
        self.depth = 0

    def call(self) -> Call:
        kind, word = self._next("a name")
        if kind == "string" and is_filed(text := _unquoted(word)):
            return self._call_of(text)
        if kind not in ("name", "file"):
            raise self._wrong(f"a name, not `{word}`")
        return self._call_of(word)

    def end(self) -> None:
        if self.text[self.at :].strip():
            raise self._wrong("the end of the spec")

    def _call_of(self, name: str) -> Call:
        if not self._take("("):
            return Call(name)
        return Call(name, tuple(self._items(")", self._field)))

    def _field(self) -> tuple[str, object]:
        kind, word = self._next("a field name")
        if kind != "name" or not self._take("="):
            raise self._wrong(f"`field=value` after `{word}`")
        return word.replace("-", "_"), self._value()

    def _value(self) -> object:
        kind, word = self._next("a value")
        if kind == "number":
            if len(word) > _LONGEST_NUMBER:
                raise SpecError(f"a number of {len(word)} digits is too long: the limit is {_LONGEST_NUMBER}")
            return int(word) if re.fullmatch(r"[-+]?\d+", word) else float(word)
        if kind == "string":
            text = _unquoted(word)
            return self._call_of(text) if is_filed(text) and self._sees("(") else text
        if word == "[":
            return self._items("]", self._value)
        if kind == "file":
            return self._call_of(word)
        if kind == "name":
            return _WORDS[word] if word in _WORDS else self._call_of(word)
        raise self._wrong(f"a value, not `{word}`")

    def _items(self, close: str, item: object) -> list:  # type: ignore[type-arg]
        self.depth += 1
        if self.depth > _DEEPEST:
            raise SpecError(f"a spec may nest {_DEEPEST} levels deep at most")
        items = []
        while not self._take(close):
            items.append(item())  # type: ignore[operator]
            if not self._take(","):
                if not self._take(close):
                    raise self._wrong(f"`,` or `{close}`")
                break
        self.depth -= 1
        return items

    def _next(self, wanted: str) -> tuple[str, str]:
        match = _TOKEN.match(self.text, self.at)
        if not match or match.lastgroup is None:
            raise self._wrong(wanted)
        self.at = match.end()
        return match.lastgroup, match[match.lastgroup]

    def _sees(self, mark: str) -> bool:
        match = _TOKEN.match(self.text, self.at)
        return match is not None and match["mark"] == mark

    def _take(self, mark: str) -> bool:
        match = _TOKEN.match(self.text, self.at)
        if match and match["mark"] == mark:
            self.at = match.end()
            return True
        return False

    def _wrong(self, expected: str) -> SpecError:
        return SpecError(f"in the spec `{self.text}` at character {self.at + 1}: expected {expected}")
