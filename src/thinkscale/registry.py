"""Names and specs: lazy tables of what is built in, entry points of what is installed, and strings such as
`best-of-n(n=16, scorer=self-certainty)` that turn into frozen objects and back. Nothing is imported until it is named.

Spec grammar: `name` or `name(field=value, …)`; a value is a number, a quoted string, `true`, `false`, `none`, a list
`[…]`, or another spec. Nothing is ever evaluated.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import re
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from functools import lru_cache, wraps
from importlib.metadata import entry_points
from typing import TypeVar, dataclass_transform

from thinkscale.built_in import BUILT_IN
from thinkscale.errors import SpecError

KIND_OF_TYPE = {"Method": "method", "Scorer": "scorer", "StopRule": "stop-rule", "Selector": "selector"}
"""The kind that a field takes, by the protocol it is annotated with."""

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def spec(cls: type[T]) -> type[T]:
    """Make a class a frozen, keyword-only record of hyper-parameters whose `repr` is its spec string."""
    made = dataclasses.dataclass(frozen=True, slots=True, kw_only=True, repr=False)(cls)
    made.__repr__ = spec_of  # type: ignore[method-assign]
    return made


def at_least(least: float, **fields: float | None) -> None:
    """Check hyper-parameters in a `__post_init__`.

    Raises:
        SpecError: one that is set is smaller than `least`, or not a number.
    """
    for name, value in fields.items():
        if value is not None and not value >= least:
            raise SpecError(f"`{name}={value}` must be at least {least:g}")


def coerce(component: object, **kinds: type[StrEnum]) -> None:
    """In a `__post_init__`, read the fields named, given as the enum or as its value.

    Raises:
        SpecError: a value is not known; the message lists the nearest ones.
    """
    for name, kind in kinds.items():
        value = getattr(component, name)
        if value not in list(kind):
            raise SpecError(f"`{name}={value}` is not known{nearest(str(value), [*kind])}")
        object.__setattr__(component, name, kind(value))


def spec_of(component: object) -> str:
    """The spec string of a component: its name and every field that differs from its default."""
    changed = [
        f"{f.name}={_literal(getattr(component, f.name))}"
        for f in dataclasses.fields(component)  # type: ignore[arg-type]
        if f.init and getattr(component, f.name) != _default(f)
    ]
    name = kebab(type(component).__name__)
    return f"{name}({', '.join(changed)})" if changed else name


def kebab(class_name: str) -> str:
    """Registry name of a class: `BestOfN` → `best-of-n`, `AheadByK` → `ahead-by-k`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", class_name).lower()


def names(kind: str) -> dict[str, str]:
    """Every known name of a kind with where it lives, built-ins first."""
    installed = {e.name: e.value for e in entry_points(group=f"thinkscale.{kind}")}
    return {**BUILT_IN[kind], **{name: at for name, at in installed.items() if name not in BUILT_IN[kind]}}


def lookup(kind: str, name: str) -> type:
    """The class behind a name, imported now.

    Raises:
        SpecError: the name is unknown; the message lists the nearest ones.
    """
    known = BUILT_IN[kind] if name in BUILT_IN[kind] else names(kind)
    if name not in known:
        raise SpecError(f"unknown {kind} `{name}`{nearest(name, known)}")
    module, _, attribute = known[name].partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SpecError(f"{kind} `{name}` cannot be loaded from `{known[name]}`: {error}") from error
    if not isinstance(found, type):
        raise SpecError(f"`{known[name]}` registered as {kind} `{name}` is not a class")
    return found


