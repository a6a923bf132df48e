import asyncio

import pytest

from clocks import on_a_clock_of_its_own
from thinkscale.api import solve
from thinkscale.budget import Budget
from thinkscale.engines.protocol import Abort, Capability, Request, complete
from thinkscale.engines.scripted import Cue, Line, Scripted
from thinkscale.errors import EngineError
from thinkscale.methods.single import Single
from thinkscale.store import Store
from thinkscale.types import Finish, Message, Origin, Problem, Sampling, Segment

PROMPT = (Message("system", "Be brief."), Message("user", "2 + 2?"))


def request(n=1, prefix="", **sampling):
    segments = (Segment(text=prefix, origin=Origin.injected),) if prefix else ()
    return Request(messages=PROMPT, prefix=segments, sampling=Sampling(**sampling), seeds=tuple(range(n)))


async def test_lines_are_spoken_in_the_order_in_which_they_are_asked_for():
    engine = Scripted(["a b", Line(says=" c")])
    first, second = await complete(engine, request(2))
    assert [(c.text, c.tokens, c.finish) for c in (first, second)] == [("a b", 2, Finish.eos), (" c", 1, Finish.eos)]
    assert engine.spent.output_tokens == 3
    assert engine.spent.calls == 2


@pytest.mark.parametrize("text", ["", " ", "a", " a  b\n\nc ", "\n", "é 😀\t"])
async def test_words_spell_exactly_what_was_said(text):
    [said] = await complete(Scripted([Line(says=text, pace=0.0)]), request())
    assert said.text == text


async def test_the_earliest_stop_string_ends_a_line_and_is_not_part_of_it():
    [said] = await complete(Scripted(["a b END c STOP"]), request(stop=("STOP", "END")))
    assert (said.text, said.finish, said.stop_string) == ("a b ", Finish.stop, "END")


async def test_the_cap_ends_a_line_before_its_stop_string_does():
    [said] = await complete(Scripted(["a b c END"]), request(max_tokens=2, stop=("END",)))
    assert (said.text, said.finish, said.stop_string, said.tokens) == ("a b", Finish.length, None, 2)


async def test_a_cue_tells_all_that_was_asked():
    cues = []

    def script(cue):
        cues.append(cue)
        return "x"

    await complete(Scripted(script), request(2, prefix="so far", max_tokens=5))
    assert cues[1] == Cue(prompt="2 + 2?", prefix="so far", sampling=Sampling(max_tokens=5), seed=1, number=1)


@pytest.mark.parametrize("wrong", [{"prompt": "?"}, {"prefix": "?"}, {"max_tokens": 1}, {"stop": ("?",)}])
async def test_a_cue_that_is_not_what_its_line_expects_is_an_assertion(wrong):
    with pytest.raises(AssertionError, match=next(iter(wrong))):
        await complete(Scripted([Line(says="a", **wrong)]), request(max_tokens=5))


async def test_a_script_that_has_run_out_is_an_assertion():
    with pytest.raises(AssertionError, match="one more"):
        await complete(Scripted([]), request())


async def test_a_failing_line_raises_its_own_error():
    error = EngineError("busy", retryable=True, retry_after=1.5)
    with pytest.raises(EngineError) as caught:
        await complete(Scripted([Line(fails=error)]), request())
    assert caught.value is error


async def test_an_aborted_draw_keeps_what_it_said_and_the_others_go_on():
    abort, heard = Abort(), []
    async for chunk in Scripted(lambda _: Line(says="a b c d", pace=0.0)).stream(request(2), abort):
        heard.append(chunk)
        if len(heard) == 3:
            abort.draws.add(0)
    done = {c.index: c.completion for c in heard if c.completion}
    assert (done[0].text, done[0].finish, done[0].tokens) == ("a b", Finish.aborted, 2)
    assert (done[1].text, done[1].finish) == ("a b c d", Finish.eos)


@on_a_clock_of_its_own
async def test_a_pace_takes_its_time():
    loop = asyncio.get_running_loop()
    started = loop.time()
    await complete(Scripted([Line(says="a b c", pace=0.01)]), request())
    assert loop.time() - started == pytest.approx(0.03)


async def test_log_probabilities_come_only_when_they_are_asked_for():
    [mute] = await complete(Scripted(["a b"]), request())
    [loud] = await complete(Scripted([Line(says="a b", logprob=-2.0)]), request(logprobs=0))
    assert mute.logprobs is None
    assert loud.logprobs.chosen == (-2.0, -2.0)


async def test_a_given_text_is_scored_and_generates_nothing():
    asked = Request(messages=PROMPT, sampling=Sampling(logprobs=0, max_tokens=0), continuation="a b")
    [scored] = await complete(Scripted([Line(says="other", logprob=-1.0)]), asked)
    assert (scored.text, scored.tokens, scored.logprobs.chosen) == ("a b", 0, (-1.0, -1.0))


async def test_the_prompt_is_counted_once_per_request():
    done = await complete(Scripted(lambda _: "x"), request(3, prefix="two words"))
    assert [c.usage.input_tokens for c in done] == [7, 0, 0]


def test_it_pretends_to_offer_everything_but_a_native_budget():
    assert Scripted().capabilities.can == frozenset(Capability) - {Capability.thinking_budget}


async def test_calls_of_tools_follow_the_words_unless_the_draw_is_cut():
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    engine = Scripted([Line(says="a b", calls=(call,))] * 2)
    for cap, calls in ((None, (call,)), (1, ())):
        sampling = Sampling(max_tokens=cap)
        [said] = await complete(engine, Request(messages=(Message("user", "?"),), sampling=sampling))
        assert said.tool_calls == calls


def speaking(answer, other=None):
    def script(cue):
        return f"{cue.seed} {answer}" if other is None else other

    return script


def test_who_says_something_else_is_somebody_else():
    lists = [["4"], ["7"], ["4", "7"], [], [Line(says="4", pace=0.0)]]
    scripts = [None, *lists, speaking(4), speaking(7), speaking(4, "4"), lambda _: "4", lambda _: "7"]
    names = [Scripted(script).capabilities.model for script in scripts]
    assert len(set(names)) == len(scripts)
    assert names == [Scripted(script).capabilities.model for script in scripts]
    assert Scripted(speaking(4)).capabilities.model == Scripted(speaking(4)).capabilities.model
    assert {Scripted(script).capabilities.name for script in scripts} == {"scripted"}


def test_a_script_may_look_at_the_engine_that_speaks_it():
    def script(cue):
        return str(len(engine.cues))

    engine = Scripted(script)
    assert engine.capabilities.model.startswith("scripted-")


async def test_what_one_script_said_is_not_replayed_for_another():
    store = Store(":memory:")
    answers = []
    for said in ("4", "7", "4"):
        outcome = await solve(Problem.of("2 + 2?"), Single(), Scripted([said]), budget=Budget(), store=store)
        answers.append(outcome.answer)
    assert answers == ["4", "7", "4"]
    store.close()
