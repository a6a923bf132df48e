"""Recorded draws served again: each once, the same in any order, and never one that was not recorded."""

import gzip
import json
import math
import re
from collections import Counter
from pathlib import Path

import pytest

from thinkscale.api import ask, solve
from thinkscale.budget import Budget, Ledger
from thinkscale.engines.protocol import Abort, Capability, Completion, Request, complete
from thinkscale.engines.replay import Recording, Replay
from thinkscale.errors import EngineError, ModelError
from thinkscale.methods.best_of_n import BestOfN
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.methods.single import Single
from thinkscale.scorers.mean_logprob import MeanLogprob
from thinkscale.scorers.self_certainty import SelfCertainty
from thinkscale.session import Place, Run, Session
from thinkscale.settings import Settings
from thinkscale.stopping.ahead_by_k import AheadByK
from thinkscale.stopping.fixed import Fixed
from thinkscale.store import Store
from thinkscale.types import Finish, Message, Origin, Problem, Sampling, Segment, Stopped

DATA = Path(__file__).parents[1] / "data" / "recorded"
TOY, BEAM = DATA / "smollm2_toy_6x8.jsonl.gz", DATA / "llama32_3b_beam_2x4.jsonl.gz"


def rows_of(path):
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


ROWS = rows_of(TOY)


def said(text, tokens=None, **rest):
    return Completion(text=text, finish=Finish.eos, tokens=tokens or len(text.split()), **rest)


def replay(*texts, prompt="2 + 2?", **rest):
    return Replay(recordings=[Recording(prompt=prompt, samples=tuple(said(t, **rest) for t in texts))])


def request(prompt="2 + 2?", n=1, **rest):
    rest = {"seeds": tuple(range(n)), **rest}
    return Request(messages=Problem.of(prompt).messages, **rest)


def session(engine, *, max_tokens=64, **run):
    return Session(
        Place(engine=engine, ledger=Ledger(Budget()), run=Run(**run), sampling=Sampling(max_tokens=max_tokens))
    )


async def run(method, engine, question, budget="", *, max_tokens=64, **rest):
    sampling = Sampling(max_tokens=max_tokens)
    return await solve(Problem.of(question), method, engine, budget=Budget.parse(budget), sampling=sampling, **rest)


def written(tmp_path, *lines):
    path = tmp_path / "some.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def read_by_eye(sample):
    """The answer of a sample: the last one that its text names, else its last number, unless it was cut."""
    named, numbers = re.findall(r"answer is (\d+)", sample["text"]), re.findall(r"\d+", sample["text"])
    if named or sample["finish_reason"] == "length":
        return named[-1] if named else None
    return numbers[-1]


async def failure(engine, asked):
    """The message of a request that fails as a whole, or else of its first draw that does."""
    failed = []
    try:
        failed += [chunk.failure async for chunk in engine.stream(asked) if chunk.failure]
    except EngineError as error:
        failed.append(error)
    assert not any(error.retryable for error in failed)
    return str(failed[0])


# What is served.


async def test_every_draw_is_another_recorded_sample_in_their_order_and_unchanged():
    engine = Replay(TOY)
    for row in ROWS:
        done = await complete(engine, request(row["question"], n=8))
        assert [c.text for c in done] == [s["text"] for s in row["samples"]]
        assert [c.tokens for c in done] == [s["n_tokens"] for s in row["samples"]]
        assert [c.finish is Finish.length for c in done] == [s["finish_reason"] == "length" for s in row["samples"]]
        assert all(c.usage.calls == 1 and c.usage.output_tokens == c.tokens and not c.rewards for c in done)


async def test_a_draw_is_picked_by_its_path_and_not_by_when_or_with_whom_it_is_asked_for():
    engine = replay("a", "b", "c", "d")
    done = await complete(engine, request(n=3, paths=((3,), (1,), (2, 0, 0))))
    assert [c.text for c in done] == ["d", "b", "c"]
    assert [c.text for c in await complete(engine, request(paths=((3,),)))] == ["d"]


