"""What `until` is shown of a growing draw, and the beginnings that others wrote."""

import pytest

from thinkscale.budget import Budget, Ledger
from thinkscale.engines.protocol import Capability, Chunk, ThinkFormat
from thinkscale.engines.scripted import EVERYTHING, Line, Scripted
from thinkscale.engines.tabular import Tabular
from thinkscale.errors import EngineError
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.session import Place, Run, Session
from thinkscale.store import Store
from thinkscale.types import Finish, Message, Origin, Problem, Sampling

PROBLEM = Problem.of("2 + 2?")
WALK = {"": {"a": 1.0}, "a": {"a": 0.5, " b": 0.5}, " b": {"a": 0.75, "<end>": 0.25}}
COUNTED = Line(says="a b c d e f", logprob=(-0.1, -0.2, -0.3, -0.4), pace=0.0)
TAGS = ThinkFormat(close="</think>\n", answer_prefix="Answer:")


def session(engine, *, logprobs=None, **run):
    return Session(
        Place(
            engine=engine, ledger=Ledger(Budget()), run=Run(**run), sampling=Sampling(max_tokens=20, logprobs=logprobs)
        )
    )


def copied(seen, stop_at=99):
    """Notes what is shown, and has seen enough after some tokens."""

    def until(trace):
        segment = trace.segments[-1]
        seen.append((segment.tokens, segment.logprobs and tuple(segment.logprobs.chosen)))
        return segment.tokens >= stop_at

    return until


async def test_a_growing_draw_is_shown_with_its_log_probabilities():
    seen = []
    [trace] = await session(Scripted([COUNTED]), logprobs=1).sample(PROBLEM, until=copied(seen, 4))
    whole = (-0.1, -0.2, -0.3, -0.4)
    assert seen == [(n, whole[:n]) for n in (1, 2, 3, 4)]
    assert (trace.finish, trace.segments[-1].logprobs.chosen) == (Finish.aborted, whole)
    assert len(trace.segments[-1].logprobs.top) == 4


async def test_each_of_several_draws_is_shown_with_its_own():
    seen = {}

    def until(trace):
        seen[trace.path] = tuple(trace.segments[-1].logprobs.chosen)
        return False

    traces = await session(Tabular(WALK, pause=True), logprobs=2).sample(PROBLEM, 6, until=until)
    for trace in traces:
        told = trace.segments[-1].logprobs
        assert seen[trace.path] in (told.chosen, told.chosen[:-1])


async def test_they_cost_nothing_where_nobody_asks_for_them():
    seen = []
    await session(Scripted([COUNTED])).sample(PROBLEM, until=copied(seen))
    assert {signals for _, signals in seen} == {None}

    class Overheard(Scripted):
        async def stream(self, request, abort=None):
            async for chunk in super().stream(request, abort):
                assert chunk.logprobs is None
                yield chunk

    await session(Overheard([COUNTED]), logprobs=1, observe=lambda _: None).sample(PROBLEM)


async def test_a_long_draw_is_not_copied_at_every_token():
    shown = []
    engine = Scripted([Line(says="w " * 500, pace=0.0)])
    llm = Session(
        Place(engine=engine, ledger=Ledger(Budget()), run=Run(), sampling=Sampling(max_tokens=500, logprobs=0))
    )
    await llm.sample(PROBLEM, until=lambda trace: shown.append(trace.segments[-1].logprobs))
    assert len(shown) >= 500
    assert {id(signals) for signals in shown} == {id(shown[0])}


async def test_a_draw_that_breaks_off_is_shown_from_its_beginning_again():
    class Flaky(Scripted):
        async def stream(self, request, abort=None):
            async for chunk in super().stream(request, abort):
                yield chunk
                if len(self.cues) == 1 and chunk.tokens:
                    raise EngineError("gone", retryable=True)

    seen = []
    await session(Flaky(lambda _: COUNTED), logprobs=0).sample(PROBLEM, until=copied(seen))
    assert [n for n, _ in seen] == [1, 1, 2, 3, 4, 5, 6]
    assert all(len(signals) == n for n, signals in seen)


async def test_a_replayed_draw_that_was_cut_is_shown_whole_before_it_is_cut_again():
    store, seen = Store(":memory:"), []
    for _ in range(2):
        llm = session(Scripted([COUNTED]), logprobs=0, memory=store)
        [trace] = await llm.sample(PROBLEM, until=copied(seen, 3))
    assert seen[-1] == (3, (-0.1, -0.2, -0.3))
    assert (len(seen), llm.place.run.replayed, trace.text) == (4, 1, "a b c")


async def test_what_an_engine_cannot_tell_is_not_asked_of_it():
    engine = Scripted(["a"], can=EVERYTHING - {Capability.logprobs})
    await session(engine, logprobs=2).sample(PROBLEM)
    assert engine.cues[0].sampling.logprobs is None
    engine = Scripted(["a"], can=EVERYTHING - {Capability.top_logprobs})
    await session(engine, logprobs=2).sample(PROBLEM)
    assert engine.cues[0].sampling.logprobs == 0


async def test_a_chunk_of_another_engine_may_come_without_them():
    class Silent(Scripted):
        async def stream(self, request, abort=None):
            async for chunk in super().stream(request, abort):
                yield chunk if chunk.completion else Chunk(chunk.index, chunk.text, chunk.tokens)

    seen = []
    await session(Silent([COUNTED]), logprobs=0).sample(PROBLEM, until=copied(seen, 3))
    assert seen == [(1, None), (2, None), (3, None)]


async def test_answers_that_mean_the_same_arrive_under_one_label():
    script = ["The answer is 0.5", r"The answer is \frac{1}{2}", "The answer is 7"]
    llm = session(Scripted(script), concurrency=1)
    keys = [t.answer.key async for t in llm.arrivals(PROBLEM, 3)]
    assert keys[0] == keys[1] != keys[2]


async def test_attempts_go_on_from_a_beginning_that_somebody_else_wrote():
    engine = Scripted(lambda cue: " The answer is 4." if cue.prefix else "Hm.")
    llm = session(engine, concurrency=1)
    further = llm.continuing("So:")
    [trace, _] = await further.sample(PROBLEM, 2)
    assert (trace.text, trace.answer.key, trace.tokens) == ("So: The answer is 4.", "4", 4)
    assert trace.segments[0].origin is Origin.injected
    assert further.open(PROBLEM).text == "So:"
    [nested] = await further.sample(PROBLEM, 1, by=SelfConsistency(n=1))
    assert nested.text.startswith("So:")
    [other] = await further.sample((Message("user", "Something else?"),))
    [plain] = await llm.sample(PROBLEM)
    assert (other.text, plain.text) == ("Hm.", "Hm.")
    assert llm.continuing("").open(PROBLEM).segments == ()


@pytest.mark.parametrize(("said", "prefix"), [("hm", "hm\n</think>Answer:"), ("hm</think>\n4", "hm</think>\n4")])
async def test_a_trace_is_closed_once(said, prefix):
    llm = session(Scripted([said], think=TAGS))
    [trace] = await llm.sample(PROBLEM)
    assert llm.closed(trace).text == prefix


async def test_news_say_where_in_a_call_their_text_stands():
    heard = []
    await session(Scripted([COUNTED]), observe=heard.append).sample(PROBLEM)
    assert [(e.at, e.text) for e in heard if e.text] == [
        (0, "a"),
        *((2 * n - 1, f" {c}") for n, c in enumerate("bcdef", 1)),
    ]
