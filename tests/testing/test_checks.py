"""The checks work wherever they are called, awaited or not, and say what is broken, by whom and where."""

import asyncio
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from thinkscale.budget import Cost
from thinkscale.engines.scripted import Scripted
from thinkscale.engines.tabular import Tabular
from thinkscale.methods.best_of_n import BestOfN
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.pace import Pace
from thinkscale.registry import spec
from thinkscale.scorers.length import Length
from thinkscale.selection.majority import Majority
from thinkscale.stopping.ahead_by_k import AheadByK
from thinkscale.stopping.counts import counted
from thinkscale.testing import check_engine, check_method, check_scorer, check_selector, check_stop_rule
from thinkscale.types import Outcome, Ranking, Score

HERE = Path(__file__)
CHAIN = {"": {"a": 0.5, " b": 0.5}, "a": {" b": 0.7, "<end>": 0.3}, " b": {"a": 0.6, " c": 0.4}, " c": {"a": 1.0}}


def line(text):
    return next(i for i, row in enumerate(HERE.read_text().splitlines(), 1) if row.endswith(f"  # {text}"))


@spec
class Vowels:
    """Not registered anywhere."""

    letters: str = "aeiou"

    async def score(self, problem, traces, llm):
        own = ["".join(s.text for s in t.segments if s.origin == "sampled") for t in traces]
        return [Score(value=float(sum(map(text.count, self.letters))), kind="vowels") for text in own]


@spec
class Hasty:
    """Lets those vote who come in first, at one pace."""

    pace: Pace = Pace.steady

    async def solve(self, problem, llm):
        if self.pace is not Pace.swift:
            return await SelfConsistency(n=4, pace=self.pace).solve(problem, llm)
        async with aclosing(llm.arrivals(problem, 4, temperature=0.8)) as arriving:
            first = [await anext(arriving), await anext(arriving)]
        return Outcome.of(Majority()(first), first)

    def ceiling(self, cap):
        return Cost(tokens=cap, calls=1) * 4


@spec
class Greedy:
    """Overspends nothing, and returns the wrong thing."""

    async def solve(self, problem, llm):
        traces = await llm.sample(problem, 2)
        return Outcome.of(Majority()(traces), traces)

    def ceiling(self, cap):
        return Cost(tokens=cap, calls=1)


@spec
class Clumsy:
    async def solve(self, problem, llm):
        traces = await llm.sample(problem, 2)
        return Outcome.of(Majority()(traces), [traces[7]])  # clumsy

    def ceiling(self, cap):
        return Cost(tokens=cap, calls=1) * 2


def test_every_check_works_in_a_plain_test():
    check_method(SelfConsistency(n=3))
    check_scorer(Length())
    check_selector(Majority())
    check_stop_rule(AheadByK(k=2))
    check_engine(Tabular(CHAIN))


async def test_every_check_works_in_an_async_test_awaited_or_not():
    for check, component in (
        (check_method, SelfConsistency(n=3)),
        (check_scorer, Length()),
        (check_selector, Majority()),
        (check_stop_rule, AheadByK(k=2)),
    ):
        check(component)
        await check(component)
    await check_engine(Tabular(CHAIN))


def test_every_check_can_be_run_as_a_coroutine():
    for work in (check_method(SelfConsistency(n=2)), check_scorer(Length()), check_engine(Tabular(CHAIN))):
        asyncio.run(work)


def test_a_check_that_fails_is_loud_without_await():
    with pytest.raises(AssertionError, match="`greedy`"):
        check_method(Greedy())


async def test_a_check_that_fails_is_loud_without_await_where_a_loop_is_running():
    with pytest.raises(AssertionError, match="`greedy`"):
        check_method(Greedy())


async def test_an_engine_whose_check_is_not_awaited_in_a_loop_is_warned_of():
    with pytest.warns(RuntimeWarning, match="never awaited"):
        check_engine(Tabular(CHAIN))


