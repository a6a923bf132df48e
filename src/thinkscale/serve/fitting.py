"""A method fitted to a request: what it says of effort and sampling, and what of it the method would lose.

What a method cannot carry is refused before anything is spent, because a silent loss looks like success. What is lost,
and which fields effort scales, every component says in its `needs`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, fields, is_dataclass, replace
from typing import ClassVar, cast

from thinkscale.budget import Budget, Cost
from thinkscale.errors import ServeError, SpecError
from thinkscale.methods.single import Single
from thinkscale.needs import IN_A_QUESTION, IN_A_TURN, NOTHING, Capability, Feature, each_need, own_needs
from thinkscale.registry import at_least, kebab, spec
from thinkscale.serve.records import Asked
from thinkscale.session import Method, Session, attempt_ceiling
from thinkscale.types import Finish, Outcome, Problem, Ranking

EFFORTS: dict[str, float] = {
    "none": 0.0,
    "minimal": 0.25,
    "low": 0.5,
    "medium": 1.0,
    "high": 2.0,
    "xhigh": 4.0,
    "max": 8.0,
}
"""What `reasoning_effort` multiplies a budget and fields of methods by; with `none` the fields are at their least."""
IN_THE_WAY = ("it has the text of attempts read by a question of its own", "it writes into a turn that the model began")
"""Why something is lost."""
REPLACED = ("temperature", "top_p")
"""Fields of methods that give way to what a request says."""
VARIED = frozenset({"configs"})
"""Fields of methods whose own temperatures are what the method is about; they do not give way."""


@spec
class Passthrough:
    """Draw n choices and judge none: each is shown, and how tokens are drawn is the client's word alone."""

    n: int = 1
    """Choices, at least 1."""
    by: Method | None = None
    """Draw each choice through this method, such as a `single` with words of its own."""

    needs: ClassVar = NOTHING

    def __post_init__(self) -> None:
        at_least(1, n=self.n)

    async def solve(self, problem: Problem, llm: Session) -> Outcome:
        """All choices at once; the first one that did not fail stands for the outcome."""
        traces = await llm.sample(problem, self.n, by=self.by)
        whole = (trace for trace in traces if trace.finish is not Finish.error)
        return Outcome.of(Ranking(best=next(whole, None)), traces)

    def ceiling(self, cap: int) -> Cost:
        """One call, or one attempt of another method, for each choice."""
        return attempt_ceiling(self.by, cap) * self.n


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


def features_of(asked: Asked) -> frozenset[Feature]:
    """What a request has."""
    parts = (part for m in asked.problem.messages if isinstance(m.content, tuple) for part in m.content)
    present = {
        Feature.choices: asked.n > 1,
        Feature.logprobs: asked.sampling.logprobs is not None,
        Feature.tools: bool(asked.problem.tools),
        Feature.images: any(part.get("type") != "text" for part in parts),
        Feature.shape: asked.sampling.response_format is not None,
        Feature.stop: bool(asked.sampling.stop),
    }
    return frozenset(feature for feature, here in present.items() if here)


def losses_of(method: Method) -> dict[Feature, tuple[str, str]]:
    """What a method would lose, each with the name of the part in the way and the reason."""
    losses: dict[Feature, tuple[str, str]] = {}
    if not isinstance(method, Passthrough):
        losses[Feature.choices] = (_name(method), "it makes one answer of many attempts; `trace` shows them all")
    for part, needs in each_need(method):
        continues = Capability.prefill in needs.everything()
        for feature in needs.loses:
            in_a_turn = feature in IN_A_TURN and (continues or feature not in IN_A_QUESTION)
            losses.setdefault(feature, (_name(part), IN_THE_WAY[in_a_turn]))
    return losses


def refusal(feature: Feature, name: str, why: str) -> ServeError:
    """Status 400 that names the field, the part of the method that is in the way, and the way out."""
    what = "images" if feature is Feature.images else f"'{feature}'"
    said = f"The method `{name}` cannot carry {what}: {why}. Leave it out, or ask for a method that draws whole answers"
    tail = "." if feature is Feature.choices else ", such as `self-consistency`."
    if feature is Feature.choices:
        said = (
            f"The method `{name}` cannot carry 'n' above 1: {why}. Ask the model without a method for several choices"
        )
    return ServeError(said + tail, param=feature.value, code="unsupported_feature")


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
        for name, least in own_needs(method).effort.items()
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


def _name(part: object) -> str:
    return kebab(type(part).__name__)