@pytest.mark.parametrize("concurrency", [1, 3, None])
async def test_one_at_a_time_and_all_at_once_are_the_same_run(concurrency):
    for row in ROWS:
        out = await run(
            SelfConsistency(n=8, stop=Fixed()),
            Replay(TOY),
            row["question"],
            run=Run(seed=concurrency or 0, concurrency=concurrency),
        )
        assert [t.text for t in out.traces] == [s["text"] for s in row["samples"]]


async def test_no_later_draw_of_a_run_repeats_a_sample():
    llm = session(replay(*"abcdef"))
    first, second = await llm.sample(Problem.of("2 + 2?"), 2), await llm.sample(Problem.of("2 + 2?"), 4)
    assert [t.text for t in (*first, *second)] == list("abcdef")


async def test_attempts_drawn_through_another_method_are_numbered_alike():
    out = await run(SelfConsistency(n=4, by=Single(), stop=Fixed()), replay(*"abcd"), "2 + 2?")
    assert [t.text for t in out.traces] == list("abcd")


async def test_prompts_are_numbered_apart_and_told_apart_by_all_their_messages():
    chat = (Message("system", "Be brief."), Message("user", "x"))
    engine = Replay(recordings=[
        Recording(prompt="x", samples=(said("short"),)), Recording(prompt=chat, samples=(said("brief"),)),
    ])  # fmt: skip
    assert [c.text for c in await complete(engine, request("x"))] == ["short"]
    assert [c.text for c in await complete(engine, Request(messages=chat))] == ["brief"]


async def test_an_aborted_draw_costs_nothing():
    abort = Abort()
    abort.end(1)
    done = await complete(replay("a", "b"), request(n=2), abort)
    assert [(c.text, c.finish, c.tokens) for c in done] == [("a", Finish.eos, 1), ("", Finish.aborted, 0)]


# What methods make of it.


async def test_the_vote_over_a_replayed_pool_is_the_one_counted_by_hand():
    for row in ROWS:
        out = await run(SelfConsistency(n=8, stop=Fixed()), Replay(TOY), row["question"])
        votes = Counter(answer for s in row["samples"] if (answer := read_by_eye(s)) is not None)
        assert {v.answer: v.count for v in out.votes} == votes
        assert (out.answer, out.confidence) == (votes.most_common(1)[0][0], votes.most_common(1)[0][1] / 8)


async def test_the_mean_over_the_file_is_the_one_computed_from_it():
    right = [
        trace.answer is not None and trace.answer.text == row["gold"]
        for row in ROWS
        for trace in (await run(SelfConsistency(n=8, stop=Fixed()), Replay(TOY), row["question"])).traces
    ]
    assert sum(right) == sum(s["correct"] for row in ROWS for s in row["samples"]) == 9


@pytest.mark.parametrize("scorer", [MeanLogprob(), SelfCertainty()], ids=str)
async def test_scores_of_replayed_tokens_are_those_of_the_file(scorer):
    key = {"mean-logprob": "token_logprobs", "self-certainty": "token_self_certainty"}[repr(scorer)]
    for row in ROWS:
        out = await run(BestOfN(n=8, scorer=scorer), Replay(TOY), row["question"])
        expected = [math.fsum(s[key]) / s["n_tokens"] for s in row["samples"]]
        assert [t.scores[-1].value for t in out.traces] == pytest.approx(expected, abs=1e-9)
        answered = [i for i, s in enumerate(row["samples"]) if s["answer"] is not None]
        assert out.best.text == row["samples"][max(answered, key=expected.__getitem__)]["text"]


