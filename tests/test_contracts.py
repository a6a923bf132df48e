"""What a component returns is checked where it enters: one sentence that names the component, its file and line."""

import inspect
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from thinkscale import contracts
from thinkscale.api import solve
from thinkscale.budget import Budget, Cost
from thinkscale.engines.scripted import Line, Scripted
from thinkscale.errors import ContractError, EngineError, ThinkscaleError
from thinkscale.methods.best_of_n import BestOfN
from thinkscale.methods.cascade import Cascade
from thinkscale.methods.on import On
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.policy import drive, go
from thinkscale.registry import parse, spec
from thinkscale.scorers.length import Length
from thinkscale.store import Store
from thinkscale.types import Outcome, Problem, Score

PROBLEM = Problem.of("2 + 2?")
HERE = Path(__file__).name


def talking():
    return Scripted(lambda cue: Line(says=f" The answer is {cue.seed % 2}.", pace=0.0))


async def asked(method, **options):
    return await solve(PROBLEM, method, talking(), budget=Budget(), **options)


async def refused(method, says, line):
    with pytest.raises(ContractError) as caught:
        await asked(method)
    told = str(caught.value)
    assert says in told
    assert "\n" not in told
    assert told.endswith(f"{HERE}, line {line})")
    return told


def line(text):
    """The line of this file that ends with a text in a comment."""
    return next(i for i, row in enumerate(Path(__file__).read_text().splitlines(), 1) if row.endswith(f"  # {text}"))


class Free:
    def ceiling(self, cap):
        return Cost(tokens=cap, calls=1)


@spec
class Silent(Free):
    async def solve(self, problem, llm):  # silent
        await llm.sample(problem)


@spec
class Wordy(Free):
    async def solve(self, problem, llm):  # wordy
        return "4"


@spec
class Hasty(Free):
    def solve(self, problem, llm):  # hasty
        return Outcome(best=None, answer=None)


@spec
class Narrow(Free):
    async def solve(self, problem):  # narrow
        return Outcome(best=None, answer=None)


@spec
class Clumsy(Free):
    async def solve(self, problem, llm):
        traces = await llm.sample(problem)
        return traces[5]  # clumsy


@pytest.mark.parametrize(
    ("method", "says"),
    [
        (Silent(), "`solve` of `silent` returned nothing: return an outcome"),
        (Wordy(), "`solve` of `wordy` returned `'4'`: return an outcome"),
        (Hasty(), "`solve` of `hasty` returned"),
        (Narrow(), "`solve` of `narrow` cannot be called with (self, problem, llm)"),
        (Clumsy(), "`clumsy` failed: IndexError: list index out of range"),
    ],
    ids=lambda value: str(value)[:12],
)
@pytest.mark.parametrize("around", [None, "by", "on", "cascade"])
async def test_a_method_that_breaks_its_contract_is_named_however_deep_it_stands(method, says, around):
    made = {
        None: lambda: method,
        "by": lambda: SelfConsistency(n=3, by=method),
        "on": lambda: On(method=method),
        "cascade": lambda: Cascade(levels=(method,)),
    }[around]()
    await refused(made, says, line(repr(method)))


async def test_a_method_without_a_spec_is_named_by_its_class():
    class Bare:
        async def solve(self, problem, llm):  # bare
            return None

    await refused(Bare(), "Bare` returned nothing", line("bare"))


async def test_a_method_without_solve_is_told_so():
    with pytest.raises(ContractError, match="`solve` of `free-of-all` is missing: write `async def solve"):
        await asked(dataclass(frozen=True)(type("FreeOfAll", (), {}))())


def scorer(returned):
    @spec
    class Odd:
        async def score(self, problem, traces, llm):  # odd
            return returned(traces)

    return BestOfN(n=3, scorer=Odd())


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (lambda traces: None, "`score` of `odd` returned nothing: return a list of `Score("),
        (lambda traces: [1.0] * len(traces), "returned `1.0` among its scores"),
        (lambda traces: [Score(value=1.0, kind="odd")], "returned 1 scores for 3 traces: return one per trace"),
        (lambda traces: [Score(value=float("nan"), kind="odd")] * 3, "a score that is not a number"),
    ],
)
async def test_a_scorer_that_breaks_its_contract_is_named(returned, says):
    await refused(scorer(returned), says, line("odd"))


