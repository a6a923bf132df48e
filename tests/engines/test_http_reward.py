"""Reward models behind servers: how they are asked, how their replies read, and what is asked together."""

import asyncio
import math
from contextlib import asynccontextmanager
from socket import create_server

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.mock import until
from servers.rewards import RewardServer, good_words, judging
from thinkscale.api import run, solve
from thinkscale.budget import Budget, Ledger
from thinkscale.engines.http_reward import HttpReward
from thinkscale.engines.http_reward.judging import _probability, _shares
from thinkscale.engines.opening import engines_for
from thinkscale.engines.protocol import Abort, Capability, Price, Request, complete
from thinkscale.engines.reward_shapes import SHAPES, shape_of
from thinkscale.engines.scripted import Line, Scripted
from thinkscale.errors import CapabilityError, ContextError, EngineError, ModelError, SettingsError
from thinkscale.registry import parse
from thinkscale.scorers.outcome_reward import OutcomeReward
from thinkscale.session import Place, Run, Session
from thinkscale.store import Store
from thinkscale.testing import PROBLEM
from thinkscale.types import Finish, Message, Origin, Problem, Sampling, Segment, Trace

QUESTION = (Message("user", "Is it?"),)


def asking(*steps, messages=QUESTION):
    return Request(messages=messages, steps=steps)


def reward_of(engine, *steps):
    return complete(engine, asking(*steps))


@asynccontextmanager
async def opened(server, **settings):
    async with judging(server):
        engine = HttpReward(base_url=server.url, **settings)
        try:
            await engine.open()
            server.forget()
            yield engine
        finally:
            await engine.aclose()


async def refused(url, error, said, **settings):
    engine = HttpReward(base_url=url, **settings)
    with pytest.raises(error, match=said):
        await engine.open()
    await engine.aclose()


def yes(text):
    return [0.75 if "good" in text else 0.25]


def logits(text):
    return [0.0, good_words(text)]


FOUND = [
    ({"serves": ("/classify",)}, "/classify", [2.0]),
    ({"serves": ("/v1/classify",)}, "/v1/classify", [2.0]),
    ({"serves": ("/pooling",)}, "/pooling", [2.0]),
    ({"serves": ("/score", "/v1/score")}, "/score", [2.0]),
    ({"serves": ("/v1/decisions",), "labels": yes}, "/v1/decisions", [0.75]),
    ({"serves": ("/classify", "/v1/classify"), "owner": "sglang"}, "/classify", [2.0]),
    ({"serves": ("/v1/decisions",), "owner": "sglang", "labels": yes}, "/v1/decisions", [0.75]),
]


@pytest.mark.parametrize(
    ("server", "path", "rewards"), FOUND, ids=[f"{s.get('owner', 'vllm')} {p}" for s, p, _ in FOUND]
)
async def test_the_endpoint_that_answers_is_found_and_remembered(server, path, rewards):
    server = RewardServer(**server)
    async with opened(server) as engine:
        [judged] = await reward_of(engine, "good good")
        assert [*judged.rewards] == rewards
        assert (judged.text, judged.tokens, judged.finish) == ("", 0, Finish.eos)
        assert judged.usage.calls == 1
        assert judged.usage.output_tokens == 0
        assert judged.usage.input_tokens > 3
        assert [seen for seen, _ in server.seen] == [path]
        assert engine.capabilities.can == {Capability.rewards}
        assert engine.capabilities.context == 4096


async def test_a_server_without_a_reward_model_is_refused_when_it_is_opened():
    async with judging(RewardServer(serves=())) as server:
        await refused(server.url, CapabilityError, r"`judge` at .* judges no answers: .*`/classify`: 404")
        await refused(server.url, CapabilityError, "no endpoint of this server fits", api="decisions", shape="qwen-prm")


async def test_a_wrong_address_key_or_model_is_said_when_it_is_opened():
    async with judging(RewardServer(key="right", models=2)) as server:
        await refused(server.url, EngineError, "refused the key", key="wrong")
        await refused(server.url, ModelError, "serves 2 models: name one of `judge`, `other-1`", key="right")
        await refused(server.url, CapabilityError, "`other-1`", key="right", model="other-1")
        engine = HttpReward(base_url=server.url, key="right", model="judge")
        await engine.open()
        await engine.aclose()
    await refused(server.url, EngineError, "no server answers")


