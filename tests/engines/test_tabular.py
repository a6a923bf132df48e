"""The exact model: what it samples has the probabilities that its closed forms say."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkscale.engines.protocol import Abort, Request, complete
from thinkscale.engines.tabular import END, START, TOY, Tabular, processed_logits
from thinkscale.errors import EngineError
from thinkscale.types import Finish, LogprobSpace, Message, Origin, Sampling, Segment

PROMPT = (Message("user", "2 + 2?"),)
CHAIN = {
    START: {"a": 0.5, "b": 0.3, "c": 0.2},
    "a": {"a": 0.4, "b": 0.4, END: 0.2},
    "b": {"c": 0.9, END: 0.1},
    "c": {END: 1.0},
}
GEOMETRIC = {START: {"x": 1.0}, "x": {"x": 0.8, END: 0.2}}
N = 4000


async def drawn(engine, n=1, prefix=(), **sampling):
    sampling = Sampling(**{"max_tokens": 60, **sampling})
    return await complete(engine, Request(messages=PROMPT, prefix=prefix, sampling=sampling, seeds=tuple(range(n))))


def frequencies(done):
    return {text: count / len(done) for text, count in Counter(c.text for c in done).items()}


def near(p, n=N):
    return pytest.approx(p, abs=4.5 * math.sqrt(p * (1 - p) / n) + 1e-9)


def segment(text, origin=Origin.sampled):
    return Segment(text=text, origin=origin)


@pytest.mark.parametrize("table", [TOY, CHAIN], ids=["toy", "chain"])
async def test_texts_appear_as_often_as_their_probability_says(table):
    engine = Tabular(table)
    seen = frequencies(await drawn(engine, N))
    for text, share in seen.items():
        assert share == near(engine.probability(text))
    assert math.fsum(engine.probability(text) for text in seen) == pytest.approx(1, abs=0.02)


async def test_a_constant_hazard_gives_its_mean_length():
    engine = Tabular(GEOMETRIC)
    done = await drawn(engine, N, max_tokens=500)
    assert engine.hazard("x") == 0.2
    assert sum(c.tokens - 1 for c in done) / N == pytest.approx(5, abs=4.5 * math.sqrt(20 / N))


async def test_a_bias_of_log_s_multiplies_the_odds_by_s():
    engine = Tabular(GEOMETRIC)
    bias = {engine.vocabulary.index(END): math.log(2)}
    done = await drawn(engine, N, max_tokens=500, logit_bias=bias)
    # Odds 1/4 become 1/2: the hazard is 1/3 and the mean length 3.
    assert sum(c.tokens - 1 for c in done) / N == pytest.approx(3, abs=4.5 * math.sqrt(6 / N))


async def test_temperature_zero_takes_the_likeliest_token_and_the_first_of_equals():
    assert {c.text for c in await drawn(Tabular(), 5, temperature=0.0)} == {"The answer is 4"}
    even = Tabular({START: {"b": 0.5, "a": 0.5}, "a": {END: 1.0}, "b": {END: 1.0}})
    assert {c.text for c in await drawn(even, 5, temperature=0.0)} == {"a"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"temperature": 0.5}, {"4": 0.25 / 0.38, "5": 0.09 / 0.38, "6": 0.04 / 0.38}),
        ({"top_k": 2}, {"4": 0.625, "5": 0.375}),
        ({"top_k": 1}, {"4": 1.0}),
        ({"top_p": 0.5}, {"4": 1.0}),
        ({"top_p": 0.6}, {"4": 0.625, "5": 0.375}),
        ({"top_p": 1.0}, {"4": 0.5, "5": 0.3, "6": 0.2}),
        ({"min_p": 0.5}, {"4": 0.625, "5": 0.375}),
        ({"min_p": 1.0}, {"4": 1.0}),
        ({"banned": (" 4",)}, {"5": 0.6, "6": 0.4}),
        ({"top_k": 2, "temperature": 0.5}, {"4": 0.25 / 0.34, "5": 0.09 / 0.34}),
    ],
    ids=str,
)
async def test_every_setting_changes_the_distribution_as_its_definition_says(settings, expected):
    seen = frequencies(await drawn(Tabular(), N, **settings))
    assert {text[-1]: share for text, share in seen.items()} == {k: near(p) for k, p in expected.items()}
    engine = Tabular()
    banned = {engine.vocabulary.index(t) for t in settings.get("banned", ())}
    z = processed_logits(engine._logits("The answer is"), Sampling(**settings), banned)
    exact = {t.strip(): math.exp(x) for t, x in zip(engine.vocabulary, z, strict=True) if x > -math.inf}
    assert exact == pytest.approx(expected)


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=6), st.floats(0.05, 3), st.integers(0, 6), st.floats(0.01, 1))
def test_what_is_sampled_from_is_always_a_distribution_over_the_likeliest(weights, temperature, top_k, top_p):
    raw = [math.log(w / sum(weights)) for w in weights]
    z = processed_logits(raw, Sampling(temperature=temperature, top_k=top_k or None, top_p=top_p), set())
    kept = [x for x in z if x > -math.inf]
    assert math.fsum(map(math.exp, kept)) == pytest.approx(1)
    assert not top_k or len(kept) <= top_k
    assert z[raw.index(max(raw))] > -math.inf


async def test_a_turn_cannot_end_before_its_least_length():
    done = await drawn(Tabular(GEOMETRIC), 200, min_tokens=4)
    assert min(c.tokens for c in done) == 5
    assert all(c.finish is Finish.eos for c in done)


async def test_the_cap_and_the_end_are_told_apart_and_the_end_counts_as_a_token():
    [short] = await drawn(Tabular(), max_tokens=2)
    [exact] = await drawn(Tabular(), max_tokens=3)
    [nothing] = await drawn(Tabular(), max_tokens=0)
    assert [(c.tokens, c.finish) for c in (short, exact, nothing)] == [
        (2, Finish.length), (3, Finish.eos), (0, Finish.length),
    ]  # fmt: skip


async def test_a_stop_string_may_end_in_the_middle_of_a_token():
    [done] = await drawn(Tabular(), stop=("answer",))
    assert (done.text, done.finish, done.stop_string, done.token_ids) == ("The ", Finish.stop, "answer", ())
    assert done.tokens == 1


async def test_the_same_seed_draws_the_same_whatever_else_is_in_the_request():
    engine = Tabular(CHAIN)
    many = await drawn(engine, 6)
    for seed in range(6):
        asked = Request(messages=PROMPT, sampling=Sampling(max_tokens=60), seeds=(seed,))
        assert (await complete(engine, asked))[0].text == many[seed].text


@pytest.mark.parametrize("text", ["a", "ab", "aab"])
async def test_a_continuation_goes_on_from_the_last_token(text):
    engine = Tabular(CHAIN)
    seen = frequencies(await drawn(engine, N, prefix=tuple(segment(t) for t in (text[:-1], text[-1]) if t)))
    for more, share in seen.items():
        assert share == near(engine.probability(text + more) / math.prod(
            engine.row(a)[b] for a, b in zip([START, *text], text, strict=False)
        ))  # fmt: skip


async def test_after_a_text_that_is_in_no_token_the_chain_starts_afresh():
    done = await drawn(Tabular(), 3, prefix=(segment("Wait!", Origin.injected),))
    assert all(c.text.startswith("The answer is") for c in done)


@pytest.mark.parametrize("text", ["", "a", "abc", "aaab"])
async def test_the_likelihood_of_a_text_is_the_log_of_its_probability(text):
    engine = Tabular(CHAIN)
    asked = Request(messages=PROMPT, sampling=Sampling(logprobs=0, max_tokens=0), continuation=text)
    [scored] = await complete(engine, asked)
    ends = engine.hazard(text[-1]) if text else 1.0
    exact = engine.probability(text) / ends if text else 1.0
    assert math.exp(math.fsum(scored.logprobs.chosen)) == pytest.approx(exact)
    assert (scored.tokens, scored.usage.output_tokens) == (0, 0)
    assert scored.usage.input_tokens == engine.count(asked)


async def test_log_probabilities_are_raw_unless_they_are_asked_for_as_sampled():
    engine = Tabular()
    for done in await drawn(engine, 20, logprobs=2, temperature=0.5):
        assert math.fsum(done.logprobs.chosen) == pytest.approx(math.log(engine.probability(done.text)))
        assert [round(math.exp(p), 6) for _, p in done.logprobs.top[1]] == [0.5, 0.3]
        assert len(done.logprobs.chosen) == len(done.logprobs.logsumexp) == len(done.logprobs.top) == done.tokens
    [done] = await drawn(engine, logprobs=1, temperature=0.5, logprob_space=LogprobSpace.processed)
    assert math.exp(done.logprobs.top[1][0][1]) == pytest.approx(0.25 / 0.38)


def test_entropy_hazard_and_self_certainty_have_their_closed_forms():
    engine = Tabular(CHAIN)
    assert engine.entropy("c") == 0
    assert engine.entropy("b") == pytest.approx(-(0.9 * math.log(0.9) + 0.1 * math.log(0.1)))
    assert (engine.hazard("a"), engine.hazard("c"), engine.hazard("a", end="b")) == (0.2, 1.0, 0.4)
    assert engine.self_certainty("c") == math.inf
    assert engine.probability("ab") == pytest.approx(0.5 * 0.4 * 0.1)
    assert engine.probability("ba") == 0


async def test_an_abort_keeps_what_was_drawn():
    abort, heard = Abort(), []
    endless = Tabular({START: {"x": 1.0}}, pause=True)
    asked = Request(messages=PROMPT, sampling=Sampling(), seeds=(0, 1))
    async for chunk in endless.stream(asked, abort):
        heard.append(chunk)
        abort.everything = len(heard) >= 5
    done = [c.completion for c in heard if c.completion]
    assert [(c.text, c.finish, c.tokens) for c in done] == [("xxxxx", Finish.aborted, 5), ("", Finish.aborted, 0)]


async def test_a_ban_on_every_token_is_an_engine_error():
    with pytest.raises(EngineError, match="banned"):
        await drawn(Tabular(GEOMETRIC), banned=("x", END))


@pytest.mark.parametrize("row", [{"a": 0.5}, {"a": 1.5, "b": -0.5}])
def test_a_row_that_is_no_distribution_is_refused(row):
    with pytest.raises(ValueError, match="sum to 1"):
        Tabular({START: row})


def test_the_name_of_a_model_is_its_table():
    assert Tabular(TOY).capabilities.model == Tabular().capabilities.model
    assert Tabular(CHAIN).capabilities.model != Tabular().capabilities.model