def test_what_is_broken_names_the_component_and_the_guarantee():
    with pytest.raises(AssertionError) as caught:
        check_method(Greedy())
    assert str(caught.value) == (
        "`greedy` does not keep “the bill is exact and within the ceiling”: "
        "`ceiling` promises at most 1 calls, 2 were made"
    )


def test_what_fails_in_a_line_of_the_component_names_the_line():
    with pytest.raises(AssertionError) as caught:
        check_method(Clumsy())
    said = str(caught.value)
    assert "`clumsy` does not keep “one at a time and all at once give the same”" in said
    assert "IndexError: list index out of range" in said
    assert said.endswith(f"test_checks.py, line {line('clumsy')})")


def test_every_guarantee_that_is_kept_is_told():
    told = []
    check_method(SelfConsistency(n=3), told=told.append)
    assert len(told) == 7
    told.clear()
    with pytest.raises(AssertionError):
        check_method(Greedy(), told=told.append)
    assert told == ["a frozen record whose spec reads back", "one at a time and all at once give the same"]


def test_a_method_that_holds_an_unregistered_scorer_can_be_checked():
    check_method(BestOfN(n=3, scorer=Vowels()))
    check_scorer(Vowels())


def test_a_method_that_holds_a_scorer_with_the_name_of_a_built_in_can_be_checked():
    other = type("Length", (), {"score": Vowels.score, "letters": "a", "__annotations__": {"letters": str}})
    check_method(BestOfN(n=3, scorer=spec(other)()))


@pytest.mark.parametrize(
    ("verdict", "says"),
    [
        (lambda traces, seen: None, "the same of the same traces”: `Odd` returned nothing"),
        (lambda traces, seen: True, "it fires on an empty pool"),
        (lambda traces, seen: len(traces) > 1, "it fires on 2 traces of which none has an answer"),
        (lambda traces, seen: any(t.answer for t in traces) and seen.count(len(traces)) > 9, "shown before"),
        (lambda traces, seen: bool(traces and traces[-1].answer and traces.append(1)), ""),
        (lambda traces, seen: any(t.answer for t in traces) and not all(t.scores for t in traces), "without an answer"),
    ],
)
def test_a_stop_rule_that_breaks_a_guarantee_is_caught(verdict, says):
    class Odd:
        def __init__(self):
            self.seen = []

        def __call__(self, traces):
            self.seen.append(len(traces))
            return verdict(traces, self.seen)

    with pytest.raises(AssertionError) as caught:
        check_stop_rule(Odd())
    assert says in str(caught.value)


def test_a_stop_rule_whose_form_for_one_run_remembers_too_much_is_caught():
    class Growing:
        def __call__(self, traces):
            return False

        def within(self, n):
            asked = []
            return lambda traces: asked.append(1) is None and any(t.answer for t in traces) and len(asked) > 3

    with pytest.raises(AssertionError, match="depends on having been asked before"):
        check_stop_rule(Growing())


def test_a_stop_rule_with_counts_that_disagree_with_its_call_is_caught():
    class Two:
        def __call__(self, traces):
            return len({t.answer.key for t in traces if t.answer}) > 1

        def decided(self, counts):
            return len(counts) > 2

    with pytest.raises(AssertionError, match="`decided` and the call disagree"):
        check_stop_rule(Two())


def test_a_stop_rule_that_fires_sooner_than_it_foresaw_is_caught():
    class Hasty:
        def __call__(self, traces):
            return any(t.answer for t in traces)

        def soonest(self, traces, left):
            return left

    with pytest.raises(AssertionError, match="and `soonest` said 8"):
        check_stop_rule(Hasty())


def test_a_stop_rule_that_more_votes_make_unsure_is_caught():
    class Odd:
        def __call__(self, traces):
            return self.decided(counted(traces))

        def decided(self, counts):
            return bool(counts) and counts[0] % 2 == 1

    with pytest.raises(AssertionError, match="more votes for the leader"):
        check_stop_rule(Odd())