async def test_recorded_entropies_are_served_and_cut_with_the_tokens(tmp_path):
    sample = {"text": "It is 4", "token_logprobs": [-0.5, -1.0, -2.0], "token_entropy": [0.25, 0.5, 1.0]}
    replay = Replay(written(tmp_path, {"question": "2+2?", "samples": [sample]}))
    assert Capability.token_entropy in replay.capabilities.can
    for cap, entropies in ((None, (0.25, 0.5, 1.0)), (2, (0.25, 0.5))):
        [draw] = await complete(replay, request("2+2?", sampling=Sampling(logprobs=0, max_tokens=cap)))
        assert draw.logprobs.entropy == entropies
    sample["token_entropy"] = [0.25]
    with pytest.raises(ModelError, match="1 entropies for 3"):
        Replay(written(tmp_path, {"question": "2+2?", "samples": [sample]}))


async def test_log_probabilities_come_only_where_they_are_asked_for():
    [bare] = await complete(Replay(TOY), request(ROWS[0]["question"]))
    [full] = await complete(Replay(TOY), request(ROWS[0]["question"], sampling=Sampling(logprobs=0)))
    assert bare.logprobs is None
    assert list(full.logprobs.chosen) == ROWS[0]["samples"][0]["token_logprobs"]


async def test_a_run_from_memory_is_the_same_run(tmp_path):
    store = Store(tmp_path / "s.db")
    first, again = [
        await run(SelfConsistency(n=8, stop=AheadByK(k=2)), Replay(TOY), ROWS[4]["question"], "tokens=200", store=store)
        for _ in range(2)
    ]
    assert [(t.text, t.finish) for t in first.traces] == [(t.text, t.finish) for t in again.traces]
    assert first.usage.output_tokens == again.usage.output_tokens


async def test_draws_that_memory_lacks_are_still_those_of_their_own_number(tmp_path):
    store, row = Store(tmp_path / "s.db"), ROWS[0]
    await run(SelfConsistency(n=3, stop=Fixed()), Replay(TOY), row["question"], store=store)
    out = await run(SelfConsistency(n=8, stop=Fixed()), Replay(TOY), row["question"], store=store)
    assert [t.text for t in out.traces] == [s["text"] for s in row["samples"]]


def test_a_replay_answers_through_the_front_door():
    out = ask(ROWS[2]["question"], method="self-consistency(n=8)", model=Replay(TOY), settings=Settings(store=""))
    assert out.answer == "24"


# Budgets and caps.


@pytest.mark.parametrize("tokens", [40, 100, 150, 200, 1000])
@pytest.mark.parametrize("concurrency", [1, None])
async def test_a_budget_buys_the_samples_that_fit_and_is_never_overspent(tokens, concurrency):
    row = ROWS[2]
    out = await run(
        SelfConsistency(n=8, stop=Fixed()),
        Replay(TOY),
        row["question"],
        f"tokens={tokens}",
        run=Run(concurrency=concurrency),
    )
    whole = [t for t in out.traces if t.finish in (Finish.eos, Finish.length)]
    assert out.usage.output_tokens <= tokens
    assert [t.text for t in whole] == [s["text"] for s in row["samples"][: len(whole)]]
    # A budget is used up to the draw that it cut, as it would be with the model itself.
    assert out.stopped is (Stopped.budget if tokens < 243 else Stopped.done)
    assert out.usage.output_tokens == min(tokens, 243)


async def test_a_cap_below_the_recorded_length_costs_the_cap_and_invents_no_text():
    asked = request(ROWS[0]["question"], sampling=Sampling(max_tokens=20, logprobs=0))
    [cut] = await complete(Replay(TOY), asked)
    assert (cut.text, cut.finish, cut.tokens, cut.usage.output_tokens) == ("", Finish.length, 20, 20)
    assert list(cut.logprobs.chosen) == ROWS[0]["samples"][0]["token_logprobs"][:20]
    assert len(cut.logprobs.logsumexp) == len(cut.logprobs.mean_logit) == 20
    assert "54 tokens" in cut.error
    assert "--max-tokens` (64 serves every sample)" in cut.error


# A miss is an error that names the request.


