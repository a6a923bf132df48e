"""Under a stop rule, who votes follows from the draws alone: live runs against the law, worked out the obvious way."""

import asyncio
import math
import os
import random
from dataclasses import dataclass, replace

import pytest

from clocks import on_a_clock_of_its_own
from paced import WORD, Paced, Plan, Remembered, planned
from thinkscale.answers import extract
from thinkscale.budget import Budget, Ledger
from thinkscale.engines.protocol import Chunk, Completion
from thinkscale.errors import EngineError
from thinkscale.identity import prompt_name, seeds_of
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.methods.single import Single
from thinkscale.pace import Pace, least, wave_size
from thinkscale.session import Place, Run, Session
from thinkscale.stopping.adaptive_consistency import AdaptiveConsistency
from thinkscale.stopping.ahead_by_k import AheadByK
from thinkscale.stopping.decided_majority import DecidedMajority
from thinkscale.stopping.early_exit import EarlyExit
from thinkscale.stopping.esc import Esc
from thinkscale.stopping.fixed import Fixed
from thinkscale.stopping.majority_share import MajorityShare
from thinkscale.store import Store
from thinkscale.types import Answer, AnswerKind, Finish, Problem, Sampling, Trace, Usage

PROBLEM = Problem.of("2 + 2?", AnswerKind.math)
RUNS = int(os.environ.get("THINKSCALE_WAVE_RUNS", "5000"))
"""Random runs, over all kinds of them."""
KINDS = ("plain", "breaks", "snaps", "caps", "budget", "until", "asked", "by", "replay", "replay-budget")


@dataclass(frozen=True)
class Told:
    """What counts of a draw."""

    tokens: int
    key: str | None
    failed: bool = False
    spent: int = 0
    """Tokens, with those of attempts that broke off."""


def drawn(plan: Plan, cap: int, limit: float = math.inf) -> Told:
    """What a plan comes to under a cap on everything that is written for it, if it is cut at a limit."""
    lost = 0
    for at, final in [*((at, False) for at in plan.breaks), (plan.fails, True)]:
        end = min(len(plan.words), cap - lost)
        if at is None or at >= end or limit <= at:
            break
        if final or 2 * (lost + at) > cap:
            return Told(at, None, failed=True, spent=lost + at)
        lost += at
    end = min(len(plan.words), cap - lost)
    tokens = min(end, limit)
    text = "".join(plan.words[:tokens])
    answer = extract(text, AnswerKind.math, truncated=end < len(plan.words)) if end < limit else None
    return Told(tokens, answer.key if answer else None, spent=lost + tokens)


def law(rule, pace, n, places, tell, cap, budget):
    """Voters, whether the rule fired, and tokens needed and spent in full; `tell` says what a draw comes to."""
    rule = rule.within(n) if hasattr(rule, "within") else rule
    if least(rule, (), n) >= n:  # all are needed, whatever they say
        return list(range(n)), False, sum(tell(i, cap).tokens for i in range(n))
    voters, seen, needed, spent, begun = [], [], 0, 0, 0
    while begun < n:
        tokens = math.inf if budget.tokens is None else budget.tokens - spent
        calls = math.inf if budget.calls is None else budget.calls - begun
        fit = min(n, *(int(x) for x in (tokens / cap, calls) if x < math.inf), n)
        size = wave_size(pace, least(rule, seen, n - begun), n=n, left=n - begun, places=places, fit=fit)
        if tokens < 1 or calls < 1:
            break
        wave = {i: tell(i, int(min(cap, tokens))) for i in range(begun, begun + size)}
        begun += size
        order = sorted(wave, key=lambda i: (math.inf if wave[i].failed else wave[i].tokens, i))
        for at, index in enumerate(order, 1):
            voters.append(index)
            key = wave[index].key
            seen.append(Trace(prompt=(), answer=None if key is None else Answer(key, key)))
            if len(seen) < n and rule(seen):
                end = max(wave[i].tokens for i in order[:at])
                needed += sum(wave[i].tokens for i in order[:at]) + end * (size - at)
                return voters, True, needed
        needed += sum(t.tokens for t in wave.values())
        spent += sum(t.spent for t in wave.values())
    return voters, False, needed


