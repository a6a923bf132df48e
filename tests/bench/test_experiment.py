"""Methods over a task share their draws, are charged what they needed, and are compared at equal tokens."""

import asyncio
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from thinkscale.bench.compare import majority_at_tokens, pair, rows
from thinkscale.bench.experiment import Plan, Result, logprobs_for, require_all, run_method
from thinkscale.bench.library import Reading, import_file, load_pool
from thinkscale.bench.majority import votes_of
from thinkscale.bench.offline import FEW, select, stop
from thinkscale.bench.tasks import Item
from thinkscale.engines.protocol import Capability
from thinkscale.engines.scripted import EVERYTHING, Line, Scripted
from thinkscale.errors import BenchError, CapabilityError, ScorerError, SettingsError
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.methods.single import Single
from thinkscale.registry import parse
from thinkscale.selection.best import Best
from thinkscale.selection.majority import Majority
from thinkscale.selection.rpc import Rpc
from thinkscale.stopping.ahead_by_k import AheadByK
from thinkscale.stopping.fixed import Fixed
from thinkscale.store import Store
from thinkscale.types import AnswerKind, Problem

RECORDED = Path(__file__).parents[1] / "data" / "recorded"


def items(n=3):
    return [Item(id=str(i), problem=Problem.of(f"{i} + 0?", AnswerKind.math), gold=(str(i),)) for i in range(n)]


def answers(cue):
    """Right in two draws of three."""
    return Line(says=f" The answer is {int(cue.prompt.split()[0]) + (cue.seed % 3 == 0)}.")


async def results(method, store, engine=None, **plan):
    engine = engine or Scripted(answers)
    heard = []
    found = await run_method(
        method, items(), Plan(engine=engine, roles={}, store=store, **plan), logprobs=None, heard=heard.append
    )
    assert sorted(r.item for r in heard) == [r.item for r in found]
    return found, engine


async def test_methods_share_draws_and_an_early_stop_is_charged_only_what_it_needed():
    store = Store(":memory:")
    full, engine = await results(SelfConsistency(n=8, stop=Fixed()), store)
    assert len(engine.cues) == 24
    early, silent = await results(SelfConsistency(n=8, stop=AheadByK(k=2)), store)
    assert not silent.cues
    alone, _ = await results(SelfConsistency(n=8, stop=AheadByK(k=2)), None, concurrency=1)
    assert [r.needed for r in early] == [r.needed for r in alone]
    assert sum(r.needed for r in early) < sum(r.needed for r in full)
    assert [r.answer for r in early] == [r.answer for r in alone]
    store.close()


async def test_an_experiment_resumes_where_it_stopped():
    store = Store(":memory:")
    method = SelfConsistency(n=4, stop=Fixed())
    first = Plan(engine=Scripted(answers), roles={}, store=store)
    await run_method(method, items(2), first, logprobs=None, heard=lambda _: None)
    _, engine = await results(method, store)
    assert len(engine.cues) == 4
    store.close()


async def test_problems_may_run_at_once_and_come_back_in_order():
    one, _ = await results(SelfConsistency(n=4), None)
    many, _ = await results(SelfConsistency(n=4), None, jobs=3)
    assert [(r.item, r.answer, r.paid) for r in one] == [(r.item, r.answer, r.paid) for r in many]


def result(item, keys, *, right, tokens, gold="a"):
    votes = votes_of(keys, [float(k == gold) if k else 0.0 for k in keys])
    return Result(
        item=item,
        answer="a",
        right=right,
        calls=len(keys),
        needed=tokens,
        paid=tokens,
        seconds=1.0,
        stopped="done",
        run="",
        credit=float(right),
        attempts=len(keys),
        silent=keys.count(None),
        votes=votes,
        drawn=10 * len(keys),
    )


def test_majority_at_equal_tokens_is_read_off_the_pool_between_whole_numbers():
    pool = [
        result("0", ["a", "a", "b", "a"], right=True, tokens=40),
        result("1", ["b", None, "b", "a"], right=False, tokens=40),
    ]
    one, votes, capped = majority_at_tokens(pool, 10)
    np.testing.assert_allclose(one, [0.75, 0.25])
    assert (votes, capped) == (1.0, False)
    between, votes, _ = majority_at_tokens(pool, 25)
    two, three = majority_at_tokens(pool, 20)[0], majority_at_tokens(pool, 30)[0]
    assert votes == 2.5
    np.testing.assert_allclose(between, (two + three) / 2)
    assert majority_at_tokens(pool, 400)[1:] == (4.0, True)


def test_a_row_is_paired_with_majority_at_its_own_tokens():
    pool = [result(str(i), ["a", "b"], right=True, tokens=20) for i in range(4)]
    cheap = [result(str(i), ["a"], right=i < 3, tokens=10) for i in range(4)]
    [row] = rows([("cheap", cheap)], pool)
    assert (row.accuracy, row.votes, row.needed, row.majority) == (0.75, 1.0, 10.0, pytest.approx(0.5))
    assert row.difference == pytest.approx(0.25)
    assert row.low <= row.difference <= row.high