async def test_a_server_that_is_busy_is_not_taken_for_one_without_rewards():
    async with judging(RewardServer(failures=[503])) as server:
        engine = HttpReward(base_url=server.url)
        with pytest.raises(EngineError) as busy:
            await engine.open()
        assert busy.value.retryable
        await engine.open()
        await engine.aclose()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"api": "clasify"}, "did you mean `classify`"),
        ({"shape": "qwen"}, "did you mean `qwen-prm`"),
        ({"template": "{question}"}, "must say where the `{answer}` goes"),
        ({"concurrency": 0}, "at least 1"),
        ({"base_url": "nowhere"}, "no address"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_the_next_step(settings, said):
    with pytest.raises(SettingsError, match=said):
        HttpReward(**{"base_url": "http://127.0.0.1:1/v1", **settings})


def test_the_address_and_the_key_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert HttpReward().transport.shown == "http://127.0.0.1:9/v1"


async def test_a_reward_model_writes_nothing():
    async with opened(RewardServer()) as engine:
        with pytest.raises(CapabilityError, match="writes nothing"):
            await complete(engine, Request(messages=QUESTION))


# What a model of whole answers is shown and gives.


async def test_the_servers_chat_template_is_applied_to_question_and_answer():
    server = RewardServer()
    async with opened(server) as engine:
        await complete(engine, asking("good", messages=(Message("system", "Be."), *QUESTION)))
        [(_, body)] = server.seen
        assert body["messages"] == [
            {"role": "system", "content": "Be."},
            {"role": "user", "content": "Is it?"},
            {"role": "assistant", "content": "good"},
        ]
        assert "input" not in body


async def test_every_beginning_of_an_answer_in_steps_is_judged_by_an_outcome_model():
    async with opened(RewardServer()) as engine:
        [judged] = await reward_of(engine, "good ", "bad ", "bad ", "good good")
        assert judged.rewards == (1.0, 0.0, -1.0, 1.0)
        assert judged.usage.calls == 1


async def test_a_template_makes_one_text_of_question_and_answer():
    server = RewardServer()
    async with opened(server, template="Q: {question} A: {answer}") as engine:
        await complete(engine, asking("good {question}", messages=(Message("user", "{answer}?"),)))
        assert server.seen[0][1]["input"] == ["Q: {answer}? A: good {question}"]


async def test_one_label_is_the_reward_and_of_two_the_second_ones_probability():
    async with opened(RewardServer(labels=lambda t: [40 * good_words(t)])) as engine:
        assert (await reward_of(engine, "good"))[0].rewards == (40.0,)
    async with opened(RewardServer(labels=logits)) as engine:
        assert (await reward_of(engine, "good"))[0].rewards == pytest.approx((1 / (1 + math.exp(-1)),))
    async with opened(RewardServer(labels=lambda _: [0.125, 0.875])) as engine:
        assert (await reward_of(engine, "good"))[0].rewards == (0.875,)
    async with opened(RewardServer(labels=lambda _: [0.125, 0.875]), label=0) as engine:
        assert (await reward_of(engine, "good"))[0].rewards == (0.125,)


async def test_of_more_labels_one_has_to_be_named():
    server = RewardServer(labels=lambda _: [0.1, 0.2, 0.7])
    async with judging(server):
        await refused(server.url, CapabilityError, "gives 3 labels: say by `label`")
        await refused(server.url, CapabilityError, "none of which has the number 3", label=3)
    async with opened(server, label=2) as engine:
        assert (await reward_of(engine, "good"))[0].rewards == (0.7,)


async def test_an_outcome_model_that_pools_every_token_is_read_at_its_last():
    server = RewardServer(serves=("/pooling",), labels=lambda t: [[0.5], [good_words(t)]])
    async with opened(server) as engine:
        assert (await reward_of(engine, "good good"))[0].rewards == (2.0,)


async def test_sglang_is_given_the_tokens_of_the_chat_and_asked_for_raw_rewards():
    server = RewardServer(owner="sglang")
    async with opened(server) as engine:
        judged = await asyncio.gather(*(reward_of(engine, "good " * k) for k in range(1, 4)))
        assert [j.rewards for [j] in judged] == [(1.0,), (2.0,), (3.0,)]
        [(path, body)] = server.seen
        assert path == "/classify"
        assert len(body["input_ids"]) == len(server.tokenized) == 3
        assert [j.usage.input_tokens for [j] in judged] == [len(ids) for ids in body["input_ids"]]


# Models of steps.


@pytest.mark.parametrize("tokenwise", [False, True], ids=["a row per step", "a row per token"])
async def test_a_separator_model_judges_all_steps_at_once(tokenwise):
    server = RewardServer(
        serves=("/pooling", "/classify"), model="Qwen/Qwen2.5-Math-PRM-7B", labels=logits, tokenwise=tokenwise
    )
    async with opened(server) as engine:
        [judged] = await reward_of(engine, "good start\n\n", "good\n\n", "bad bad bad")
        assert judged.rewards == pytest.approx([1 / (1 + math.exp(-v)) for v in (1, 2, -1)])
        [(_, body)] = server.seen
        assert body["messages"][0] == {"role": "system", "content": SHAPES["qwen-prm"].system}
        assert body["messages"][-1]["content"] == "good start<extra_0>good<extra_0>bad bad bad<extra_0>"
        assert len(server.tokenized) == (1 if tokenwise else 0), "the id of the mark was asked for again"


async def test_a_mark_in_an_answer_is_not_taken_for_ours():
    server = RewardServer(serves=("/pooling",), labels=logits)
    async with opened(server, shape="qwen-prm") as engine:
        [judged] = await reward_of(engine, "good<extra_0> good")
        assert judged.rewards == pytest.approx((1 / (1 + math.exp(-2)),))


async def test_another_number_of_rewards_than_of_steps_is_an_error_with_both_numbers():
    server = RewardServer(serves=("/pooling",), labels=logits)
    async with opened(server, shape="qwen-prm") as engine:
        server.garbles = {"data": [{"index": 0, "data": [[0.5, 0.5], [0.5, 0.5]]}]}
        with pytest.raises(EngineError, match=r"gave 2 numbers for 3 steps in .* tokens"):
            await reward_of(engine, "a", "b", "c")


async def test_math_shepherd_reads_texts_with_its_tag_and_the_good_word_comes_first():
    server = RewardServer(
        serves=("/pooling",), model="math-shepherd-mistral-7b-prm", labels=lambda t: [good_words(t), 0.0]
    )
    async with opened(server) as engine:
        first, second = await asyncio.gather(reward_of(engine, "good\n\n", "bad bad"), reward_of(engine, "good"))
        assert first[0].rewards == pytest.approx([1 / (1 + math.exp(-v)) for v in (1, -1)])
        assert second[0].rewards == pytest.approx([1 / (1 + math.exp(-1))])
        [(_, body)] = server.seen
        assert body["input"] == ["Is it? good ки\nbad bad ки", "Is it? good ки"]


async def test_one_number_per_step_of_a_process_model_is_a_logit():
    server = RewardServer(serves=("/pooling",), labels=lambda t: [good_words(t)])
    async with opened(server, shape="qwen-prm") as engine:
        assert (await reward_of(engine, "good", "x"))[0].rewards == pytest.approx((_probability(1), _probability(1)))


async def test_models_that_judge_turn_by_turn_are_refused_and_pointed_elsewhere():
    async with judging(RewardServer(model="RLHFlow/Llama3.1-8B-PRM-Deepseek-Data")) as server:
        await refused(server.url, SettingsError, "run it in process")


def test_the_shape_goes_by_the_name_and_then_by_the_architecture():
    assert shape_of("Qwen/Qwen2.5-Math-PRM-72B") is SHAPES["qwen-prm"]
    assert shape_of("mine", "Qwen2ForProcessRewardModel") is SHAPES["qwen-prm"]
    assert shape_of("Skywork-Reward-V2", "LlamaForSequenceClassification") is SHAPES["outcome"]
    assert shape_of("mine") is None


# What is asked together.


async def test_what_waits_at_the_same_time_goes_as_one_request():
    server = RewardServer()
    async with opened(server, template="{question} {answer}") as engine:
        judged = await asyncio.gather(*(reward_of(engine, "good " * k, "bad") for k in range(40)))
        assert [j.rewards for [j] in judged] == [(k, k - 1) for k in range(40)]
        assert [len(body["input"]) for _, body in server.seen] == [32, 32, 16]
        server.forget()
        await reward_of(engine, "good")
        await reward_of(engine, "good")
        assert [len(body["input"]) for _, body in server.seen] == [1, 1]


async def test_a_refused_batch_is_split_until_only_the_bad_item_fails():
    server = RewardServer(most=60)
    async with opened(server, template="{question} {answer}") as engine:
        answers = ["good"] * 8
        answers[5] = "far too long " * 10
        judged = await asyncio.gather(*(reward_of(engine, a) for a in answers), return_exceptions=True)
        assert [j[0].rewards for i, j in enumerate(judged) if i != 5] == [(1.0,)] * 7
        assert isinstance(judged[5], ContextError)
        assert len(server.seen) <= 1 + 2 * math.log2(8)


async def test_chats_are_requests_of_their_own_at_the_same_time():
    server = RewardServer()
    async with opened(server) as engine:
        server.go = asyncio.Event()
        judged = [asyncio.create_task(reward_of(engine, "good")) for _ in range(8)]
        assert await until(lambda: len(server.seen) == 8)
        server.go.set()
        assert [(await j)[0].rewards for j in judged] == [(1.0,)] * 8


async def test_the_bill_of_a_request_is_divided_without_a_rest():
    server = RewardServer()
    async with opened(server, template="{question} {answer}") as engine:
        judged = await asyncio.gather(*(reward_of(engine, "word " * k) for k in (1, 5, 30)))
        tokens = [j.usage.input_tokens for [j] in judged]
        assert sum(tokens) == 1 + 5 + 30 + 3 * 3
        assert tokens == sorted(tokens)


@given(st.integers(0, 10_000), st.lists(st.integers(0, 500), min_size=1, max_size=9))
def test_shares_add_up_to_the_whole(total, sizes):
    shares = _shares(total, sizes)
    assert len(shares) == len(sizes)
    assert min(shares) >= 0
    assert sum(shares) == (total if sum(sizes) else 0)


@given(st.text(), st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_the_count_of_a_prompt_is_an_upper_bound(question, steps):
    engine = HttpReward(base_url="http://127.0.0.1:1/v1")
    ends = [sum(len(step.encode()) for step in steps[: k + 1]) for k in range(len(steps))]
    assert engine.count(asking(*steps, messages=(Message("user", question),))) >= sum(
        end + len(question.encode()) for end in ends
    )


# What goes wrong.


@pytest.mark.parametrize(
    "reply",
    [
        {},
        [],
        {"data": 3},
        {"data": [{"index": 0, "probs": [None]}]},
        {"data": []},
        {"data": [{"index": 0, "probs": []}]},
    ],
)
async def test_a_reply_of_another_kind_is_an_error_and_never_a_reward(reply):
    server = RewardServer()
    async with opened(server) as engine:
        server.garbles = reply
        with pytest.raises(EngineError, match="`/classify` of"):
            await reward_of(engine, "good")


async def test_the_session_asks_again_where_that_can_help():
    server = RewardServer()
    async with opened(server) as engine:
        server.failures = [503, 503]
        session = Session(
            Place(engine=Scripted(["It is 4."]), ledger=Ledger(Budget()), run=Run(roles={"reward": engine}))
        )
        [score] = await OutcomeReward().score(PROBLEM, await session.sample(PROBLEM), session)
        assert score.value == 0.0
        assert len(server.seen) == 3
        assert session.place.ledger.spent.calls == 2


async def test_an_abort_ends_the_request_at_once():
    server = RewardServer()
    async with opened(server) as engine:
        server.go = asyncio.Event()
        abort = Abort()
        asked = asyncio.create_task(complete(engine, asking("good"), abort))
        assert await until(lambda: server.seen)
        abort.end()
        [ended] = await asyncio.wait_for(asked, 30)
        assert (ended.finish, ended.rewards, ended.usage.calls) == (Finish.aborted, (), 1)
        assert await until(lambda: server.left)


async def test_one_who_leaves_a_batch_does_not_take_the_others_along():
    server = RewardServer()
    async with opened(server, template="{answer}") as engine:
        server.go = asyncio.Event()
        stays, leaves = (asyncio.create_task(reward_of(engine, a)) for a in ("good", "bad"))
        assert await until(lambda: server.seen)
        leaves.cancel()
        server.go.set()
        assert (await stays)[0].rewards == (1.0,)
        with pytest.raises(asyncio.CancelledError):
            await leaves
        assert server.left == 0


async def test_closing_ends_what_is_under_way():
    server = RewardServer()
    async with opened(server) as engine:
        server.go = asyncio.Event()
        asked = asyncio.create_task(reward_of(engine, "good"))
        assert await until(lambda: server.seen)
        await engine.aclose()
        [ended] = await asyncio.wait_for(asked, 30)
        assert ended.finish is Finish.aborted


def test_one_engine_serves_several_event_loops():
    engines = []

    async def once(place):
        async with judging(RewardServer(), place) as server:
            engines.append(engines[0] if engines else HttpReward(base_url=server.url))
            [judged] = await reward_of(engines[-1], "good")
            await engines[-1].aclose()
            return judged.rewards

    with create_server(("127.0.0.1", 0)) as place:
        assert run(once(place)) == (1.0,)
        assert run(once(place)) == (1.0,)
    assert engines[0] is engines[1]


# In a run.


async def test_whatever_changes_the_numbers_changes_the_name():
    names = set()
    for settings in ({}, {"label": 0}, {"template": "{answer}"}, {"api": "score"}):
        async with opened(RewardServer(serves=("/classify", "/score")), **settings) as engine:
            names.add(engine.capabilities.model.partition(" by ")[2])
    assert len(names) == 4


async def test_a_pool_that_was_scored_is_not_asked_about_again():
    server, store = RewardServer(), Store(":memory:")
    async with opened(server) as engine:
        run = Run(roles={"reward": engine}, memory=store)
        session = Session(Place(engine=Scripted(["It is good.", "It is bad."]), ledger=Ledger(Budget()), run=run))
        traces = await session.sample(PROBLEM, 2)
        first = await OutcomeReward().score(PROBLEM, traces, session)
        again = await OutcomeReward().score(PROBLEM, traces, session)
        assert first == again
        assert [s.value for s in first] == [1.0, -1.0]
        assert len(server.seen) == 2
        assert session.place.ledger.spent.calls == 2 + 4, "replayed calls are charged like fresh ones"
    store.close()


async def test_best_of_n_with_a_reward_model_runs_on_one_ledger():
    server = RewardServer()
    said = ["Bad: bad. It is 11.", "So good. The answer is 12.", "The answer is 13.", "bad bad. The answer is 12."]
    async with judging(server):
        engine = HttpReward(base_url=server.url)
        writer = Scripted(said)
        method = parse("best-of-n(n=4, scorer=outcome-reward)", "method")
        outcome = await solve(
            PROBLEM,
            method,
            writer,
            budget=Budget(),
            run=Run(roles={"reward": engine}),
            sampling=Sampling(max_tokens=64),
        )
        await engine.aclose()
    assert outcome.answer == "12"
    assert [t.scores[-1].value for t in outcome.traces] == [-1.0, 1.0, 0.0, -2.0]
    assert outcome.usage.calls == 4 + 4 == method.ceiling(64).calls
    assert outcome.usage.output_tokens == writer.spent.output_tokens
    assert outcome.usage.input_tokens > writer.spent.input_tokens
    assert len(server.seen) == 1 + 4, "one more to find the endpoint"


@pytest.mark.parametrize("usd", [0, 20, 45, 110, 250, 900])
async def test_judging_never_costs_more_than_was_allowed(usd):
    server = RewardServer()
    async with opened(server, price=Price(input=1e6)) as engine:
        session = Session(Place(engine=Scripted(), ledger=Ledger(Budget(usd=usd)), run=Run(roles={"reward": engine})))
        segments = [Segment(text="good " * k, origin=Origin.sampled, tokens=k) for k in (9, 1, 4)]
        traces = [Trace(prompt=QUESTION, segments=(s,), finish=Finish.eos) for s in segments]
        scores = await OutcomeReward().score(PROBLEM, traces, session)
        assert (session.place.ledger.spent.usd or 0.0) <= usd
        # Of what fits for sure, the first in draw order: at most one dollar a byte.
        bought = [math.isfinite(s.value) for s in scores]
        assert bought == sorted(bought, reverse=True)
        assert all(bought) == (usd >= 250)
        assert any(bought) == (usd >= 250 or usd >= engine.count(asking("good " * 9)))


async def test_a_reward_model_that_fails_leaves_the_vote_and_a_warning():
    server = RewardServer()
    async with opened(server) as engine:
        server.failures = [400] * 9
        method = parse("best-of-n(n=3, scorer=outcome-reward)", "method")
        writer = Scripted(["The answer is 1.", "The answer is 2.", "The answer is 2."])
        outcome = await solve(PROBLEM, method, writer, budget=Budget(), run=Run(roles={"reward": engine}))
        assert outcome.answer == "2"
        assert any("could not be judged" in warning for warning in outcome.warnings)


async def test_a_server_may_be_named_in_a_model_string():
    async with judging(RewardServer()) as server:
        main, roles = engines_for(f'scripted,reward=http-reward(base_url="{server.url}", model=judge, api=classify)')
        assert isinstance(roles["reward"], HttpReward)
        assert main.capabilities.model == "scripted"
        method = parse("best-of-n(n=2, scorer=process-reward)", "method")
        writer = Scripted([Line(says="So.\n\nThe answer is 4."), Line(says="It is 5.")])
        outcome = await solve(Problem.of("2 + 2?"), method, writer, budget=Budget(), run=Run(roles=roles))
        assert [len(t.scores[-1].steps) for t in outcome.traces] == [2, 1]
        await roles["reward"].aclose()