async def test_a_scorer_with_the_wrong_signature_is_named():
    @spec
    class Short:
        async def score(self, traces):  # short
            return []

    await refused(BestOfN(n=2, scorer=Short()), "`score` of `short` cannot be called with", line("short"))


async def test_a_selector_that_returns_nothing_is_named():
    @spec
    class Nobody:
        def __call__(self, traces):  # nobody
            return None

    await refused(SelfConsistency(n=2, select=Nobody()), "`nobody` returned nothing: return `Ranking(", line("nobody"))


async def test_a_stop_rule_that_says_neither_true_nor_false_is_named():
    @spec
    class Vague:
        def __call__(self, traces):  # vague
            return len(traces)

    await refused(
        SelfConsistency(n=3, stop=Vague()), "`vague` returned `1`: a stop rule returns true or false", line("vague")
    )


async def test_the_truth_of_numpy_is_truth():
    outcome = await asked(SelfConsistency(n=5, stop=lambda traces: np.float64(len(traces)) > 2.0))
    assert outcome.stopped == "enough"


async def test_a_policy_that_yields_nonsense_is_named():
    async def nonsense(trace):
        yield go()
        yield "Wait"  # nonsense

    @spec
    class Driven(Free):
        async def solve(self, problem, llm):
            trace = llm.open(problem)
            return await drive(llm, trace, nonsense(trace))

    known = "`go(…)`, `probe(…)`, `Cut(…)` or `End(…)`"
    told = await refused(Driven(), f"yielded `'Wait'`: yield {known}", line("nonsense"))
    assert "nonsense" in told


async def test_a_failure_that_no_component_of_others_is_to_blame_for_goes_on_as_it_is(monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("thinkscale.methods.self_consistency.rank", broken)
    with pytest.raises(ZeroDivisionError):
        await asked(parse("self-consistency(n=2)", "method"))


async def test_what_is_raised_on_purpose_goes_on_as_it_is():
    @spec
    class Refusing(Free):
        async def solve(self, problem, llm):
            raise EngineError("not today")

    with pytest.raises(EngineError, match="not today"):
        await asked(Refusing())


async def test_nothing_that_was_drawn_is_lost_when_a_component_breaks_its_contract():
    store = Store(":memory:")
    engine = talking()
    with pytest.raises(ContractError):
        await solve(PROBLEM, scorer(lambda _: None), engine, budget=Budget(), store=store)
    assert len(engine.cues) == 3
    outcome = await solve(PROBLEM, BestOfN(n=3, scorer=Length()), engine, budget=Budget(), store=store)
    assert (len(engine.cues), len(outcome.traces)) == (3, 3)
    store.close()


def test_the_cause_is_kept_for_whoever_writes_the_component():
    assert issubclass(ContractError, ThinkscaleError)
    error = ZeroDivisionError("x")
    assert contracts.blame(Silent(), error) is None


def test_a_client_of_the_gateway_is_not_told_paths(caplog):
    pytest.importorskip("starlette")
    from thinkscale.serve.wire import refusal_of

    reply = refusal_of(ContractError("`./mine.py:Doubt` failed: KeyError (./mine.py, line 3)"))
    assert reply.status == 500
    assert "mine.py" not in str(reply)
    assert "./mine.py, line 3" in caplog.text


def test_the_arguments_that_are_named_are_those_of_the_protocols():
    from thinkscale.scorers import Scorer
    from thinkscale.session import Method

    for protocol, member in ((Method, "solve"), (Scorer, "score")):
        assert ", ".join(inspect.signature(getattr(protocol, member)).parameters) == contracts.TAKEN[member]
