"""Worked examples of every rule, to the digit, and the guarantees that all of them keep."""

import math
import random
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import product
from statistics import mean, median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clocks import busy
from thinkscale.api import solve
from thinkscale.budget import Budget
from thinkscale.built_in import BUILT_IN
from thinkscale.engines.protocol import Capability
from thinkscale.engines.scripted import EVERYTHING, Scripted
from thinkscale.engines.tabular import Tabular
from thinkscale.errors import CapabilityError, ScorerError, SpecError
from thinkscale.registry import parse
from thinkscale.selection.borda import Borda
from thinkscale.selection.likeness import LIKENESSES
from thinkscale.selection.mean import Mean
from thinkscale.selection.median import Median
from thinkscale.selection.weibull import fitted
from thinkscale.types import Answer, Finish, Logprobs, LogprobSpace, Message, Origin, Problem, Score, Segment, Trace

PROMPT = (Message("user", "?"),)
SPECS = (
    *BUILT_IN["selector"],
    "majority(invalid=drop)",
    "majority(ties=random)",
    "weighted-vote(transform=sigmoid)",
    "weighted-vote(transform=softmax, temperature=0.5)",
    "weighted-vote(transform=exp)",
    "weighted-vote(transform=rank)",
    "borda(p=1.2)",
    "confidence-filtered-vote(keep=30)",
    "perplexity-consistency(probability=sequence)",
    "soft-self-consistency(reduce=min)",
    "minimum-bayes-risk(utility=edit)",
    "pessimistic(alpha=0)",
    "majority-of-bests(m=3)",
    "best-of-majority(votes=3)",
)
ROW = st.tuples(
    st.sampled_from([None, "1", "2", "3"]), st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5, 0.9, 1.0]), st.integers(1, 5)
)
POOL = st.lists(ROW, max_size=9)


def pool(rows):
    """Traces from (key, score, tokens); every text is different."""
    return [
        Trace(
            prompt=PROMPT,
            path=(i,),
            segments=(
                Segment(
                    text=f"attempt {i}",
                    origin=Origin.sampled,
                    tokens=tokens,
                    logprobs=Logprobs(space=LogprobSpace.raw, chosen=(score - 1.1,) * tokens),
                ),
            ),
            finish=Finish.eos,
            answer=None if key is None else Answer(key, key),
            scores=(Score(value=score, kind="test"),),
        )
        for i, (key, score, tokens) in enumerate(rows)
    ]


def scored(keys, scores):
    return pool([(k, s, 1) for k, s in zip(keys, scores, strict=True)])


def said(rows):
    """Traces from (text, key, token probabilities)."""
    return [
        Trace(
            prompt=PROMPT,
            path=(i,),
            segments=(
                Segment(
                    text=text,
                    origin=Origin.sampled,
                    tokens=len(p),
                    logprobs=Logprobs(space=LogprobSpace.raw, chosen=tuple(map(math.log, p))),
                ),
            ),
            finish=Finish.eos,
            answer=Answer(str(key), str(key)),
        )
        for i, (text, key, p) in enumerate(rows)
    ]


def rule(spec):
    return parse(spec, "selector")


def weights(spec, traces):
    return {v.key: v.weight for v in rule(spec)(traces).votes}


def winner(spec, traces):
    return rule(spec)(traces).best.answer.key


@pytest.mark.parametrize("spec", SPECS)
@settings(max_examples=40, deadline=None)
@given(rows=POOL, seed=st.randoms(use_true_random=False))
def test_the_order_of_the_pool_decides_nothing_but_ties(spec, rows, seed):
    traces = pool(rows)
    shuffled = list(traces)
    seed.shuffle(shuffled)
    here, there = rule(spec), rule(spec)
    mine, other = here.ballots(traces), there.ballots(shuffled)
    shares, again = here.shares(mine), there.shares(other)
    assert dict(zip(mine.keys, shares, strict=True)) == pytest.approx(dict(zip(other.keys, again, strict=True)))
    if not spec.startswith("random"):
        votes, others = here(traces).votes, there(shuffled).votes
        assert {v.key: v.weight for v in votes} == pytest.approx({v.key: v.weight for v in others})


