import asyncio
import gc
from dataclasses import replace

import pytest

import thinkscale as ts
from thinkscale.api import solve
from thinkscale.engines.opening import engine_for
from thinkscale.engines.protocol import ThinkFormat
from thinkscale.engines.scripted import Line, Scripted
from thinkscale.engines.tabular import Tabular
from thinkscale.errors import BudgetError, CapabilityError, ModelError, SpecError
from thinkscale.registry import parse
from thinkscale.session import Run
from thinkscale.types import Message

QUESTION = "What is 2 + 2?"
NO_RECORD = ts.Settings(store="none")
METHODS = [
    "single",
    "self-consistency(n=4)",
    "self-consistency(n=4, stop=fixed, by=single)",
    "best-of-n(n=3)",
    "best-of-n(n=3, scorer=length)",
    "budget-forcing(waits=1, max_thinking=20)",
    "self-consistency(n=3, by=budget-forcing(waits=1, max_thinking=10))",
    "best-of-n(n=2, by=self-consistency(n=2))",
]
TAGS = ThinkFormat(open="<think>\n", close="\n</think>\n", ends=("</think>",), answer_prefix="\nFinal Answer:")


def asked(method, engine, budget="", **settings):
    return ts.ask(QUESTION, method=method, model=engine, budget=budget, settings=replace(NO_RECORD, **settings))


class Counting(Tabular):
    """A table that counts what it generates."""

    def __init__(self):
        super().__init__()
        self.calls = self.generated = 0

    async def stream(self, request, abort=None):
        async for chunk in super().stream(request, abort):
            if chunk.completion:
                self.calls += 1
                self.generated += chunk.completion.usage.output_tokens
            yield chunk


@pytest.mark.parametrize("method", METHODS)
def test_any_tiny_budget_returns_in_time_and_is_never_overspent(method):
    for tokens in range(61):
        engine = Counting()
        outcome = asked(method, engine, f"tokens={tokens}")
        assert outcome.usage.output_tokens == engine.generated <= tokens
        assert outcome.usage.calls == engine.calls
        assert outcome.answer is not None or tokens < 8, f"{tokens} tokens bought no answer"


@pytest.mark.parametrize("method", METHODS)
def test_a_wordy_model_never_talks_a_method_over_its_budget(method):
    for tokens in range(0, 61, 3):
        engine = Scripted(lambda cue: " thinking about 7 things" * (1 + cue.seed % 9), think=TAGS)
        outcome = asked(method, engine, f"tokens={tokens}")
        assert outcome.usage.output_tokens == engine.spent.output_tokens <= tokens
        assert sum(t.tokens for t in outcome.traces) <= outcome.usage.output_tokens


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("calls", range(6))
def test_any_number_of_calls_is_never_exceeded(method, calls):
    engine = Counting()
    outcome = asked(method, engine, f"calls={calls}")
    assert outcome.usage.calls == engine.calls <= calls
    assert outcome.answer is not None or calls == 0


@pytest.mark.parametrize("budget", ["tokens=0", "calls=0", "seconds=0", "tokens=0,calls=0,seconds=0,usd=0"])
@pytest.mark.parametrize("method", METHODS)
def test_a_budget_of_nothing_buys_nothing_and_is_no_error(method, budget):
    outcome = asked(method, Tabular(), budget)
    assert (outcome.answer, outcome.stopped, outcome.usage.output_tokens) == (None, "budget", 0)


@pytest.mark.parametrize("method", METHODS)
def test_the_second_run_replays_everything_and_pays_nothing(method, tmp_path):
    settings = ts.Settings(store=str(tmp_path / "runs.db"))
    first = ts.ask(QUESTION, method=method, model=Counting(), settings=settings)
    engine = Counting()
    second = ts.ask(QUESTION, method=method, model=engine, settings=settings)
    assert engine.calls == 0
    assert second == replace(first, usage=replace(first.usage, seconds=second.usage.seconds))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("budget", ["", "tokens=20", "calls=3"])
def test_the_same_seed_gives_the_same_outcome_serially_and_at_once(method, budget):
    serial, at_once = (asked(method, Tabular(pause=True), budget, concurrency=c, seed=4) for c in (1, 16))
    assert (serial.answer, serial.votes, serial.confidence) == (at_once.answer, at_once.votes, at_once.confidence)


async def test_a_question_can_be_asked_where_an_event_loop_is_running():
    assert asked("single", Tabular()).answer == "4"
    assert (await ts.aask(QUESTION, method="single", model="tabular", settings=NO_RECORD)).answer == "4"


async def test_a_failure_inside_a_running_loop_arrives_as_itself():
    with pytest.raises(SpecError):
        asked("nonsense", Tabular())


def test_the_result_of_the_door_is_that_of_the_coroutine():
    async def answer():
        await asyncio.sleep(0)
        return 42

    assert ts.run(answer()) == 42