def nearest(name: str, known: Sequence[str] | dict[str, str]) -> str:
    """The tail of an error about an unknown name."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    if close:
        return f": did you mean {' or '.join(f'`{c}`' for c in close)}?"
    return f": choose one of {', '.join(f'`{k}`' for k in sorted(known))}"


def parse(text: str, kind: str) -> object:
    """Build the component that a spec string describes.

    Raises:
        SpecError: the text does not parse, or names an unknown component or field.
    """
    return build(call_of(text), kind)


def call_of(text: str) -> Call:
    """What a spec string says, before any name is looked up.

    Raises:
        SpecError: the text does not parse.
    """
    reader = _Reader(text)
    call = reader.call()
    reader.end()
    return call


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """A parsed spec, before names are looked up."""

    name: str
    fields: tuple[tuple[str, object], ...] = ()


def build(call: Call, kind: str) -> object:
    """Look up a parsed spec and construct it."""
    name, fields = _numbered(call, kind)
    cls = lookup(kind, name)
    known = {f.name: f for f in dataclasses.fields(cls) if f.init} if dataclasses.is_dataclass(cls) else {}
    made: dict[str, object] = {}
    for field, value in fields:
        if field not in known:
            raise SpecError(f"`{name}` has no field `{field}`{nearest(field, list(known))}")
        if field in made:
            raise SpecError(f"`{name}` is given `{field}` twice")
        made[field] = _value(value, str(known[field].type), f"{name}.{field}")
    try:
        return cls(**made)
    except SpecError as error:
        raise SpecError(f"`{name}` cannot be built: {error}") from None
    except (TypeError, ValueError) as error:
        raise SpecError(f"`{name}` cannot be built: {error}") from error


def remembered(work: Callable[[object], T]) -> Callable[[object], T]:
    """A function of a component that is looked up the second time, where nothing of the component can change."""
    kept = lru_cache(maxsize=256)(work)

    @wraps(work)
    def found(component: object) -> T:
        params = getattr(component, "__dataclass_params__", None)
        try:
            return kept(component) if params is not None and params.frozen else work(component)
        except TypeError:  # a field that cannot be hashed
            return work(component)

    return found


def components(root: object) -> Iterator[object]:
    """A component and everything nested in its fields, depth first."""
    yield root
    for nested in parts_of(root):
        yield from components(nested)


def parts_of(component: object) -> Iterator[object]:
    """What is nested in the fields of a component, at first hand."""
    if dataclasses.is_dataclass(component) and not isinstance(component, type):
        for field in dataclasses.fields(component):
            value = getattr(component, field.name)
            yield from (
                v for v in (value if isinstance(value, tuple | list) else (value,)) if dataclasses.is_dataclass(v)
            )


def _numbered(call: Call, kind: str) -> tuple[str, tuple[tuple[str, object], ...]]:
    """`ahead-by-4` is short for `ahead-by-k(k=4)`."""
    match = re.fullmatch(r"(.+)-(\d{1,9})", call.name)
    if match and f"{match[1]}-k" in BUILT_IN[kind]:
        return f"{match[1]}-k", (("k", int(match[2])), *call.fields)
    return call.name, call.fields


_LISTED = re.compile(r"(?:tuple|list|Sequence)\[(.+?)(?:, \.\.\.)?\](?: \| None)?")
_SCALARS = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str, Call)}


def _value(value: object, annotation: str, where: str) -> object:
    """Turn a parsed value into what a field annotated so takes."""
    kind = next((k for t, k in KIND_OF_TYPE.items() if re.search(rf"\b{t}\b", annotation)), None)
    listed = _LISTED.fullmatch(annotation)
    if listed and value is not None and not isinstance(value, list):
        raise SpecError(f"`{where}` takes a list of {listed[1]}, such as `[{_literal(value)}]`")
    if isinstance(value, list) and re.search("tuple|list|Sequence", annotation, re.IGNORECASE):
        return tuple(_value(v, listed[1] if listed else annotation, where) for v in value)
    if kind and isinstance(value, Call):
        return build(value, kind)
    allowed = tuple(t for name, types in _SCALARS.items() if re.search(rf"\b{name}\b", annotation) for t in types)
    # What neither is a scalar nor has a kind, and may be left out, can be given in Python only.
    unspoken = not allowed and not kind and annotation.endswith("| None")
    misfit = (
        isinstance(value, list)
        or kind
        or unspoken
        or not isinstance(value, allowed)
        or (isinstance(value, bool) and bool not in allowed)
    )
    if (value is None and not re.search("None|Optional", annotation)) or (
        value is not None and (allowed or kind or unspoken) and misfit
    ):
        raise SpecError(f"`{where}` takes {annotation.replace(' | None', '')}, not `{_literal(value)}`")
    if isinstance(value, Call):
        if value.fields:
            raise SpecError(f"`{where}` takes {annotation}, not the spec `{value.name}(…)`")
        return value.name
    return value


def _literal(value: object) -> str:
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
            return f"[{', '.join(_literal(v) for v in value)}]"
        case _:
            return repr(value)


def _default(field: dataclasses.Field[object]) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


_TOKEN = re.compile(
    r"""\s*(?:(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w-]))
    |(?P<name>[A-Za-z0-9_][\w.-]*)
    |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<mark>[()\[\],=]))""",
    re.VERBOSE,
)
_WORDS: dict[str, object] = {"true": True, "false": False, "none": None, "True": True, "False": False, "None": None}
_ESCAPES = {"n": "\n", "t": "\t"}
_LONGEST, _DEEPEST, _LONGEST_NUMBER = 10_000, 50, 400


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
        if kind != "name":
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
            return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), word[1:-1], flags=re.DOTALL)
        if word == "[":
            return self._items("]", self._value)
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

    def _take(self, mark: str) -> bool:
        match = _TOKEN.match(self.text, self.at)
        if match and match["mark"] == mark:
            self.at = match.end()
            return True
        return False

    def _wrong(self, expected: str) -> SpecError:
        return SpecError(f"in the spec `{self.text}` at character {self.at + 1}: expected {expected}")