@pytest.mark.parametrize("spec", SPECS)
@settings(max_examples=40, deadline=None)
@given(rows=POOL)
def test_renaming_the_answers_renames_the_winner_and_nothing_else(spec, rows):
    if rule(spec).__class__ in (Mean, Median) or "random" in spec:
        return
    new = {None: None, "1": "3", "2": "1", "3": "2"}
    here, there = rule(spec)(pool(rows)), rule(spec)(pool([(new[k], s, t) for k, s, t in rows]))
    assert (here.best and here.best.path) == (there.best and there.best.path)
    assert [(new[v.key], v.count, v.weight) for v in here.votes] == [(v.key, v.count, v.weight) for v in there.votes]


@pytest.mark.parametrize("spec", SPECS)
@settings(max_examples=40, deadline=None)
@given(row=ROW)
def test_of_one_attempt_that_attempt_is_chosen(spec, row):
    [only] = pool([row])
    ranking = rule(spec)([only])
    assert ranking.best == only
    assert ranking.confidence == (pytest.approx(1.0) if only.answer else None)


@pytest.mark.parametrize("spec", SPECS)
@settings(max_examples=40, deadline=None)
@given(rows=POOL)
def test_an_attempt_without_an_answer_changes_no_vote(spec, rows):
    with_, without = rule(spec)(pool(rows)), rule(spec)([t for t in pool(rows) if t.answer])
    assert with_.votes == without.votes
    if without.votes:
        assert with_.best == without.best
        share = 1 if "drop" in spec else sum(v.count for v in without.votes) / len(rows)
        assert with_.confidence == pytest.approx(without.confidence * share)


@pytest.mark.parametrize("spec", SPECS)
@settings(max_examples=40, deadline=None)
@given(rows=POOL)
def test_the_winner_is_one_of_those_that_share_the_win(spec, rows):
    traces = pool(rows)
    chosen, ballots = rule(spec), rule(spec).ballots(traces)
    shares = dict(zip(ballots.keys, chosen.shares(ballots), strict=True))
    if shares:
        assert sum(shares.values()) == pytest.approx(1.0)
        assert shares[chosen(traces).best.answer.key] > 0


def brute_weights(spec, rows):
    """What each answer weighs, the slow obvious way; exact where the rule is."""
    voters = [(k, s, t) for k, s, t in rows if k is not None]
    at_most = [sum(s <= own for _, s, _ in voters) for _, own, _ in voters]
    place = {"confidence-filtered-vote": 10, "confidence-filtered-vote(keep=30)": 70}.get(spec)
    each = {
        "majority": lambda s, r: Fraction(1),
        "weighted-vote": lambda s, r: Fraction(str(s)),
        "weighted-vote(transform=rank)": lambda s, r: Fraction(r),
        "weighted-vote(transform=sigmoid)": lambda s, r: 1 / (1 + math.exp(-s)),
        "weighted-vote(transform=exp)": lambda s, r: math.exp(s),
        "weighted-vote(transform=softmax, temperature=0.5)": lambda s, r: math.exp(s / 0.5),
        "cisc": lambda s, r: math.exp(s),
        "borda": lambda s, r: r**0.5,
        "borda(p=1.2)": lambda s, r: r**1.2,
        "perplexity-consistency": lambda s, r: math.exp(s - 1.1),
    }.get(spec)
    if place is not None:
        threshold = np.percentile([s for _, s, _ in voters], place) if voters else 0.0

        def each(s, r):
            return s if s >= threshold - 1e-12 else 0.0

    found = Counter()
    for (key, s, _), r in zip(voters, at_most, strict=True):
        found[key] += each(s, r)
    return found if any(found.values()) else Counter(k for k, _, _ in voters)