def test_any_two_methods_are_compared_as_they_are():
    cheap = [result(str(i), ["a"], right=i < 3, tokens=10) for i in range(4)]
    dear = [result(str(i), ["a"] * 4, right=True, tokens=40) for i in range(4)]
    found = pair(("cheap", cheap), ("dear", dear))
    assert (found.method, found.against, found.difference, found.tokens) == ("cheap", "dear", -0.25, 0.25)
    assert found.low <= found.difference <= found.high
    back = pair(("dear", dear), ("cheap", cheap))
    assert (back.difference, back.tokens) == (0.25, 4)
    assert math.isnan(pair(("one", cheap[:1]), ("other", dear[:1])).low)


async def test_a_method_that_ties_does_not_beat_or_lose_to_a_vote_over_the_same_attempts():
    def tied(cue):
        return Line(says=f" The answer is {int(cue.prompt.split()[0]) + cue.number % 2}.")

    found, _ = await results(SelfConsistency(n=2, stop=Fixed()), None, Scripted(tied))
    assert [r.right for r in found] == [True] * 3
    assert [r.credit for r in found] == [0.5] * 3
    [row] = rows([("majority", found)], found)
    assert (row.accuracy, row.majority, row.difference) == pytest.approx((0.5, 0.5, 0))
    best, _ = await results(parse("best-of-n(n=2, scorer=length)", "method"), None, Scripted(tied))
    assert [r.credit for r in best] == [0.5] * 3  # both texts are as long, so the scores tie


async def test_attempts_without_an_answer_or_cut_off_are_told_by_their_share():
    def silent(cue):
        return Line(says=" no idea" if cue.number % 4 else " The answer is 0." + " so" * 100)

    found, _ = await results(SelfConsistency(n=4, stop=Fixed()), None, Scripted(silent), max_tokens=20)
    [row] = rows([("majority", found)], found)
    assert row.silent >= 0.75
    assert row.cut == 0.25


async def test_seconds_are_told_only_of_a_method_that_made_all_of_its_draws():
    store = Store(":memory:")
    full, _ = await results(SelfConsistency(n=4, stop=Fixed()), store)
    again, _ = await results(SelfConsistency(n=4, stop=AheadByK(k=4)), store)
    more, _ = await results(SelfConsistency(n=6, stop=Fixed()), store)
    first, second, third = rows([("full", full), ("again", again), ("more", more)], full)
    assert first.seconds == sum(r.seconds for r in full)
    assert (second.seconds, third.seconds) == (None, None)
    store.close()


def test_where_the_budget_bought_no_attempt_majority_is_not_right():
    pool = [result("0", ["a", "a"], right=True, tokens=20), result("1", [], right=False, tokens=0)]
    shares, votes, capped = majority_at_tokens(pool, 20)
    assert (shares.tolist(), votes, capped) == ([1.0, 0.0], 1.0, True)
    nothing = [result("0", [], right=False, tokens=0)] * 2
    assert rows([("nobody", nothing)], nothing)[0].accuracy == 0


async def test_a_grid_of_which_one_method_cannot_run_is_refused_before_the_first_draw():
    plan = Plan(engine=Scripted(answers, can=EVERYTHING - {Capability.prefill}), roles={}, store=None)
    for spec, error in (("budget-forcing", CapabilityError), ("ensemble(models=[main, other])", SettingsError)):
        with pytest.raises(error):
            await require_all([Single(), parse(spec, "method")], plan)
    await require_all([Single(), SelfConsistency()], plan)


async def test_what_ends_an_experiment_is_raised_by_itself():
    method = parse("best-of-n(n=2, scorer=length, select=weighted-vote)", "method")
    with pytest.raises(ScorerError, match="weights below 0"):
        await results(method, None, jobs=3)


def test_all_methods_ask_for_as_many_likely_tokens_as_the_greediest():
    specs = ["single", "best-of-n(scorer=mean-logprob)", "deepconf-online(top=7)"]
    methods = [parse(spec, "method") for spec in specs]
    assert [logprobs_for(methods[:n]) for n in (1, 2, 3)] == [None, 0, 7]


async def imported(store, file, **how):
    return await import_file(RECORDED / file, store, **how)


async def test_recorded_attempts_are_imported_once_and_selected_from_for_ever():
    store = Store(":memory:")
    [name] = await imported(store, "smollm2_toy_6x8.jsonl.gz")
    assert name == "smollm2_toy_6x8" or name.startswith("smollm2_toy_6x8")
    await imported(store, "smollm2_toy_6x8.jsonl.gz")
    assert store.pool_names() == [name]
    questions = load_pool(store, name)
    assert [len(q.traces) for q in questions] == [8] * 6
    mean = np.mean([np.mean([q.credits[t.answer.key] if t.answer else 0 for t in q.traces]) for q in questions])
    [majority, best] = select(questions, [Majority(), Best()], [1, 8], resamples=200)
    assert majority.accuracy[0] == pytest.approx(mean, abs=0.05)
    assert majority.against.difference == 0
    assert len(best.accuracy) == 2
    store.close()