def test_a_run_without_a_store_has_no_name_and_one_with_a_store_has():
    assert asked("single", Tabular()).run == ""
    assert len(ts.ask(QUESTION, method="single", model=Tabular()).run) == 12


def test_what_the_settings_say_is_what_happens(monkeypatch):
    monkeypatch.setenv("THINKSCALE_METHOD", "single")
    monkeypatch.setenv("THINKSCALE_MODEL", "tabular")
    monkeypatch.setenv("THINKSCALE_BUDGET", "calls=0")
    assert ts.ask(QUESTION).stopped == "budget"
    assert ts.ask(QUESTION, budget=ts.Budget()).answer == "4"


def test_a_problem_with_messages_of_its_own_is_asked_as_it_is():
    problem = ts.Problem(messages=(Message("system", "Be brief."), Message("user", QUESTION)))
    engine = Scripted([Line(says="4", prompt=QUESTION)])
    assert ts.ask(problem, method="single", model=engine, settings=NO_RECORD).answer == "4"


def test_a_question_with_lettered_options_is_answered_by_a_letter():
    engine = Scripted(["I pick (B)."])
    question = "Which one?\n(A) 3\n(B) 4\n(C) 5"
    assert ts.ask(question, method="single", model=engine, settings=NO_RECORD).answer == "B"


def test_a_text_that_cannot_be_encoded_is_still_a_question(tmp_path):
    settings = ts.Settings(store=str(tmp_path / "runs.db"))
    assert ts.ask("2 + 2 \ud800 \x00?", method="single", model=Tabular(), settings=settings).answer == "4"


def test_roles_play_on_the_same_budget():
    engine, judge = Scripted(lambda _: "4"), Scripted(lambda _: "4")

    class AskJudge:
        async def solve(self, problem, llm):
            traces = [*await llm.sample(problem), *await llm.role("judge").sample(problem, 3)]
            return ts.Outcome(best=traces[0], answer="4", traces=tuple(traces))

    outcome = ts.ask(QUESTION, method=AskJudge(), model=engine, roles={"judge": judge}, budget="calls=2",
                     settings=NO_RECORD)  # fmt: skip
    assert (outcome.usage.calls, len(judge.cues)) == (2, 1)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"method": "self-consistancy"}, SpecError, "self-consistency"),
        ({"budget": "tokens=lots"}, BudgetError, "needs a number"),
        ({"model": "tabula"}, ModelError, "did you mean `tabular`"),
        ({"model": Scripted(can=frozenset())}, CapabilityError, "prefill"),
    ],
)
def test_what_must_be_fixed_before_anything_can_run_is_raised(options, error, says):
    asking = {"method": "budget-forcing", "model": "tabular", "settings": NO_RECORD, **options}
    with pytest.raises(error, match=says):
        ts.ask(QUESTION, **asking)


def test_one_engine_serves_every_question_to_one_model():
    assert engine_for("tabular") is engine_for("tabular")


def test_news_of_a_run_adds_up_to_its_bill():
    heard = []
    outcome = ts.ask(QUESTION, method="self-consistency(n=3, stop=fixed)", model=Tabular(pause=True),
                     settings=NO_RECORD, observe=heard.append)  # fmt: skip
    assert sum(e.tokens for e in heard) == outcome.usage.output_tokens
    assert len([e for e in heard if e.trace]) == 3


def test_a_closing_answer_may_start_on_a_fresh_line():
    def script(cue):
        return "\n\n42" if cue.prefix.endswith("Final Answer:") else "w " * 60

    assert asked("single", Scripted(script), "tokens=40").answer == "42"


@pytest.mark.parametrize(("budget", "said"), [("seconds=0.3", "w " * 1000), ("seconds=0.3", "42"), ("tokens=40", "42")])
def test_a_run_that_the_budget_cut_says_so_also_when_the_closing_answer_reached_an_end(budget, said):
    def script(cue):
        return said if cue.prefix.endswith("Final Answer:") else Line(says="w " * 1000, pace=0.001)

    outcome = asked("single", Scripted(script), budget)
    assert outcome.stopped == "budget"


@pytest.mark.parametrize("method", METHODS)
async def test_a_run_that_is_over_leaves_nothing_to_the_garbage_collector(method):
    engine, by = Tabular(), parse(method, "method")

    async def once():
        seen = []
        await solve(ts.Problem.of(QUESTION), by, engine, budget=ts.Budget(seconds=60))
        await solve(ts.Problem.of(QUESTION), by, engine, budget=ts.Budget(tokens=200), run=Run(observe=seen.append))

    await once()
    gc.collect()
    gc.disable()
    try:
        await once()
        assert gc.collect() == 0
    finally:
        gc.enable()