@pytest.mark.parametrize(
    "spec",
    [
        "majority",
        "weighted-vote",
        "weighted-vote(transform=rank)",
        "weighted-vote(transform=sigmoid)",
        "weighted-vote(transform=exp)",
        "weighted-vote(transform=softmax, temperature=0.5)",
        "cisc",
        "borda",
        "borda(p=1.2)",
        "perplexity-consistency",
        "confidence-filtered-vote",
        "confidence-filtered-vote(keep=30)",
    ],
)
@given(rows=POOL)
def test_a_voting_rule_weighs_as_its_definition_says(spec, rows):
    slow = {k: float(w) for k, w in brute_weights(spec, rows).items()}
    traces = pool(rows)
    assert weights(spec, traces) == pytest.approx(slow, rel=1e-6)
    if slow:
        lead = max(slow.values())
        assert slow[winner(spec, traces)] == pytest.approx(lead, rel=1e-6)


@pytest.mark.parametrize(
    ("spec", "reading"),
    [
        ("best", lambda s, t: s),
        ("shortest", lambda s, t: -t),
        ("soft-self-consistency", lambda s, t: s),
        ("soft-self-consistency(reduce=min)", lambda s, t: s),
        ("soft-self-consistency(reduce=prod)", lambda s, t: s),
    ],
)
@given(rows=POOL)
def test_a_picking_rule_takes_the_first_of_the_highest(spec, reading, rows):
    values = {i: reading(s, t) for i, (k, s, t) in enumerate(rows) if k is not None}
    if values:
        best = rule(spec)(pool(rows)).best.path[0]
        assert values[best] == max(values.values())
        if spec in ("best", "shortest"):
            assert best == min(i for i, v in values.items() if v == values[best])


@given(rows=POOL)
def test_with_the_exact_utility_minimum_bayes_risk_is_the_majority(rows):
    assert rule("minimum-bayes-risk(utility=exact)")(pool(rows)) == rule("majority")(pool(rows))


@given(st.lists(st.text("ab ", max_size=6), max_size=5))
def test_utilities_are_symmetric_and_at_most_one(texts):
    for alike in LIKENESSES.values():
        values = alike(texts)
        assert (values == values.T).all()
        assert ((values >= 0) & (values <= 1)).all()
        assert (values.diagonal() == 1).all()


@pytest.mark.parametrize("spec", [*SPECS, "majority(ties=score)", "majority(ties=lexicographic)"])
def test_a_thousand_answers_are_counted_in_no_time(spec):
    traces = pool([(str(i), 0.5, 20) for i in range(1024)])
    assert busy(lambda: rule(spec)(traces), below=0.2) < 0.2


def test_the_answer_that_shares_most_words_has_the_least_risk():
    rows = ["red box", "red ball", "red box lid", "blue cart"]
    assert winner("minimum-bayes-risk", pool([(k, 0.5, 1) for k in rows])) == "red box"


def test_borda_weighs_as_in_the_worked_example():
    traces = scored("ABACA", [12.1, 15.3, 9.8, 14.0, 11.0])
    expected = {
        0: ("A", {"A": 3, "B": 1, "C": 1}),
        0.5: ("A", {"A": 4.1463, "B": 2.2361, "C": 2}),
        1: ("A", {"A": 6, "B": 5, "C": 4}),
        1.2: ("A", {"A": 7.0346, "B": 6.8986, "C": 5.2780}),
        2: ("B", {"A": 14, "B": 25, "C": 16}),
    }
    for p, (first, votes) in expected.items():
        assert winner(f"borda(p={p})", traces) == first
        assert weights(f"borda(p={p})", traces) == pytest.approx(votes, abs=5e-5)


def test_perplexity_consistency_counts_a_text_once():
    rows = [("t1", 42, [0.3]), ("t2", 42, [0.2]), ("t2", 42, [0.2]), ("t3", 17, [0.4]), ("t4", 17, [0.05])]
    traces = said([*rows, ("t5", 9, [0.02])])
    for probability in ("sequence", "mean-logprob"):
        found = rule(f"perplexity-consistency(probability={probability})")(traces)
        assert [(v.key, v.count, round(v.weight, 6)) for v in found.votes] == [
            ("42", 3, 0.5),
            ("17", 2, 0.45),
            ("9", 1, 0.02),
        ]
    assert weights("majority", traces) == {"42": 3, "17": 2, "9": 1}


def test_sequence_and_mean_probability_differ_by_length():
    traces = said([("long", 1, [0.9] * 20), ("short", 2, [0.5])])
    assert winner("perplexity-consistency", traces) == "1"
    assert winner("perplexity-consistency(probability=sequence)", traces) == "2"


