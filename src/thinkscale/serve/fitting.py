"""Methods and budgets fitted to what a request says of effort and sampling: the tables, and how they are applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, fields, is_dataclass, replace
from typing import cast

from thinkscale.budget import Budget
from thinkscale.errors import SpecError
from thinkscale.methods.single import Single
from thinkscale.serve.passthrough import Passthrough
from thinkscale.session import Method

EFFORTS: dict[str, float] = {
    "none": 0.0,
    "minimal": 0.25,
    "low": 0.5,
    "medium": 1.0,
    "high": 2.0,
    "xhigh": 4.0,
    "max": 8.0,
}
"""What `reasoning_effort` multiplies a budget and the fields below by; with `none` the fields are at their least."""
SCALED: dict[str, int] = {"n": 1, "waits": 0, "per_config": 1, "max_thinking": 1}
"""Fields of methods that effort scales, with the least value of each."""
REPLACED = ("temperature", "top_p")
"""Fields of methods that give way to what a request says."""
VARIED = frozenset({"configs"})
"""Fields of methods whose own temperatures are what the method is about; they do not give way."""


def suited(method: Method, factor: float, n: int, said: Mapping[str, float | None]) -> Method:
    """A method with what a request changes in it.

    Args:
        method: as its spec has it.
        factor: of the effort.
        n: choices wanted; more than one only where the method has place for them.
        said: values for its `REPLACED` fields, `None` leaving them as they are.
    """
    changes = {name: value for name, value in said.items() if value is not None}
    if changes:
        method = _replaced(method, changes)
    if factor != 1 and not isinstance(method, Passthrough):
        method = _scaled(method, factor)
    if isinstance(method, Single) and n > 1:
        method = Passthrough(by=method)
    return replace(method, n=n) if isinstance(method, Passthrough) and n > 1 else method


def scaled(budget: Budget, factor: float) -> Budget:
    """A budget for more or less effort; one of no effort keeps its budget, which is only a ceiling then."""
    if factor in (0, 1):
        return budget
    limits = {name: limit * factor for name, limit in budget.limits().items()}
    return Budget(**{name: max(1, round(v)) if name in ("tokens", "calls") else v for name, v in limits.items()})  # type: ignore[arg-type]


def _replaced(method: Method, changes: Mapping[str, float]) -> Method:
    """A method and those within it with other values in the fields of these names."""
    known = {f.name for f in fields_of(method)}
    nested = {name: value for name, value in _nested(method).items() if name not in VARIED}
    made: dict[str, object] = {name: value for name, value in changes.items() if name in known}
    made |= {name: _each(value, lambda inner: _replaced(inner, changes)) for name, value in nested.items()}
    return _with(method, made)


def _scaled(method: Method, factor: float) -> Method:
    """A method of more or less effort; where it has nothing to scale, the methods within it."""
    made: dict[str, object] = {
        name: max(least, round(value * factor))
        for name, least in SCALED.items()
        if isinstance(value := getattr(method, name, None), int)
    }
    if not made:
        made = {name: _each(value, lambda inner: _scaled(inner, factor)) for name, value in _nested(method).items()}
    try:
        return _with(method, made)
    except SpecError:
        return method


def _nested(method: object) -> dict[str, object]:
    """The fields that hold methods."""
    held = {f.name: getattr(method, f.name) for f in fields_of(method)}
    return {
        name: v for name, v in held.items() if any(hasattr(m, "solve") for m in (v if isinstance(v, tuple) else (v,)))
    }


def _each(held: object, change: Callable[[Method], Method]) -> object:
    return tuple([change(method) for method in held]) if isinstance(held, tuple) else change(cast(Method, held))


def _with(method: Method, changes: Mapping[str, object]) -> Method:
    return replace(method, **changes) if changes else method  # type: ignore[type-var]


def fields_of(method: object) -> Sequence[Field[object]]:
    """The fields of a method that is a record."""
    return [f for f in fields(method) if f.init] if is_dataclass(method) else []
