from thinkscale.types import (
    Answer,
    AnswerKind,
    Finish,
    Logprobs,
    LogprobSpace,
    Message,
    Origin,
    Outcome,
    Problem,
    Ranking,
    Segment,
    Trace,
    Usage,
)

PROMPT = (Message("user", "2 + 2?"),)


def test_unknown_usage_stays_unknown_only_where_both_sides_did_not_know():
    unknown, known = Usage(calls=1), Usage(calls=2, input_tokens=3, cached_tokens=0, reasoning_tokens=4, usd=0.5)
    assert (unknown + unknown).input_tokens is None
    assert (unknown + unknown).usd is None
    for both in (unknown + known, known + unknown):
        assert (both.calls, both.input_tokens, both.cached_tokens, both.reasoning_tokens, both.usd) == (3, 3, 0, 4, 0.5)


def test_adding_zero_usage_changes_nothing():
    spent = Usage(calls=2, input_tokens=0, output_tokens=7, seconds=1.5, usd=0.0)
    assert spent + Usage() == spent == Usage() + spent


def test_injected_text_is_part_of_the_text_and_never_of_the_tokens():
    said = Segment(text="a b", origin=Origin.sampled, tokens=2)
    trace = Trace(prompt=PROMPT, segments=(said,), finish=Finish.stop, stop_string="x").inject("Wait")
    assert (trace.text, trace.tokens) == ("a bWait", 2)
    assert (trace.finish, trace.stop_string) == (Finish.open, None)


def test_injecting_nothing_leaves_a_trace_as_it_is():
    trace = Trace(prompt=PROMPT, finish=Finish.eos)
    assert trace.inject("") is trace


def test_a_turn_goes_on_behind_a_step_or_a_cap_and_nowhere_else():
    assert {f for f in Finish if Trace(prompt=PROMPT, finish=f).growing} == {Finish.open, Finish.length}


def test_every_end_is_the_models_own_a_limit_or_a_loss():
    assert all(f.ended + f.cut + f.lost == (f is not Finish.open) for f in Finish)


def test_the_question_is_the_last_thing_the_user_said():
    messages = (Message("user", "first"), Message("assistant", "no"), Message("user", "second"), Message("system", "s"))
    assert Problem(messages=messages).question == "second"
    assert Problem(messages=(Message("user", ({"type": "image"},)),)).question == ""
    parts = ({"type": "text", "text": "What"}, {"type": "image"}, {"type": "text", "text": "is it?"})
    assert Problem(messages=(Message("user", parts),)).question == "What\n\nis it?"
    assert Problem.of("why?", AnswerKind.text).answer_kind is AnswerKind.text


def test_a_problem_has_no_place_for_a_reference_answer():
    assert {f for f in Problem.__dataclass_fields__ if "ref" in f or "gold" in f or "solution" in f} == set()


def test_an_outcome_without_a_winner_has_no_answer():
    silent = Trace(prompt=PROMPT, finish=Finish.length)
    assert Outcome.of(Ranking(best=silent), [silent]).answer is None
    spoken = Trace(prompt=PROMPT, answer=Answer("4", "4"))
    assert Outcome.of(Ranking(best=spoken), [silent, spoken]).answer == "4"


def test_joined_logprobs_keep_how_tokens_are_spelled():
    a, b = (Logprobs(space=LogprobSpace.raw, chosen=(-1.0,), texts=(t,), top_texts=((t, "x"),)) for t in "ab")
    assert (a + b).texts == ("a", "b")
    assert (a + b).top_texts == (("a", "x"), ("b", "x"))


def test_joined_logprobs_keep_one_entry_per_token():
    a = Logprobs(space=LogprobSpace.raw, chosen=(-1.0,), logsumexp=(0.0,), mean_logit=(-2.0,), vocab=5, entropy=(0.1,))
    both = a + Logprobs(space=LogprobSpace.raw, chosen=(-3.0, -4.0), logsumexp=(0.0, 0.0), mean_logit=(-2.0, -2.0))
    assert (both.chosen, len(both.logsumexp), len(both.mean_logit), both.vocab) == ((-1.0, -3.0, -4.0), 3, 3, 5)
    assert (a + a).entropy == (0.1, 0.1)
