"""Names and specs: lazy tables of what is built in, entry points of what is installed, files that are named, and
strings such as `best-of-n(n=16, scorer=./mine.py:Vowels)` that turn into frozen objects and back (`grammar.py`).

Nothing is imported until it is named, and no file where files are not allowed.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import lru_cache, wraps
from importlib.metadata import entry_points
from typing import TypeVar, dataclass_transform

from thinkscale.built_in import BUILT_IN
from thinkscale.component_files import digest_of, is_filed, load, name_of
from thinkscale.errors import SpecError, nearest
from thinkscale.grammar import Call, call_of, kebab, literal

__all__ = [
    "MEMBERS",
    "Call",
    "at_least",
    "build",
    "call_of",
    "called",
    "components",
    "digests_of",
    "kebab",
    "kind_of",
    "lookup",
    "names",
    "nearest",
    "parse",
    "parts_of",
    "remembered",
    "spec",
    "spec_of",
]

KIND_OF_TYPE = {"Method": "method", "Scorer": "scorer", "StopRule": "stop-rule", "Selector": "selector"}
"""The kind that a field takes, by the protocol it is annotated with."""
MEMBERS = {
    "method": ("solve", "ceiling"),
    "scorer": ("score",),
    "engine": ("capabilities", "open", "stream", "count", "aclose"),
    "selector": ("__call__",),
    "stop-rule": ("__call__",),
}
"""What a class of each kind has."""
_RETURNED = {"bool": "stop-rule", "Ranking": "selector"}
"""Rules are told apart by what their `__call__` says that it returns."""

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
        f"{f.name}={literal(getattr(component, f.name))}"
        for f in dataclasses.fields(component)  # type: ignore[arg-type]
        if f.init and getattr(component, f.name) != _default(f)
    ]
    name = called(type(component))
    return f"{name}({', '.join(changed)})" if changed else name


def called(cls: type) -> str:
    """The name of a class in specs: in quotes where it is that of a file whose path has odd letters."""
    filed = name_of(cls)
    if filed is None:
        return kebab(cls.__name__)
    return filed if re.fullmatch(r"""[^\s()\[\],="']+""", filed) else literal(filed)


def names(kind: str) -> dict[str, str]:
    """Every known name of a kind with where it lives, built-ins first."""
    installed = {e.name: e.value for e in entry_points(group=f"thinkscale.{kind}")}
    return {**BUILT_IN[kind], **{name: at for name, at in installed.items() if name not in BUILT_IN[kind]}}


def lookup(kind: str, name: str, *, files: bool = True) -> type:
    """The class behind a name, imported now.

    Args:
        kind: what it has to be.
        name: built in, installed, or `FILE.py:Class`.
        files: whether it may name a file. Whoever passes on what strangers say allows none.

    Raises:
        SpecError: the name is unknown, with the nearest ones, or it is that of something else.
    """
    if is_filed(name):
        if not files:
            raise SpecError(f"`{name}` names a file, and none is loaded here: give the name of an installed {kind}")
        return _of_kind(load(name), kind, name)
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


def kind_of(cls: type) -> str | None:
    """What kind of component a class is, by its members; `None` where that does not say."""
    for kind in ("method", "scorer", "engine"):
        if not _lacking(cls, kind):
            return kind
    call = next((vars(c)["__call__"] for c in cls.__mro__ if "__call__" in vars(c)), None)
    returned = getattr(call, "__annotations__", {}).get("return")
    return _RETURNED.get(returned if isinstance(returned, str) else getattr(returned, "__name__", ""))


def _lacking(cls: type, kind: str) -> list[str]:
    return [name for name in MEMBERS[kind] if not any(name in vars(c) for c in cls.__mro__)]


