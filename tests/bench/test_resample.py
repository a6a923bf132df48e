"""What is computed for many subsets at once is what the rule itself says of each."""

import numpy as np
import pytest

from thinkscale.bench.majority import majority_at_k, votes_of
from thinkscale.bench.metrics import best_at_k
from thinkscale.bench.resample import RANGE, credits, curves, estimates, singular
from thinkscale.bench.subsets import Graded, random_orders, shuffle, subsets
from thinkscale.built_in import BUILT_IN
from thinkscale.registry import parse
from thinkscale.selection.numeric import Numeric
from thinkscale.selection.picking import Picking
from thinkscale.types import Answer, Finish, Logprobs, LogprobSpace, Message, Origin, Score, Segment, Trace

SPECS = (
    *(name for name in BUILT_IN["selector"] if name not in ("mean", "median")),
    "majority(invalid=vote)",
    "weighted-vote(transform=sigmoid)",
    "weighted-vote(transform=softmax, temperature=0.3)",
    "weighted-vote(transform=rank)",
    "borda(p=1.2)",
    "confidence-filtered-vote(keep=10)",
    "perplexity-consistency(probability=sequence)",
    "minimum-bayes-risk(utility=edit)",
)
WORDS = ("red box", "red ball", "blue box", "cart", "blue cart", "lamp")


def pool(seed, n=9, *, ties=False, long=False):
    """Random attempts: some without an answer, some that said the same, with scores that tie or do not."""
    rng = np.random.default_rng(seed)
    traces = []
    for i in range(n):
        c = int(rng.integers(0, 6))
        text = f"attempt {int(rng.integers(0, 6))} says {c}" if rng.random() < 0.4 else f"own attempt {i} says {c}"
        score = float(rng.integers(0, 4)) / 4 if ties else float(rng.random())
        chosen = tuple(-rng.random(int(rng.integers(1, 6))) * (400 if long else 1))
        part = Segment(
            text=text,
            origin=Origin.sampled,
            tokens=len(chosen),
            logprobs=Logprobs(space=LogprobSpace.raw, chosen=chosen),
        )
        traces.append(
            Trace(
                prompt=(Message("user", "?"),),
                path=(i,),
                segments=(part,),
                finish=Finish.eos,
                answer=Answer(WORDS[c], f"k{c}") if rng.random() < 0.85 else None,
                scores=(Score(value=score, kind="test"),),
            )
        )
    return traces


def graded(rule, traces, right=("k0", "k1")):
    ballots = rule.ballots(traces)
    return Graded(ballots, np.array([float(key in right) for key in ballots.keys]))


def named(rule, traces, right=("k0", "k1")):
    """Credit of the rule called on a list of traces: its leaders by the ranking, ties shared out."""
    ranking = rule(traces)
    if not ranking.votes:
        return 0.0
    if isinstance(rule, Picking):
        ballots = rule.ballots(traces)
        leads = [t for t, lead in zip(traces, rule.leading(ballots), strict=True) if lead]
        if leads:
            return sum(t.answer.key in right for t in leads) / len(leads)
    leaders = [v for v in ranking.votes if v.weight == ranking.votes[0].weight]
    return sum(v.key in right for v in leaders) / len(leaders)


def test_only_rules_that_weigh_a_pool_as_a_whole_are_asked_about_every_subset():
    rules = {name: parse(name, "selector") for name in BUILT_IN["selector"]}
    whole = [name for name, rule in rules.items() if not isinstance(rule, Numeric) and singular(rule)]
    assert whole == ["best-of-majority", "majority-of-bests", "pessimistic", "rpc"]


@pytest.mark.parametrize("ties", [False, True], ids=["no ties", "ties"])
@pytest.mark.parametrize("spec", SPECS)
def test_every_subset_is_credited_as_if_the_rule_were_called_on_it(spec, ties):
    rule = parse(spec, "selector")
    pools = [pool(seed, ties=ties) for seed in range(4)]
    orders = random_orders(9, resamples=6)
    rows = [shuffle(orders, problem) for problem in range(4)]
    found = credits(rule, [graded(rule, p) for p in pools], orders, rows)
    for problem, traces in enumerate(pools):
        for number, order in enumerate(subsets(orders, rows[problem])):
            slow = [named(rule, [traces[i] for i in order[:k]]) for k in orders.sizes]
            assert found[problem, :, number].tolist() == slow