async def test_a_prompt_that_was_not_recorded_is_named():
    long = "What is " + "9 + " * 40 + "9?"
    error = await failure(replay("a"), request(long))
    assert f"no draws of `{long[:80]}…` were recorded" in error
    out = await run(SelfConsistency(n=3), replay("a"), "3 + 3?")
    assert out.stopped is Stopped.error
    assert all("`3 + 3?`" in t.error and t.tokens == 0 for t in out.traces)


async def test_more_draws_than_were_recorded_fail_alone_with_both_numbers():
    out = await run(SelfConsistency(n=5, stop=Fixed()), replay(*["The answer is 4."] * 3), "2 + 2?")
    assert [t.finish for t in out.traces] == [Finish.eos] * 3 + [Finish.error] * 2
    assert out.traces[4].error == "sample 5 of `2 + 2?` was asked for and 3 were recorded: draw 3 at most"
    assert out.answer == "4"


@pytest.mark.parametrize(
    ("rest", "says"),
    [
        ({"continuation": " 4"}, "likelihood"),
        ({"prefix": (Segment(text="Wait", origin=Origin.injected),)}, "continuation of 'Wait'"),
        ({"paths": ((0, 1),)}, r"draw \(0, 1\) .* is a fork"),
        ({"paths": ((),)}, r"draw \(\) .* is a fork"),
        ({"sampling": Sampling(stop=("is",))}, "past the stop string 'is'"),
        ({"sampling": Sampling(min_tokens=3, banned=("x",))}, "without `min_tokens`, `banned`"),
        ({"steps": ("The answer", " is 4.")}, "no rewards of the answer 'The answer is 4.'"),
    ],
    ids=str,
)
async def test_what_only_a_live_model_can_do_is_refused_by_name(rest, says):
    error = await failure(replay("The answer is 4."), request(**rest))
    assert re.search(says, error)
    assert "`2 + 2?`" in error


async def test_log_probabilities_of_another_kind_are_refused():
    asked = request(ROWS[0]["question"], sampling=Sampling(logprobs=0, logprob_space="processed"))
    assert "log-probabilities that are raw, not processed" in await failure(Replay(TOY), asked)


# Rewards.


async def test_recorded_rewards_judge_the_steps_of_a_recorded_answer():
    engine = Replay(BEAM)
    for row in rows_of(BEAM):
        traces = await session(engine, max_tokens=4096).sample(Problem.of(row["question"]), 4)
        steps = await session(engine).rewards(traces, lambda text: _kept(text.split("\n\n")))
        whole = await session(engine).rewards(traces)
        assert steps == [tuple(s["step_scores"]) for s in row["samples"]]
        assert whole == [(s["agg_score_last"],) for s in row["samples"]]


def _kept(parts):
    return [*(f"{p}\n\n" for p in parts[:-1]), parts[-1]]


async def test_rewards_of_equal_texts_are_those_of_the_draw_itself():
    samples = tuple(said("same", rewards=(r,)) for r in (0.1, 0.2))
    engine = Replay(recordings=[Recording(prompt="2 + 2?", samples=samples)])
    for path, reward in [((1,), 0.2), ((0,), 0.1), ((5,), 0.1)]:
        [judged] = await complete(engine, request(steps=("same",), paths=(path,)))
        assert (judged.rewards, judged.tokens) == ((reward,), 0)


async def test_rewards_of_another_number_of_steps_are_refused_with_both_numbers():
    engine = replay("a b c", rewards=(0.1, 0.2))
    error = await failure(engine, request(steps=("a ", "b ", "c")))
    assert "rewards of 3 steps" in error
    assert "2 were recorded" in error


# What it offers, and files.


def test_it_offers_what_every_sample_has():
    assert Replay(TOY).capabilities.can == {Capability.logprobs, Capability.token_moments}
    assert Replay(BEAM).capabilities.can == {Capability.rewards}
    mixed = (said("a", rewards=(1.0,)), said("b"))
    assert not Replay(recordings=[Recording(prompt="x", samples=mixed)]).capabilities.can