RULES = (
    *(AheadByK(k=k) for k in (1, 2, 2, 3, 4)),
    AdaptiveConsistency(),
    DecidedMajority(n=8),
    EarlyExit(),
    Esc(w=2),
    MajorityShare(),
    Fixed(),
)


@dataclass
class Case:
    """One random run: what is drawn follows from `world`, and how from `chance`."""

    kind: str
    number: int

    def __post_init__(self):
        chance = self.chance = random.Random(f"{self.kind} {self.number}")
        self.world, self.n = chance.randrange(10**9), chance.randint(1, 10)
        self.rule = chance.choice(RULES)
        self.pace = chance.choice([*Pace])
        self.places = chance.choice((1, 2, 3, 8, 1024))
        self.concurrency = chance.choice((None, None, 1, 2, 3, 5))
        self.tells = chance.random() < 0.8 or self.kind in ("until", "asked")
        self.piece = 1 if self.kind in ("until", "asked") else chance.choice((1, 3, 20))
        self.snaps = chance.randint(0, 2) if self.kind == "snaps" else 0
        self.budget, self.cap = Budget(), 400
        if self.kind == "caps":
            self.cap = chance.choice((1, 4, 8, 12))
        if "budget" in self.kind:
            self.cap = chance.choice((8, 12, 20))
            self.budget = chance.choice((Budget(tokens=chance.randint(0, 90)), Budget(calls=chance.randint(0, 12))))
            while least(self.rule, (), self.n) >= self.n:  # with these, the budget is shared out without any wave
                self.rule, self.n = chance.choice(RULES), chance.randint(2, 10)
        self.by = chance.choice((Single(), SelfConsistency(n=2))) if self.kind == "by" else None

    def plan(self, seed):
        """What a seed writes."""
        return planned(self.world, seed, breaks=0.0 if self.kind == "plain" else 0.3, fails=0.1)

    def limit(self, path):
        """Tokens at which `until` cuts a draw."""
        return random.Random(f"{self.world} {path}").choice((1, 2, 3, 6, 99))

    def until(self, trace):
        return trace.tokens >= self.limit(trace.path)

    async def answer(self, trace):
        verdict = self.until(trace)
        await asyncio.sleep(self.chance.random() * self.chance.choice((0.1, 3, 100)))
        return verdict

    def session(self, engine, **run):
        return Session(
            Place(
                engine=engine,
                ledger=Ledger(self.budget),
                run=Run(seed=5, **run),
                kind=AnswerKind.math,
                sampling=Sampling(max_tokens=self.cap),
            )
        )

    def engine(self, **options):
        return Paced(self.plan, self.chance, places=self.places, tells=self.tells, piece=self.piece, **options)

    async def told(self):
        """What every draw comes to, by index and cap."""
        if self.by:
            traces = await self.session(self.engine()).sample(PROBLEM, self.n, by=self.by)
            return lambda i, _: Told(
                traces[i].tokens, traces[i].answer and traces[i].answer.key, traces[i].finish is Finish.error
            )
        paths = [(i,) for i in range(self.n)]
        seeds = list(seeds_of(5, "main", prompt_name(PROBLEM.messages), "", paths))
        cut = self.kind in ("until", "asked")
        return lambda i, cap: drawn(self.plan(seeds[i]), cap, self.limit((i,)) if cut else math.inf)

    async def remembered(self):
        """A store that an earlier run filled in part, some of it with draws that were cut off."""
        memory = Remembered()
        if "replay" in self.kind:
            llm = self.session(self.engine(), memory=memory)
            await llm.sample(PROBLEM, self.chance.randint(1, 10), enough=self.rule, pace=self.chance.choice([*Pace]))
            for key, kept in list(memory.kept.items()):
                if self.chance.random() < 0.3:
                    del memory.kept[key]
                elif self.chance.random() < 0.3 and kept.tokens:
                    some = self.chance.randint(0, kept.tokens - 1)
                    text = "".join(w + " " for w in kept.text.split()[:some])
                    usage = replace(kept.usage, output_tokens=some)
                    memory.kept[key] = replace(kept, text=text, tokens=some, finish=Finish.aborted, usage=usage)
        return memory