def _of_kind(cls: type, kind: str, name: str) -> type:
    """The class, if it can be one of a kind."""
    lacking, is_one = _lacking(cls, kind), kind_of(cls)
    if lacking or is_one not in (kind, None):
        other = (
            f": it is {'an' if is_one == 'engine' else 'a'} {is_one}"
            if is_one
            else f": it has no `{'` and no `'.join(lacking)}`"
        )
        raise SpecError(f"`{name}` is no {kind}{other}")
    if inspect.isabstract(cls):
        raise SpecError(f"`{name}` is abstract: name a class that has all that a {kind} needs")
    if kind != "engine" and ("__dataclass_params__" not in vars(cls) or vars(cls).get("__repr__") is not spec_of):
        raise SpecError(
            f"`{name}` is no record of hyper-parameters: put `@spec` of `thinkscale.registry` above its class"
        )
    return cls


def parse(text: str, kind: str, *, files: bool = True) -> object:
    """Build the component that a spec string describes.

    Args:
        text: the spec string.
        kind: what it has to be.
        files: whether it may name classes in files; a stranger's may not.

    Raises:
        SpecError: the text does not parse, or names an unknown component or field.
    """
    return build(call_of(text), kind, files=files)


def build(call: Call, kind: str, *, files: bool = True) -> object:
    """Look up a parsed spec and construct it."""
    name, fields = _numbered(call, kind)
    cls = lookup(kind, name, files=files)
    known = {f.name: f for f in dataclasses.fields(cls) if f.init} if dataclasses.is_dataclass(cls) else {}
    made: dict[str, object] = {}
    for field, value in fields:
        if field not in known:
            raise SpecError(f"`{name}` has no field `{field}`{nearest(field, list(known))}")
        if field in made:
            raise SpecError(f"`{name}` is given `{field}` twice")
        made[field] = _value(value, _annotation(known[field]), f"{name}.{field}", files)
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


def digests_of(component: object) -> list[str]:
    """The digests of the files that a component and everything nested in it came from."""
    return sorted({d for part in components(component) if (d := digest_of(type(part)))})


def _numbered(call: Call, kind: str) -> tuple[str, tuple[tuple[str, object], ...]]:
    """`ahead-by-4` is short for `ahead-by-k(k=4)`."""
    match = re.fullmatch(r"(.+)-(\d{1,9})", call.name)
    if match and f"{match[1]}-k" in BUILT_IN[kind]:
        return f"{match[1]}-k", (("k", int(match[2])), *call.fields)
    return call.name, call.fields


_LISTED = re.compile(r"(?:tuple|list|Sequence)\[(.+?)(?:, \.\.\.)?\](?: \| None)?")
_SCALARS = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str, Call)}


_TRACES = r"collections\.abc\.Callable\[\[collections\.abc\.Sequence\[thinkscale\.types\.Trace\]\], "
_ALIASES = ((f"{_TRACES}thinkscale\\.types\\.Ranking\\]", "Selector"), (f"{_TRACES}bool\\]", "StopRule"))


def _annotation(field: dataclasses.Field[object]) -> str:
    """What a field is annotated with, as its source spells it, also where the module does not postpone annotations."""
    told: object = field.type
    if isinstance(told, str):
        return told
    text = told.__name__ if isinstance(told, type) else str(told)
    for pattern, alias in _ALIASES:
        text = re.sub(pattern, alias, text)
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", text)


def _value(value: object, annotation: str, where: str, files: bool) -> object:
    """Turn a parsed value into what a field annotated so takes."""
    kind = next((k for t, k in KIND_OF_TYPE.items() if re.search(rf"\b{t}\b", annotation)), None)
    listed = _LISTED.fullmatch(annotation)
    if listed and value is not None and not isinstance(value, list):
        raise SpecError(f"`{where}` takes a list of {listed[1]}, such as `[{literal(value)}]`")
    if isinstance(value, list) and re.search("tuple|list|Sequence", annotation, re.IGNORECASE):
        return tuple(_value(v, listed[1] if listed else annotation, where, files) for v in value)
    if kind and isinstance(value, str) and is_filed(value):
        value = Call(value)
    if kind and isinstance(value, Call):
        return build(value, kind, files=files)
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
        raise SpecError(f"`{where}` takes {annotation.replace(' | None', '')}, not `{literal(value)}`")
    if isinstance(value, Call):
        if value.fields:
            raise SpecError(f"`{where}` takes {annotation}, not the spec `{value.name}(…)`")
        return value.name
    return value


def _default(field: dataclasses.Field[object]) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