def test_the_name_of_a_recording_is_its_content(tmp_path):
    plain = tmp_path / "plain.jsonl"
    plain.write_bytes(gzip.decompress(TOY.read_bytes()))
    assert Replay(plain).capabilities == Replay(str(TOY)).capabilities
    assert Replay(TOY).capabilities.name == "SmolLM2-135M-Instruct Q4_1 (GGUF) (replayed)"
    assert (
        replay("a").capabilities.model != replay("b").capabilities.model != replay("b", prompt="x").capabilities.model
    )


async def test_lines_with_less_than_a_text_or_a_count_are_completed_as_documented(tmp_path):
    samples = [
        {"answer": "52", "n_tokens": 17},
        {"turns": [{"output": "So "}, {"ppl": 1.2}, {"output": "it is 3."}], "answer": "3"},
        {"text": "It is 4, all in all.", "answer": "4", "reward": 0.5},
        {"answer": None, "n_tokens": 9},
    ]
    engine = Replay(written(tmp_path, {"prompt": "x", "samples": samples}, ""))
    done = await complete(engine, request("x", n=4))
    assert [(c.text, c.tokens) for c in done] == [
        ("The answer is 52.", 17), ("So it is 3.", 3), ("It is 4, all in all.", 5), ("", 9),
    ]  # fmt: skip


async def test_of_a_file_of_several_sources_one_is_chosen(tmp_path):
    lines = [{"question": "x", "model": m, "run": r, "samples": [{"text": m + r}]} for m, r in ["a1", "b1", "b2"]]
    path = written(tmp_path, *lines)
    with pytest.raises(ModelError, match="several sources: choose model='a', run='1'; model='b', run='1'; model='b'"):
        Replay(path)
    with pytest.raises(ModelError, match="several sources: choose model='b', run='1'; model='b', run='2'"):
        Replay(path, model="b")
    with pytest.raises(ModelError, match="other sources: choose model='a', run='1'"):
        Replay(path, model="c")
    assert [c.text for c in await complete(Replay(path, model="b", run="2"), request("x"))] == ["b2"]


@pytest.mark.parametrize("run", [2, "2"])
async def test_a_run_with_a_number_for_a_name_is_chosen_as_it_is_listed(tmp_path, run):
    path = written(tmp_path, *({"question": "x", "run": r, "samples": [{"text": f"{r}"}]} for r in (1, 2)))
    assert [c.text for c in await complete(Replay(path, run=run), request("x"))] == ["2"]


async def test_an_empty_stop_string_stops_nothing():
    [found] = await complete(replay("It is 4."), request(sampling=Sampling(stop=("",))))
    assert found.text == "It is 4."


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["{"], "line 1 of .* is not JSON"),
        (["[]"], "line 1 of .* is not a JSON object"),
        ([{"question": "x", "samples": []}, {"question": "y"}], "line 2 of .* is not as expected: KeyError"),
        ([{"question": "x", "samples": [{"n_tokens": 3, "token_logprobs": [-1.0]}]}], "1 log-probabilities for 3"),
        ([{"question": "x", "samples": [3]}], "line 1 of .* is not as expected"),
        ([{"question": "x", "samples": []}] * 2, "holds `x` twice"),
        ([], "other sources"),
    ],
    ids=str,
)
def test_a_file_that_is_no_recording_is_refused_with_the_place(tmp_path, lines, says):
    with pytest.raises(ModelError, match=says):
        Replay(written(tmp_path, *lines))


def test_no_file_and_half_a_file_are_refused(tmp_path):
    with pytest.raises(ModelError, match="without a recording"):
        Replay()
    with pytest.raises(ModelError, match="cannot be read"):
        Replay(tmp_path / "none.jsonl.gz")
    half = tmp_path / "half.jsonl.gz"
    half.write_bytes(TOY.read_bytes()[:3000])
    with pytest.raises(ModelError, match="cannot be read"):
        Replay(half)