@pytest.mark.parametrize("kind", KINDS)
@on_a_clock_of_its_own
async def test_who_votes_follows_from_the_draws_alone(kind):
    replayed = 0
    for number in range(RUNS // len(KINDS)):
        case = Case(kind, number)
        tell, memory = await case.told(), await case.remembered()
        engine, again = case.engine(snaps=case.snaps), []
        llm = case.session(
            engine,
            memory=memory if "replay" in kind else None,
            concurrency=case.concurrency,
            observe=lambda e, again=again: again.append(e.trace.tokens) if e.replayed else None,
            pieces=False,
        )
        until = {"until": case.until, "asked": case.answer}.get(kind)
        found = await llm.sample(PROBLEM, case.n, enough=case.rule, pace=case.pace, by=case.by, until=until)
        expected = law(case.rule, case.pace, case.n, case.places, tell, case.cap, case.budget)
        assert ([t.path[0] for t in found], found.enough, found.needed) == expected, case
        answers = [tell(i, case.cap).key for i in expected[0]] if "budget" not in kind else None
        assert answers in (None, [t.answer and t.answer.key for t in found]), case
        if not again:
            assert llm.place.ledger.spent.output_tokens == engine.written, case
            assert llm.place.ledger.spent.calls == len(engine.asked), case
        else:
            assert llm.place.ledger.spent.output_tokens >= engine.written + sum(again), case
            replayed += len(again)
    assert (replayed > RUNS / 20) is ("replay" in kind)


class Forgetful(Paced):
    """Breaks off while all but one of its draws are at three tokens, and says something shorter the second time."""

    async def stream(self, request, abort):
        first, self.asked = not self.asked, {*self.asked, *request.seeds}
        for index in range(3 * request.n if first else 0):
            if index == 2:
                yield Chunk(2, completion=_said(r"a \boxed{3}", 2))
            elif index % request.n != 2:
                yield Chunk(index % request.n, WORD, 1)
        await asyncio.sleep(1)
        if first:
            raise EngineError("gone", retryable=True)
        for index in range(request.n):
            yield Chunk(index, completion=_said(r"\boxed{1}", 1))


def _said(text, tokens):
    return Completion(text=text, finish=Finish.eos, tokens=tokens, usage=Usage(calls=1, output_tokens=tokens))


@on_a_clock_of_its_own
async def test_a_draw_that_came_back_shorter_stands_where_it_stood_when_it_is_replayed(tmp_path):
    found, asked = [], []
    for _ in range(2):
        store, engine = Store(tmp_path / "runs.db"), Forgetful(None, None)
        llm = Case("plain", 0).session(engine, memory=store)
        draws = await llm.sample(PROBLEM, 6, enough=AheadByK(k=4), pace=Pace.swift)
        found.append([(t.path[0], t.answer.key) for t in draws])
        asked.append(len(engine.asked))
        store.close()
    assert found[0] == [(2, "3"), (0, "1"), (1, "1"), (3, "1"), (4, "1"), (5, "1")]
    assert (found[1], asked) == (found[0], [6, 0])


@on_a_clock_of_its_own
async def test_an_engine_that_finds_new_places_changes_no_wave_of_a_run():
    class Growing(Paced):
        async def stream(self, request, abort):
            self.capabilities = replace(self.capabilities, concurrency=1024)
            async for chunk in super().stream(request, abort):
                yield chunk

    engine = Growing(lambda seed: Plan((WORD,) * (9 - seed % 8)), random.Random(1), places=2)
    draws = await Case("plain", 0).session(engine).sample(PROBLEM, 8, enough=AheadByK(k=1), pace=Pace.swift)
    waves = [sorted(t.path for t in draws[i : i + 2]) for i in range(0, 8, 2)]
    assert waves == [[(i,), (i + 1,)] for i in range(0, 8, 2)]