def test_probabilities_that_no_float_holds_are_still_compared():
    traces = said([("a", 1, [0.1] * 500), ("b", 2, [0.1] * 499), ("c", 1, [0.1] * 500)])
    assert winner("perplexity-consistency(probability=sequence)", traces) == "2"


HIGH_LOW = [0.90, 0.88, 0.86, 0.85, 0.80, 0.55, 0.50, 0.45, 0.40, 0.35]


def test_rpc_prunes_as_in_the_worked_example():
    traces = said([(f"t{i}", k, [p]) for i, (k, p) in enumerate(zip("AABABCCCCB", HIGH_LOW, strict=True))])
    assert winner("majority", traces) == "C"
    assert weights("perplexity-consistency", traces) == pytest.approx({"A": 2.63, "B": 2.01, "C": 1.90}, abs=1e-6)
    assert weights("rpc", traces) == pytest.approx({"A": 2.63, "B": 1.66, "C": 0.0}, abs=1e-6)
    assert winner("rpc", traces) == "A"


def test_the_mixture_of_the_worked_example_is_found():
    mixture = fitted(np.log([HIGH_LOW]), np.ones((1, 10), bool))
    assert mixture.weights.ravel() == pytest.approx([0.5, 0.5], abs=1e-3)
    assert sorted(mixture.shapes.ravel()) == pytest.approx([7.291, 32.16], rel=1e-3)
    assert sorted(mixture.scales.ravel()) == pytest.approx([0.4804, 0.8733], abs=1e-4)
    parts = mixture.log_parts(np.log([HIGH_LOW]))[0]
    assert -np.logaddexp(*parts).sum() == pytest.approx(-9.364, abs=1e-3)
    means = sorted(
        float(s * math.gamma(1 + 1 / k)) for s, k in zip(mixture.scales.flat, mixture.shapes.flat, strict=True)
    )
    assert means == pytest.approx([0.4504, 0.8585], abs=1e-4)


def test_a_pool_is_fitted_alike_alone_and_among_others():
    rng = np.random.default_rng(3)
    x = np.log(rng.beta(3, 2, (6, 12)))
    together = fitted(x, np.ones(x.shape, bool))
    for row in range(6):
        alone = fitted(x[row : row + 1], np.ones((1, 12), bool))
        assert alone.shapes[0] == pytest.approx(together.shapes[row], rel=1e-6)


@pytest.mark.parametrize("select", ["perplexity-consistency", "rpc", "soft-self-consistency"])
async def test_a_rule_on_probabilities_asks_the_engine_for_them(select):
    method = parse(f"self-consistency(n=4, select={select})", "method")
    outcome = await solve(Problem.of("What is 2 + 2?"), method, Tabular(), budget=Budget())
    assert all(s.logprobs for t in outcome.traces for s in t.segments)
    with pytest.raises(CapabilityError, match="`logprobs`"):
        await solve(Problem.of("?"), method, Scripted(can=EVERYTHING - {Capability.logprobs}), budget=Budget())


def test_soft_self_consistency_reduces_as_in_the_worked_example():
    traces = said([("a", 1, [0.9, 0.9, 0.2]), ("b", 2, [0.7, 0.7, 0.7]), ("c", 3, [0.99, 0.5, 0.6])])
    expected = {
        "mean": [0.666667, 0.7, 0.696667],
        "min": [0.2, 0.7, 0.5],
        "prod": [-0.606720, -0.356675, -0.404674],
    }
    for reduce, values in expected.items():
        soft = rule(f"soft-self-consistency(reduce={reduce})")
        assert [soft.read(t) for t in traces] == pytest.approx(values, abs=1e-6)
        assert soft(traces).best.path == (1,)