@pytest.mark.parametrize("spec", SPECS)
def test_partial_credit_is_shared_like_whole_credit(spec):
    rule = parse(spec, "selector")
    ballots = rule.ballots(pool(5))
    worth = np.linspace(0, 1, len(ballots.keys))
    orders = random_orders(9, resamples=20)
    rows = [shuffle(orders, 0)]
    each = [
        credits(rule, [Graded(ballots, np.eye(len(worth))[c])], orders, rows) * value for c, value in enumerate(worth)
    ]
    assert credits(rule, [Graded(ballots, worth)], orders, rows) == pytest.approx(sum(each))


def test_probabilities_beyond_the_range_of_a_double_go_one_by_one():
    rule = parse("perplexity-consistency(probability=sequence)", "selector")
    traces = pool(1, long=True)
    ballots = rule.ballots(traces)
    assert np.ptp(ballots.scores[ballots.votes]) > RANGE
    orders = random_orders(9, resamples=20)
    rows = shuffle(orders, 0)
    [found] = credits(rule, [graded(rule, traces)], orders, [rows])
    order = subsets(orders, rows)
    slow = [[named(rule, [traces[i] for i in o[:k]]) for o in order] for k in orders.sizes]
    assert found.tolist() == slow


def rescored(traces, scores):
    return [t.scored(Score(value=value, kind="own")) for t, value in zip(traces, scores, strict=True)]


HAIR = [1.0, 1.0, 1e-9, 2.0, 1.0 + 2**-20, 1.0, 3e-9, 1.0, 2.0]
FAINT = [1.0, 1e-45, 2e-45, 1e-60, 1e-300, 1.0, 3e-45, 2e-60, 0.0]


@pytest.mark.parametrize("scores", [HAIR, FAINT], ids=["by a hair", "faint"])
@pytest.mark.parametrize("spec", ["weighted-vote", "confidence-filtered-vote(keep=60)", "borda(p=64)", "borda(p=0)"])
def test_what_single_precision_cannot_tell_apart_is_told_apart(spec, scores):
    rule = parse(spec, "selector")
    pools = [rescored(pool(seed), scores) for seed in range(6)]
    orders = random_orders(9, sizes=(1, 2, 3, 5, 9), resamples=7)
    rows = [shuffle(orders, problem) for problem in range(6)]
    found = credits(rule, [graded(rule, p) for p in pools], orders, rows)
    for problem, traces in enumerate(pools):
        for number, order in enumerate(subsets(orders, rows[problem])):
            slow = [named(rule, [traces[i] for i in order[:k]]) for k in orders.sizes]
            assert found[problem, :, number].tolist() == slow


def test_texts_that_were_said_twice_count_once_even_where_no_probability_is_known():
    rule = parse("perplexity-consistency", "selector")
    texts = ["a", "a", "a", "b", "c", "a"]
    traces = [
        Trace(
            prompt=(),
            segments=(Segment(text=text, origin=Origin.sampled, tokens=1),),
            finish=Finish.eos,
            answer=Answer(text, "k0" if text == "a" else "w"),
        )
        for text in texts
    ]
    orders = random_orders(6, resamples=9)
    rows = shuffle(orders, 0)
    [found] = credits(rule, [graded(rule, traces)], orders, [rows])
    slow = [[named(rule, [traces[i] for i in o[:k]]) for o in subsets(orders, rows)] for k in orders.sizes]
    assert found.tolist() == slow


@pytest.mark.parametrize("spec", ["majority", "borda", "best"])
def test_pools_of_more_attempts_than_a_byte_counts_are_evaluated_too(spec):
    rule = parse(spec, "selector")
    traces = pool(2, n=260)
    orders = random_orders(260, sizes=(1, 40, 260), resamples=2)
    rows = shuffle(orders, 0)
    [found] = credits(rule, [graded(rule, traces)], orders, [rows])
    slow = [[named(rule, [traces[i] for i in o[:k]]) for o in subsets(orders, rows)] for k in orders.sizes]
    assert found.tolist() == slow


