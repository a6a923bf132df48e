"""Draws that an earlier run was cut off in go on from there, where that is asked for."""

import asyncio
from dataclasses import replace

import pytest

from thinkscale.api import solve
from thinkscale.budget import Budget
from thinkscale.engines.scripted import Line, Scripted
from thinkscale.errors import EngineError
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.session import Run
from thinkscale.stopping.fixed import Fixed
from thinkscale.store import Store
from thinkscale.types import Problem, Sampling, Stopped

PROBLEM = Problem.of("How many?")
METHOD = SelfConsistency(n=3, stop=Fixed())
WORDS = " ".join(f"w{i}" for i in range(12)) + " so the answer is 7."


def model(script):
    """Scripts of one model: a run may go on with another one."""
    engine = Scripted(script)
    engine._capabilities = replace(engine.capabilities, model="one")
    return engine


async def asked(engine, store, run, cap=40, **budget):
    limits = Budget(**budget)
    return await solve(PROBLEM, METHOD, engine, budget=limits, run=run, sampling=Sampling(max_tokens=cap), store=store)


async def cut_off(store, cap=40, **budget):
    """Every draw is cut off after some words."""
    run = Run(observe=lambda event: wrote.set() if event.at > 8 else None)
    wrote = asyncio.Event()
    task = asyncio.create_task(asked(model(lambda _: Line(says=WORDS, pace=0.001)), store, run, cap, **budget))
    await wrote.wait()
    run.cancel()
    outcome = await task
    assert outcome.stopped is Stopped.cancelled
    return outcome


def rest(cue):
    """What follows what was written."""
    if cue.prefix.endswith("Final Answer:"):
        return " 7"
    assert WORDS.startswith(cue.prefix)
    return WORDS[len(cue.prefix) :]


@pytest.mark.parametrize("cap", [40, 14])
@pytest.mark.parametrize("tokens", [None, 60])
async def test_what_is_continued_is_one_call_within_its_cap_and_the_same_when_it_is_replayed(cap, tokens):
    store = Store(":memory:")
    before = await cut_off(store, cap, tokens=tokens)
    begun = [t for t in before.traces if t.tokens]
    engine = model(rest)
    outcome = await asked(engine, store, Run(continues=True), cap, tokens=tokens)
    assert sum(bool(cue.prefix) for cue in engine.cues) >= len(begun) > 0
    assert all(WORDS.startswith(t.text) or "Final" in t.text for t in outcome.traces)
    assert all(t.tokens <= cap for t in outcome.traces if "Final" not in t.text)
    assert outcome.usage.output_tokens == sum(t.tokens for t in outcome.traces) <= (tokens or 200)
    assert "not what the seed alone gives" in outcome.warnings[0]
    again = await asked(model([]), store, Run(), cap, tokens=tokens)
    assert [(t.text, t.tokens, t.answer) for t in again.traces] == [
        (t.text, t.tokens, t.answer) for t in outcome.traces
    ]
    assert again.usage.output_tokens == outcome.usage.output_tokens


async def test_unless_it_is_asked_for_they_are_made_anew():
    store = Store(":memory:")
    await cut_off(store)
    engine = model(rest)
    outcome = await asked(engine, store, Run())
    assert [cue.prefix for cue in engine.cues] == [""] * 3
    assert outcome.warnings == ()


async def test_an_engine_that_breaks_off_is_asked_for_the_whole_draw_again():
    store = Store(":memory:")
    await cut_off(store)

    def script(cue):
        return Line(fails=EngineError("gone", retryable=True)) if cue.prefix else WORDS

    outcome = await asked(model(script), store, Run(continues=True))
    assert [t.text for t in outcome.traces] == [WORDS] * 3