def test_cisc_shares_out_as_in_the_worked_example():
    traces = scored("ABBCB", [0.9, 0.8, 0.5, 0.55, 0.6])
    for temperature, key, share in ((0.1, "A", 0.682045), (0.5, "B", 0.548331), (1, "B", 0.576018)):
        found = rule(f"cisc(temperature={temperature})")(traces)
        assert (found.best.answer.key, found.confidence) == (key, pytest.approx(share, abs=1e-6))
        total = sum(v.weight for v in found.votes)
        shares = {v.key: v.weight / total for v in found.votes}
        if temperature == 0.1:
            assert shares["B"] == pytest.approx(0.297359, abs=1e-6)
        if temperature == 0.5:
            assert shares["A"] == pytest.approx(0.301800, abs=1e-6)


def test_a_tiny_temperature_takes_the_highest_confidence_and_a_large_one_the_majority():
    traces = scored("ABBCB", [0.9, 0.8, 0.5, 0.55, 0.6])
    assert winner("cisc(temperature=0.0001)", traces) == "A"
    assert winner("cisc(temperature=1000)", traces) == winner("majority", traces)


@pytest.mark.parametrize(("keep", "kept"), [(10, [24, 25]), (90, list(range(12, 26)))])
def test_the_filter_keeps_what_reaches_the_percentile(keep, kept):
    traces = scored([str(i) for i in range(16)], [float(v) for v in range(10, 26)])
    threshold = np.percentile(range(10, 26), 100 - keep)
    assert threshold == {10: 23.5, 90: 11.5}[keep]
    found = weights(f"confidence-filtered-vote(keep={keep})", traces)
    assert sorted(w for w in found.values() if w) == kept


def test_negative_scores_are_refused_where_they_would_be_summed():
    traces = scored("AB", [-1.0, 0.5])
    for spec in ("weighted-vote", "confidence-filtered-vote"):
        with pytest.raises(ScorerError, match="score -1"):
            rule(spec)(traces)
    assert winner("weighted-vote(transform=sigmoid)", traces) == "B"


def test_a_named_score_is_read_whatever_came_later():
    traces = [t.scored(Score(value=v, kind="later")) for t, v in zip(scored("AB", [2, 1]), [0.1, 0.9], strict=True)]
    assert [winner(s, traces) for s in ("best", "best(kind=test)")] == ["B", "A"]
    assert [winner(s, traces) for s in ("weighted-vote", "weighted-vote(kind=test)")] == ["B", "A"]


def test_missing_answers_follow_the_policy():
    traces = scored(["A", None, None], [0.5, 0.9, 0.1])
    assert [rule(f"majority(invalid={p})")(traces).confidence for p in ("ignore", "drop")] == [1 / 3, 1.0]
    voted = rule("majority(invalid=vote)")(traces)
    assert (voted.best.answer, voted.votes[0].key, voted.confidence) == (None, "", 2 / 3)
    assert rule("best(invalid=vote)")(traces).best.path == (1,)


def test_ties_follow_the_policy():
    traces = scored("BAC", [0.1, 0.2, 0.9])
    expected = {"first_seen": "B", "fractional": "B", "lexicographic": "A", "score": "C"}
    assert {t: winner(f"majority(ties={t})", traces) for t in expected} == expected
    seen = Counter(winner(f"majority(ties=random, seed={seed})", traces) for seed in range(60))
    assert set(seen) == set("ABC")
    assert {winner("majority(ties=random)", random.sample(traces, 3)) for _ in range(9)} == {
        winner("majority(ties=random)", traces)
    }


def test_ties_do_not_hang_on_the_order_of_a_sum():
    traces = scored("ABABAB", [0.1, 0.3, 0.2, 0.2, 0.3, 0.1])
    assert len(set(weights("weighted-vote", traces).values())) == 1


@pytest.mark.parametrize(
    "spec",
    [
        "majority(invalid=maybe)",
        "majority(ties=best)",
        "weighted-vote(transform=log)",
        "weighted-vote(temperature=0)",
        "cisc(temperature=0)",
        "borda(p=-1)",
        "confidence-filtered-vote(keep=0)",
        "confidence-filtered-vote(keep=101)",
        "perplexity-consistency(probability=joint)",
        "soft-self-consistency(reduce=max)",
        "minimum-bayes-risk(utility=bleu)",
        "pessimistic(alpha=-1)",
        "majority-of-bests(m=0)",
        "best-of-majority(votes=0)",
    ],
)
def test_what_makes_no_sense_is_refused_when_the_rule_is_made(spec):
    with pytest.raises(SpecError):
        rule(spec)