def test_scores_that_are_all_zero_or_missing_leave_the_majority():
    traces = [t.scored(Score(value=0.0, kind="zero")) for t in pool(3)]
    orders = random_orders(9, resamples=30)
    rows = [shuffle(orders, 0)]
    plain = parse("majority", "selector")
    expected = credits(plain, [graded(plain, traces)], orders, rows)
    for spec in ("weighted-vote", "confidence-filtered-vote", "best(kind=nobody)", "cisc(kind=nobody)"):
        rule = parse(spec, "selector")
        assert (credits(rule, [graded(rule, traces)], orders, rows) == expected).all()


def test_subsets_are_nested_random_and_of_their_problem():
    orders = random_orders(6, resamples=500)
    first, second = (subsets(orders, shuffle(orders, problem)) for problem in (0, 1))
    assert (np.sort(first, axis=1) == np.arange(6)).all()
    assert not (first == second).all()
    assert np.bincount(first[:, 0]).min() > 50
    assert (random_orders(6, resamples=500).orders == orders.orders).all()


def test_only_the_sizes_that_are_asked_for_are_evaluated_and_they_are_the_same():
    rule = parse("weighted-vote", "selector")
    pools = [graded(rule, pool(seed)) for seed in range(7)]
    whole = curves(rule, pools, random_orders(9, resamples=40))
    assert whole.shape == (7, 9)
    assert (curves(rule, pools, random_orders(9, sizes=(8, 2), resamples=40)) == whole[:, [1, 7]]).all()
    assert curves(rule, [], random_orders(9, resamples=40)).shape == (0, 9)


def test_resampling_agrees_with_the_closed_forms():
    traces = pool(11, n=12)
    orders = random_orders(12, resamples=20_000)
    answers = [t.answer.key if t.answer else None for t in traces]
    right = [float(a in ("k0", "k1")) for a in answers]
    plain, best = parse("majority", "selector"), parse("best", "selector")
    [vote] = curves(plain, [graded(plain, traces)], orders)
    [pick] = curves(best, [graded(best, traces)], orders)
    votes = votes_of(answers, right)
    scores = [t.scores[-1].value if t.answer else -np.inf for t in traces]
    for k in range(1, 13):
        assert vote[k - 1] == pytest.approx(majority_at_k(votes, k), abs=0.012)
        assert pick[k - 1] == pytest.approx(float(best_at_k(scores, right, k)), abs=0.012)


def test_the_best_of_k_of_the_worked_example_is_met():
    # Ranks 1, 3 of five are right: .4, .6, .7, .8, 1 for k = 1 … 5.
    keys = ["k0", "w1", "k0", "w2", "w3"]
    traces = [
        Trace(prompt=(), answer=Answer(k, k), finish=Finish.eos, scores=(Score(value=float(-i), kind="t"),))
        for i, k in enumerate(keys)
    ]
    rule = parse("best", "selector")
    [found] = curves(rule, [graded(rule, traces)], random_orders(5, resamples=20_000))
    assert found == pytest.approx([0.4, 0.6, 0.7, 0.8, 1.0], abs=0.012)


@pytest.mark.parametrize("name", ["mean", "median"])
def test_running_centres_are_those_of_each_subset(name):
    rule = parse(name, "selector")
    assert isinstance(rule, Numeric)
    rng = np.random.default_rng(0)
    values = [np.where(rng.random(8) < 0.2, -np.inf, rng.integers(-5, 6, 8).astype(float)) for _ in range(2)]
    values.append(rng.random(8))
    orders = random_orders(8, sizes=(1, 2, 5, 8), resamples=10)
    rows = [shuffle(orders, problem) for problem in range(3)]
    found = estimates(rule, values, orders, rows)
    for problem, own in enumerate(values):
        for number, order in enumerate(subsets(orders, rows[problem])):
            for at, k in enumerate(orders.sizes):
                drawn = own[order[:k]]
                centre = rule.centre(drawn) if np.isfinite(drawn).any() else np.nan
                assert found[problem, at, number] == pytest.approx(float(centre), nan_ok=True)


def test_a_numeric_rule_is_credited_for_the_answer_it_names():
    rule = parse("median", "selector")
    traces = [Trace(prompt=(), answer=Answer(k, k), finish=Finish.eos) for k in ("1", "2", "9", "2", "4")]
    pools = [Graded(rule.ballots(traces), np.array([0.0, 1.0, 0.0, 0.0]))]
    [found] = curves(rule, pools, random_orders(5, resamples=50))
    assert found[-1] == 1.0
