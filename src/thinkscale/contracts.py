"""What components promise one another, checked where their results enter: one sentence that names component and line.

A component of a package or file of one's own returns what it likes. Here it is held to its signature, so that what is
wrong is said of the component that is wrong and not of whoever read its result.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Awaitable, Callable, Sequence

from thinkscale.component_files import digest_of, line_of, shown, told
from thinkscale.errors import ContractError, ThinkscaleError, first_failure
from thinkscale.registry import called, components
from thinkscale.types import Outcome, Problem, Ranking, Score, Trace

TAKEN = {"solve": "self, problem, llm", "score": "self, problem, traces, llm"}
"""What components are called with."""
_OWN = __name__.partition(".")[0] + "."


async def solve_by(method: object, problem: Problem, llm: object) -> Outcome:
    """What a method makes of a problem.

    Raises:
        ContractError: it returned something else than an outcome, or failed in a line that is not ours.
    """
    try:
        outcome = await _begin(method, "solve", problem, llm)
    except Exception as error:
        if blamed := blame(method, error):
            raise blamed from error
        raise
    if not isinstance(outcome, Outcome):
        raise _breach(method, "solve", f"returned {_what(outcome)}: return an outcome, as in `Outcome.of(…)`")
    return outcome


async def scores_of(scorer: object, problem: Problem, traces: Sequence[Trace], llm: object) -> list[Score]:
    """What a scorer makes of traces: one score for each, in order.

    Raises:
        ContractError: it takes something else, or returned no list of as many scores.
    """
    scores = await _begin(scorer, "score", problem, traces, llm)
    if not isinstance(scores, list | tuple) or (odd := [s for s in scores if not isinstance(s, Score)]):
        seen = _what(odd[0]) + " among its scores" if isinstance(scores, list | tuple) else _what(scores)
        raise _breach(scorer, "score", f"returned {seen}: return a list of `Score(value=…, kind=…)`, one per trace")
    if len(scores) != len(traces):
        seen = f"returned {len(scores)} scores for {len(traces)} traces"
        raise _breach(scorer, "score", f"{seen}: return one per trace, in their order, `-inf` where it cannot judge")
    if any(math.isnan(score.value) for score in scores):
        raise _breach(scorer, "score", "returned a score that is not a number: use `-inf` where it cannot judge")
    return list(scores)


def rank(selector: Callable[[Sequence[Trace]], Ranking], traces: Sequence[Trace]) -> Ranking:
    """How a selection rule ranks a pool.

    Raises:
        ContractError: it returned no ranking.
    """
    ranking: object = selector(traces)
    if not isinstance(ranking, Ranking):
        raise _breach(selector, "__call__", f"returned {_what(ranking)}: return `Ranking(best=…)`")
    return ranking


def verdict_of(rule: Callable[[Sequence[Trace]], bool], traces: Sequence[Trace]) -> bool:
    """Whether a stop rule is satisfied by some traces.

    Raises:
        ContractError: it said neither true nor false.
    """
    verdict: object = rule(traces)
    if verdict is True or verdict is False:
        return verdict
    if type(verdict).__name__ in ("bool", "bool_") and type(verdict).__module__ == "numpy":
        return bool(verdict)
    raise _breach(rule, "__call__", f"returned {_what(verdict)}: a stop rule returns true or false")


def no_action(policy: object, action: object) -> ContractError:
    """The error about a policy, a generator, that yielded something else than an action."""
    code = getattr(policy, "gi_code", None) or getattr(policy, "ag_code", None)
    frame = getattr(policy, "gi_frame", None) or getattr(policy, "ag_frame", None)
    where = f" ({shown(code.co_filename)}, line {frame.f_lineno})" if code and frame else ""
    name = getattr(policy, "__name__", type(policy).__name__)
    known = "`go(…)`, `probe(…)`, `Cut(…)` or `End(…)`"
    return ContractError(f"the policy `{name}` yielded {_what(action)}: yield {known}{where}")


def blame(component: object, error: BaseException) -> ContractError | None:
    """The sentence about an error that came by a line of a component, or of one nested in it, that is not ours.

    Errors that are raised on purpose, ours and failed assertions, speak for themselves.
    """
    error = first_failure(error)
    if isinstance(error, ThinkscaleError | AssertionError):
        return None
    for part in reversed([*components(component)]):
        path = path_of(part)
        if path and (line := line_of(error, path)):
            return ContractError(f"`{name_of(part)}` failed: {told(error)} ({shown(path)}, line {line})")
    return None


def name_of(component: object) -> str:
    """What a component is called: its name in specs, or that of its class or function."""
    if hasattr(component, "__dataclass_fields__") or digest_of(type(component)):
        return called(type(component))
    named: str = getattr(component, "__name__", type(component).__name__)
    return named


def path_of(component: object) -> str | None:
    """The file of a component of somebody else's."""
    module = getattr(component, "__module__", "")
    return None if module.startswith(_OWN) else getattr(sys.modules.get(module), "__file__", None)


def _breach(component: object, member: str, seen: str) -> ContractError:
    function = component if inspect.isfunction(component) else getattr(type(component), member, None)
    code = getattr(inspect.unwrap(function) if callable(function) else None, "__code__", None)
    where = f" ({shown(code.co_filename)}, line {code.co_firstlineno})" if code else ""
    said = "" if member == "__call__" else f"`{member}` of "
    return ContractError(f"{said}`{name_of(component)}` {seen}{where}")


def _begin(component: object, member: str, *arguments: object) -> Awaitable[object]:
    """The work of a component, once it is known to take its arguments and to be one that can be awaited."""
    function = getattr(component, member, None)
    if function is None:
        raise _breach(component, member, f"is missing: write `async def {member}({TAKEN[member]})`")
    try:
        work: object = function(*arguments)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            raise  # it came from inside
        raise _breach(component, member, f"cannot be called with ({TAKEN[member]}): {error}") from None
    if not inspect.isawaitable(work):
        raise _breach(component, member, f"returned {_what(work)} and no coroutine: make it `async def`")
    return work


def _what(value: object) -> str:
    if value is None:
        return "nothing"
    text = " ".join(repr(value).split())
    return f"`{text if len(text) <= 40 else text[:39] + '…'}`"