@pytest.mark.parametrize("spec", SPECS)
def test_a_rule_reads_back_from_its_own_words(spec):
    assert rule(repr(rule(spec))) == rule(spec)


EXTREME = st.sampled_from([math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324, -0.0, 800.0, 0.5])


@pytest.mark.parametrize("spec", SPECS)
@settings(max_examples=40)
@given(rows=st.lists(st.tuples(st.sampled_from([None, "1", "2", "-1e308", "1e308"]), EXTREME), max_size=7))
def test_scores_at_the_ends_of_their_range_elect_somebody_without_a_warning(spec, rows):
    traces = [replace(t, segments=()) for t in scored([k for k, _ in rows], [0.0] * len(rows))]
    traces = [replace(t, scores=(Score(value=s, kind="test"),)) for t, (_, s) in zip(traces, rows, strict=True)]
    try:
        ranking = rule(spec)(traces)
    except ScorerError:
        return
    assert (ranking.best is not None and ranking.best.answer is not None) == any(k for k, _ in rows)
    assert all(math.isfinite(v.weight) for v in ranking.votes)
    assert ranking.confidence is None or 0 <= ranking.confidence <= 1


def test_an_infinite_score_is_the_highest_wherever_scores_count():
    traces = scored("AABB", [0.5, 0.9, math.inf, 0.1])
    for spec in ("best", "weighted-vote", "weighted-vote(transform=exp)", "cisc", "confidence-filtered-vote"):
        assert winner(spec, traces) == "B"


@pytest.mark.parametrize("said", ["1e999999999", "-1e-999999999", "9" * 5000, "1e400", "1/0", "nan", "inf"])
def test_what_no_float_holds_is_no_number_and_is_not_worked_out(said):
    traces = pool([(said, 0.5, 1), ("2", 0.5, 1)])
    assert Mean().estimate(traces).count == Median().estimate(traces).count == 1
    assert Median()(traces).best == traces[1]


def test_the_largest_numbers_have_a_mean_and_an_interval():
    found = Mean().interval([1e308, 1e308, -1e308])
    assert found.value == pytest.approx(1e308 / 3)
    assert found.low <= found.value <= found.high


def test_the_largest_power_of_borda_takes_the_highest_score_in_any_pool():
    traces = scored(["A"] * 40 + ["B"], [*range(40), 41.0])
    assert winner("borda(p=64)", traces) == "B"
    for p in (64.5, math.inf, math.nan):
        with pytest.raises(SpecError, match="the highest score"):
            Borda(p=p)


def test_the_pessimistic_hybrid_penalises_as_in_the_worked_example():
    traces = scored("AAAABBC", [0.4, 0.5, 0.6, 0.5, 0.9, 0.8, 0.95])
    assert winner("weighted-vote", traces) == "A"
    expected = {
        0: ("C", {"A": 0.5, "B": 0.85, "C": 0.95}),
        0.5: ("B", {"A": 0.305409, "B": 0.525682, "C": 0.463522}),
        1: ("B", {"A": 0.110818, "B": 0.201363, "C": -0.022955}),
    }
    for alpha, (best, values) in expected.items():
        assert winner(f"pessimistic(alpha={alpha})", traces) == best
        assert weights(f"pessimistic(alpha={alpha})", traces) == pytest.approx(values, abs=1e-6)
    assert winner("pessimistic(alpha=100)", traces) == "A"
    assert rule("pessimistic(alpha=0)")(traces).confidence == pytest.approx(1 / 7)


def test_a_vote_that_could_not_be_judged_counts_as_the_lowest_score_for_the_pessimist():
    traces = scored("AAB", [math.nan, -0.5, -0.7])
    assert weights("pessimistic(alpha=0)", traces) == pytest.approx({"A": -0.6, "B": -0.7})
    assert weights("pessimistic", scored("AAB", [math.nan] * 3)) == {"A": 2, "B": 1}