def test_a_ceiling_that_is_no_cost_is_caught():
    @spec
    class Free:
        async def solve(self, problem, llm):
            traces = await llm.sample(problem, 1)
            return Outcome.of(Majority()(traces), traces)

        def ceiling(self, cap):
            return cap

    with pytest.raises(AssertionError, match=r"`ceiling` returned `64`: return `Cost\("):
        check_method(Free())


def test_a_selector_that_returns_nothing_or_changes_the_pool_is_caught():
    with pytest.raises(AssertionError, match="returned nothing: return `Ranking"):
        check_selector(lambda traces: None)

    def taking(traces):
        ranking = Majority()(traces)
        if isinstance(traces, list):
            traces.clear()
        return ranking

    with pytest.raises(AssertionError):
        check_selector(taking)
    assert Ranking(best=None).votes == ()


def test_an_engine_without_open_is_caught():
    class Old:
        capabilities = Scripted().capabilities

    with pytest.raises(AssertionError, match="async def open"):
        check_engine(Old())


MINE = """
from thinkscale.budget import Cost
from thinkscale.registry import spec
from thinkscale.selection.majority import Majority
from thinkscale.types import Outcome, Ranking

@spec
class Doubt:
    n: int = 2

    async def solve(self, problem, llm):
        first = await llm.sample(problem, self.n)
        second = await llm.extend(first, inject=" So")
        return Outcome.of(Majority()(second), second)

    def ceiling(self, cap):
        return Cost(tokens=cap, calls=1) * (2 * self.n)

@spec
class Wrong:
    async def solve(self, problem, llm):
        return [][0]

    def ceiling(self, cap):
        return Cost()

@spec
class First:
    def __call__(self, traces) -> Ranking:
        return Majority()(traces)

@spec
class Unclear:
    def __call__(self, traces):
        return False
"""


@pytest.fixture
def command(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)

    def call(*arguments):
        run = [sys.executable, "-m", "thinkscale.testing", *arguments]
        done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stdout, done.stderr

    return call


def test_a_method_is_checked_at_every_pace():
    with pytest.raises(AssertionError, match="at the pace `swift`"):
        check_method(Hasty())


def test_the_command_prints_a_line_per_guarantee(command):
    code, out, err = command("./mine.py:Doubt(n=3)")
    assert (code, err) == (0, "")
    assert out.count("kept: ") == 7
    assert out.endswith("`./mine.py:Doubt(n=3)` keeps all 7 guarantees of a method\n")


def test_the_command_fails_with_one_sentence_that_names_component_guarantee_file_and_line(command):
    code, out, err = command("./mine.py:Wrong")
    assert code == 1
    assert out.count("kept: ") == 1
    assert err.count("\n") == 1
    assert "`./mine.py:Wrong` does not keep “one at a time" in err
    assert "(./mine.py, line 22)" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["./gone.py:Doubt"], "there is no file `./gone.py`"),
        (["./mine.py:Unclear"], "does not show what it is"),
        (["./mine.py:Unclear", "--kind", "stop-rules"], "did you mean `stop-rule`"),
        (["./mine.py:Doubt", "--kind", "scorer"], "is no scorer: it is a method"),
        (["self-consistancy"], "did you mean `self-consistency`"),
    ],
)
def test_the_command_refuses_what_it_cannot_check_in_one_sentence(command, arguments, says):
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_the_command_checks_every_kind(command):
    for component, kind in (
        ("./mine.py:First", "a selector"),
        ("best-of-n(n=2, scorer=length)", "a method"),
        ("length", "a scorer"),
        ("esc(w=2)", "a stop-rule"),
    ):
        code, out, _ = command(component)
        assert (code, out.splitlines()[-1].endswith(f"guarantees of {kind}")) == (0, True)
    assert command("./mine.py:Unclear", "--kind", "stop-rule")[0] == 0
