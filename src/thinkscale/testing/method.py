"""What every method promises: it is anytime, accounted for and repeatable."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from itertools import product

from thinkscale.budget import Budget, Cost
from thinkscale.built_in import BUILT_IN
from thinkscale.component_files import name_of
from thinkscale.contracts import rank
from thinkscale.engines.scripted import EVERYTHING, Cue, Line, Scripted
from thinkscale.errors import CapabilityError, EngineError
from thinkscale.needs import needs_of
from thinkscale.pace import Pace
from thinkscale.registry import components, kebab, lookup, names, parse
from thinkscale.selection.majority import rule_of
from thinkscale.session import Method
from thinkscale.store import Store
from thinkscale.testing.guarantees import Guarantee, Passed, Told, keep, made
from thinkscale.testing.runs import BUDGETS, CAP, Uneven, outcome_of, talk
from thinkscale.types import Outcome, Stopped


def check_method(method: Method, *, script: Callable[[Cue], Line] = talk, told: Told | None = None) -> Passed:
    """Check that a method is anytime, accounted for and repeatable.

    Args:
        method: as a user would construct it.
        script: what the model says; give one of your own when the method asks in a format of its own.
        told: called with the words of every guarantee that is kept.

    Raises:
        AssertionError: a guarantee is broken.
    """
    guarantees = (
        Guarantee("a frozen record whose spec reads back", lambda: _check_spec(method)),
        Guarantee("one at a time and all at once give the same", lambda: _check_repeats(method, script)),
        Guarantee("the bill is exact and within the ceiling", lambda: _check_bill(method, script)),
        Guarantee("no budget is overspent", lambda: _check_budgets(method, script)),
        Guarantee("failures are told and answer nothing", lambda: _check_failures(method)),
        Guarantee("what an engine lacks is refused before anything is spent", lambda: _check_lacks(method, script)),
        Guarantee("what was paid for is repeated without a call", lambda: _check_memory(method, script)),
    )
    return made(keep(method, guarantees, told))


async def _check_spec(method: Method) -> None:
    assert dataclasses.is_dataclass(method), "a method is a dataclass of hyper-parameters"
    params = type(method).__dataclass_params__
    assert params.frozen, "a method is frozen: its hyper-parameters never change"
    if all(_registered(type(part)) for part in components(method)):
        assert parse(repr(method), "method") == method, f"`{method!r}` does not parse back to the same method"


def _registered(cls: type) -> bool:
    """Whether the spec of a class leads back to it: only then can a spec that it is in be read."""
    name = kebab(cls.__name__)
    known = [kind for kind in BUILT_IN if name in names(kind)]
    return name_of(cls) is not None or any(lookup(kind, name) is cls for kind in known)


async def _check_repeats(method: Method, script: Callable[[Cue], Line]) -> None:
    for paced in _at_every_pace(method):
        await _check_order(paced, script)


def _at_every_pace(method: Method) -> list[Method]:
    """A method at every pace, where it has one."""
    if "pace" not in {f.name for f in dataclasses.fields(method)}:  # type: ignore[arg-type]
        return [method]
    return [dataclasses.replace(method, pace=pace) for pace in Pace]  # type: ignore[type-var]


async def _check_order(method: Method, script: Callable[[Cue], Line]) -> None:
    """Whoever is fast, however many are under way: the same traces vote."""
    silent: Callable[[Cue], Line] = partial(_all_at_once, script)
    told = [(budget, script) for budget in (Budget(), Budget(tokens=90), Budget(calls=5))]
    for budget, says in (*told, (Budget(), silent)):
        serial = await outcome_of(method, Scripted(says), budget, concurrency=1)
        for engine, concurrency in product((Scripted, Uneven), (3, None)):
            other = await outcome_of(method, engine(says), budget, concurrency)
            at = f", at the pace `{method.pace}`" if hasattr(method, "pace") else ""
            where = f"under {budget} with {concurrency or 'all'} draws at once{at}"
            assert other.answer == serial.answer, f"{where} the answer is {other.answer}, serially {serial.answer}"
            assert other.votes == serial.votes, f"{where} the votes differ from the serial run"
            assert _voters(other) == _voters(serial), f"{where} other traces voted than in the serial run"


def _all_at_once(script: Callable[[Cue], Line], cue: Cue) -> Line:
    """A line of an engine that tells nothing before a draw is complete."""
    said = script(cue)
    return dataclasses.replace(Line(says=said) if isinstance(said, str) else said, pace=None)


def _voters(outcome: Outcome) -> list[tuple[tuple[int, ...], str]]:
    return [(t.path, t.text) for t in outcome.traces if t.answer is not None]


async def _check_bill(method: Method, script: Callable[[Cue], Line]) -> None:
    engine = Scripted(script)
    outcome = await outcome_of(method, engine)
    seen, billed = engine.spent, outcome.usage
    assert billed.calls == len(engine.cues) == seen.calls, f"{billed.calls} calls billed, {len(engine.cues)} made"
    assert billed.output_tokens == seen.output_tokens, (
        f"{billed.output_tokens} tokens billed, {seen.output_tokens} made"
    )
    most: object = method.ceiling(CAP)
    assert isinstance(most, Cost), f"`ceiling` returned `{most!r}`: return `Cost(tokens=…, calls=…)`"
    assert billed.calls <= most.calls, f"`ceiling` promises at most {most.calls} calls, {billed.calls} were made"
    assert billed.output_tokens <= most.tokens, f"`ceiling` promises at most {most.tokens} tokens"
    again = rank(rule_of(method), outcome.traces)
    same = (again.best.answer if again.best else None) == (outcome.best.answer if outcome.best else None)
    assert same, "selecting again from the saved pool gives another answer"


async def _check_budgets(method: Method, script: Callable[[Cue], Line]) -> None:
    for nothing in (Budget(tokens=0), Budget(calls=0), Budget(seconds=0), Budget(usd=0, tokens=0)):
        engine = Scripted(script)
        outcome = await outcome_of(method, engine, nothing)
        assert outcome.stopped is Stopped.budget, f"under {nothing} the run does not say that the budget ended it"
        assert not engine.cues, f"under {nothing} the engine was asked {len(engine.cues)} times"
    for budget in BUDGETS:
        engine = Scripted(script)
        outcome = await outcome_of(method, engine, budget)
        for name, limit in budget.limits().items():
            spent = engine.spent.output_tokens if name == "tokens" else engine.spent.calls
            assert spent <= limit, f"{spent} {name} were spent of {limit}"
        assert outcome.usage.output_tokens == engine.spent.output_tokens, f"under {budget} the bill is wrong"


async def _check_failures(method: Method) -> None:
    mute = await outcome_of(method, Scripted(lambda _: Line(says=" I do not know.", pace=0.0)))
    assert mute.answer is None, "no attempt had an answer, yet the method returns one"
    broken = await outcome_of(method, Scripted(lambda _: Line(fails=EngineError("the model is gone"))))
    assert broken.answer is None, "every call failed, yet there is an answer"
    assert broken.stopped is Stopped.error, "every call failed and the outcome does not say so"
    assert any("the model is gone" in w for w in broken.warnings), "the cause of the failure is lost"


async def _check_lacks(method: Method, script: Callable[[Cue], Line]) -> None:
    for need in sorted(needs_of(method).everything()):
        engine = Scripted(script, can=EVERYTHING - {need})
        refusal = ""
        try:
            await outcome_of(method, engine)
        except CapabilityError as error:
            refusal = str(error)
        assert need in refusal, f"an engine without `{need}` was not refused by a message that names it"
        assert not engine.cues, "the refusal came after something was spent"


async def _check_memory(method: Method, script: Callable[[Cue], Line]) -> None:
    store = Store(":memory:")
    try:
        first = await outcome_of(method, Scripted(script), concurrency=1, store=store)
        silent = Scripted(script)
        second = await outcome_of(method, silent, concurrency=1, store=store)
        assert not silent.cues, f"a run that was paid for asked the engine {len(silent.cues)} times when repeated"
        assert (first.answer, first.votes) == (second.answer, second.votes), "replaying a run changes its result"
        pool = store.pool(second.run)
        assert [t.text for t in pool] == [t.text for t in second.traces], "the saved pool is not the outcome's pool"
    finally:
        store.close()