def test_the_majority_of_the_bests_weighs_as_in_the_worked_example():
    traces = scored("BAACAB", [0.95, 0.8, 0.7, 0.6, 0.5, 0.1])
    expected = {
        1: ("A", {"A": 0.5, "B": 0.333333, "C": 0.166667}),
        2: ("A", {"A": 0.527778, "B": 0.333333, "C": 0.138889}),
        3: ("A", {"A": 0.486111, "B": 0.425926, "C": 0.087963}),
        6: ("B", {"A": 0.320623, "B": 0.665123, "C": 0.014253}),
    }
    for m, (best, chances) in expected.items():
        assert winner(f"majority-of-bests(m={m})", traces) == best
        assert weights(f"majority-of-bests(m={m})", traces) == pytest.approx(chances, abs=1e-6)
    assert weights("majority-of-bests", traces) == weights("majority-of-bests(m=2)", traces)
    assert winner("majority-of-bests(m=1000)", traces) == "B"


@given(rows=POOL, m=st.integers(1, 3))
def test_the_majority_of_the_bests_is_the_mode_of_best_of_m_with_replacement(rows, m):
    voters = [(k, s) for k, s, _ in rows if k is not None][:5]
    slow = Counter()
    for drawn in product(voters, repeat=m):
        top = max(s for _, s in drawn)
        # Which of the equal scores of the whole pool is drawn first decides, and all are alike.
        leaders = [k for k, s in drawn if s == top]
        for key in leaders:
            slow[key] += Fraction(1, len(leaders) * len(voters) ** m)
    found = weights(f"majority-of-bests(m={m})", scored(*zip(*voters, strict=True))) if voters else {}
    assert found == pytest.approx({k: float(w) for k, w in slow.items()}, abs=1e-6)


def test_of_equal_chances_the_majority_of_the_bests_takes_the_better_best_score():
    assert winner("majority-of-bests(m=1)", scored("ABBA", [0.2, 0.9, 0.1, 0.3])) == "B"


def test_the_best_of_the_majority_is_the_best_among_answers_that_were_given_often_enough():
    traces = scored("CBAACAB"[1:], [0.95, 0.8, 0.7, 0.99, 0.5, 0.1])
    assert winner("best", traces) == "C"
    assert winner("best-of-majority", traces) == "B"
    assert winner("best-of-majority(votes=3)", traces) == "A"
    assert winner("best-of-majority(votes=1)", traces) == winner("best-of-majority(votes=7)", traces) == "C"


@given(rows=POOL)
def test_with_one_vote_the_best_of_the_majority_is_the_best(rows):
    assert rule("best-of-majority(votes=1)")(pool(rows)) == rule("best")(pool(rows))


NUMBERS = st.lists(st.integers(-50, 50), min_size=1, max_size=9)


@given(values=NUMBERS)
def test_the_nearest_attempt_to_the_centre_wins(values):
    traces = pool([(str(v), 0.5, 1) for v in values] + [("many", 0.5, 1)])
    for numeric, centre in ((Mean(), mean(values)), (Median(), median(values))):
        estimate = numeric.estimate(traces)
        assert estimate.value == pytest.approx(centre)
        assert estimate.low <= estimate.value <= estimate.high
        assert estimate.count == len(values)
        best = float(numeric(traces).best.answer.key)
        assert abs(best - centre) == pytest.approx(min(abs(v - centre) for v in values), abs=1e-9)


def test_the_interval_of_a_median_covers_at_least_what_it_says():
    # n = 6 is the first size at which the extremes have 95 %: 1 − 2 / 2⁶ = 0.969.
    assert Median().interval([1, 2, 3, 4, 5]).low == -math.inf
    six = Median().interval([6, 1, 2, 3, 4, 5])
    assert (six.value, six.low, six.high) == (3.5, 1, 6)
    nine = Median().interval(list(range(9)))
    assert (nine.low, nine.high) == (1, 7)


def test_fractions_and_thousands_are_numbers_and_words_are_not():
    traces = pool([("1/2", 0.5, 1), ("1,000", 0.5, 1), ("three", 0.5, 1)])
    assert Median().estimate(traces).value == 500.25
    assert Mean().estimate(traces[2:]) is None
    assert Mean()(traces[2:]).best == traces[2]