async def test_stop_rules_on_a_pool_take_what_they_would_take_live():
    store = Store(":memory:")
    [name] = await imported(store, "smollm2_toy_6x8.jsonl.gz")
    questions = load_pool(store, name)
    full, early, reads = stop(
        questions, [Fixed(), AheadByK(k=2), parse("early-exit(threshold=0.0)", "stop-rule")], 8, orders=20
    )
    assert (full.samples, full.against.difference) == (8, 0)
    assert full.needed == np.mean([sum(t.tokens for t in q.traces) for q in questions])
    assert 2 <= early.samples < 8
    assert reads.samples <= 8
    assert not any(row.note for row in (full, early, reads))
    partly = [replace(q, traces=tuple(replace(t, scores=()) for t in q.traces)) for q in questions[:1]]
    rules = ("early-exit", "early-exit(kind=other)", "soft-adaptive", "confidence-mass")
    rows = stop([*partly, *questions[1:]], [parse(rule, "stop-rule") for rule in rules], 8, orders=2)
    assert [row.note.partition(", so")[0] for row in rows] == [
        "on 1 of 6 questions no answer has a score",
        "no answer has a `other` score",
        "",
        "on 1 of 6 questions no answer has a score",
    ]
    assert rows[1].samples == 8
    store.close()


async def test_answers_and_tokens_alone_are_a_pool():
    store = Store(":memory:")
    [name] = await imported(store, "boinf_aime25_30x40.jsonl")
    questions = load_pool(store, name)
    assert len(questions) == 30
    [row] = stop(questions, [Fixed()], 40, orders=5)
    assert row.samples == 40
    store.close()


def pool_of(path, *samples):
    path.write_text(json.dumps({"question_id": "q", "question": "1 + 1?", "gold": "2", "samples": samples}))
    return path


async def test_an_attempt_to_which_the_source_found_no_answer_has_none_where_it_found_others(tmp_path):
    store = Store(":memory:")
    samples = [{"text": "The answer is 2.", "answer": "2"}, {"text": "The answer is 2.", "answer": "invalid"}]
    [name] = await import_file(pool_of(tmp_path / "pool.jsonl", *samples), store)
    [question] = load_pool(store, name)
    assert [t.answer and t.answer.key for t in question.traces] == ["2", None]
    store.close()


async def test_texts_that_the_source_only_judged_are_read_and_keep_its_verdicts(tmp_path):
    store = Store(":memory:")
    samples = [{"text": "The answer is 2.", "correct": False}, {"text": "The answer is 3.", "correct": True}]
    path = pool_of(tmp_path / "pool.jsonl", *samples)
    [name] = await import_file(path, store)
    [again] = await import_file(path, store, name="again", reading=Reading.text)
    assert load_pool(store, name)[0].credits == {"2": 0.0, "3": 1.0}
    assert load_pool(store, again)[0].credits == {"2": 1.0, "3": 0.0}
    store.close()


async def test_a_slow_rule_sees_fewer_subsets_and_says_so():
    store = Store(":memory:")
    [name] = await imported(store, "smollm2_toy_6x8.jsonl.gz")
    questions = load_pool(store, name)
    [many] = select(questions, [Rpc()], [2, 8], resamples=FEW + 1)
    [few] = select(questions, [Rpc()], [2, 8], resamples=FEW)
    assert many.accuracy == few.accuracy
    assert str(FEW) in many.note
    assert not few.note
    store.close()


async def test_text_can_be_read_again_instead_of_the_sources_answers():
    store = Store(":memory:")
    [name] = await imported(store, "smollm2_toy_6x8.jsonl.gz", name="again", reading=Reading.text)
    assert name.startswith("again")
    assert all(t.answer is None or t.answer.key in q.credits for q in load_pool(store, name) for t in q.traces)
    store.close()


async def test_an_unknown_pool_and_too_few_attempts_are_said():
    store = Store(":memory:")
    with pytest.raises(BenchError, match="thinkscale import FILE"):
        load_pool(store, "x")
    [name] = await imported(store, "smollm2_toy_6x8.jsonl.gz")
    with pytest.raises(BenchError, match=f"did you mean `{name}`"):
        load_pool(store, name[:-1])
    with pytest.raises(BenchError, match="9 attempts were asked for and a question has 8"):
        select(load_pool(store, name), [Majority()], [9], resamples=10)
    store.close()


def test_the_plan_needs_no_store():
    found, _ = asyncio.run(results(Single(), None))
    assert [r.run for r in found] == ["", "", ""]
