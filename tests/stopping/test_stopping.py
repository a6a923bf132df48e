"""Guarantees that every stop rule keeps, and the worked examples of their papers."""

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clocks import busy
from thinkscale.api import solve
from thinkscale.budget import Budget
from thinkscale.built_in import BUILT_IN
from thinkscale.engines.protocol import Capability
from thinkscale.engines.scripted import EVERYTHING, Line, Scripted
from thinkscale.errors import CapabilityError, SpecError
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.needs import needs_of
from thinkscale.registry import parse
from thinkscale.selection.best import Best
from thinkscale.selection.majority import Majority
from thinkscale.selection.weighted_vote import WeightedVote
from thinkscale.session import Run
from thinkscale.stopping.adaptive_consistency import AdaptiveConsistency
from thinkscale.stopping.ahead_by_k import AheadByK
from thinkscale.stopping.best_of_infinity import BestOfInfinity
from thinkscale.stopping.confidence_mass import ConfidenceMass
from thinkscale.stopping.counts import CountRule
from thinkscale.stopping.decided_majority import DecidedMajority
from thinkscale.stopping.early_exit import EarlyExit
from thinkscale.stopping.esc import Esc
from thinkscale.stopping.fixed import Fixed
from thinkscale.stopping.majority_share import MajorityShare
from thinkscale.stopping.soft_adaptive import SoftAdaptive
from thinkscale.types import Answer, Logprobs, LogprobSpace, Message, Origin, Problem, Score, Segment, Stopped, Trace

PROMPT = (Message("user", "?"),)
KEYS = st.lists(st.sampled_from([None, "A", "B", "C"]), max_size=12)
COUNTING = (
    AdaptiveConsistency(),
    AdaptiveConsistency(prior="dirichlet", threshold=0.8),
    AheadByK(k=1),
    AheadByK(k=3),
    BestOfInfinity(),
    BestOfInfinity(prior="paper", factor=5.0),
    MajorityShare(),
)
RULES = (
    *COUNTING, Fixed(), Esc(w=3), EarlyExit(), EarlyExit(count=3, threshold=0.5), ConfidenceMass(),
    DecidedMajority(n=10), SoftAdaptive(),
)  # fmt: skip


def traces(keys, scores=()):
    made = [Trace(prompt=PROMPT, answer=None if k is None else Answer(k, k)) for k in keys]
    given = [t.scored(Score(value=s, kind="sure")) for t, s in zip(made, scores, strict=False)]
    return given or made


def first_stop(rule, pool):
    """How many draws the rule takes, seeing the pool grow; all of them when it never fires."""
    return next((n for n in range(1, len(pool) + 1) if rule(pool[:n])), len(pool))


def test_every_built_in_rule_is_checked_here_and_parses_back():
    assert {repr(rule).partition("(")[0] for rule in RULES} == set(BUILT_IN["stop-rule"])
    for rule in RULES:
        assert parse(repr(rule), "stop-rule") == rule


@pytest.mark.parametrize("rule", RULES, ids=repr)
@given(keys=KEYS, scores=st.lists(st.floats(0, 1), min_size=12, max_size=12))
def test_a_rule_is_pure_and_nothing_is_never_enough(rule, keys, scores):
    pool = traces(keys, scores)
    before = list(pool)
    assert rule(pool) == rule(tuple(pool))
    assert pool == before
    assert not rule([])
    assert rule(traces([None] * len(keys))) == (rule == DecidedMajority(n=10) and len(keys) >= 10)


@pytest.mark.parametrize("rule", COUNTING, ids=repr)
@given(keys=KEYS, seed=st.randoms())
def test_rules_on_counts_mind_neither_order_nor_names_nor_draws_without_an_answer(rule, keys, seed):
    assert isinstance(rule, CountRule)
    new = {None: None, "A": "B", "B": "C", "C": "A"}
    shuffled = list(keys)
    seed.shuffle(shuffled)
    fires = rule(traces(keys))
    assert fires == rule(traces(shuffled)) == rule(traces([new[x] for x in keys]))
    assert fires == rule(traces([x for x in keys if x]))


@pytest.mark.parametrize(
    "ladder",
    [
        [AheadByK(k=k) for k in (1, 2, 3, 4, 6)],
        [AdaptiveConsistency(threshold=t) for t in (0.6, 0.8, 0.95, 0.99)],
        [AdaptiveConsistency(threshold=t, prior="dirichlet") for t in (0.6, 0.8, 0.95, 0.99)],
        [BestOfInfinity(factor=b) for b in (2, 10, 100, 300)],
        [BestOfInfinity(factor=b, prior="paper") for b in (2, 10, 100, 300)],
        [MajorityShare(threshold=t) for t in (0.5, 0.8, 1.0)],
        [EarlyExit(threshold=t) for t in (0.2, 0.5, 0.8)],
        [EarlyExit(threshold=0.3, count=c) for c in (1, 2, 4)],
        [ConfidenceMass(threshold=t) for t in (0.5, 0.8, 1.0)],
    ],
    ids=lambda ladder: repr(ladder[0]),
)
@given(keys=KEYS, scores=st.lists(st.floats(0, 1), min_size=12, max_size=12))
def test_a_stricter_rule_never_stops_earlier(ladder, keys, scores):
    taken = [first_stop(rule, traces(keys, scores)) for rule in ladder]
    assert taken == sorted(taken)


@pytest.mark.parametrize(
    ("rule", "n"),
    [
        (AdaptiveConsistency(), 4),
        (AdaptiveConsistency(prior="dirichlet"), 4),
        (AdaptiveConsistency(threshold=0.99), 6),
        (Esc(w=3), 3),
        (Esc(), 5),
        (AheadByK(k=1), 1),
        (AheadByK(k=7), 7),
        (BestOfInfinity(factor=10), 3),
        (BestOfInfinity(factor=10, prior="paper"), 2),
        (MajorityShare(), 2),
        (DecidedMajority(n=10), 5),
        (DecidedMajority(n=11), 6),
        (Fixed(), 20),
    ],
    ids=repr,
)
def test_of_one_mind_a_rule_stops_at_its_closed_form(rule, n):
    assert first_stop(rule, traces(["A"] * 20)) == n


@given(KEYS, st.integers(1, 5))
def test_ahead_by_k_fires_exactly_when_a_plain_count_says_so(keys, k):
    counts = sorted((sum(x == c for x in keys) for c in "ABC"), reverse=True)
    assert AheadByK(k=k)(traces(keys)) == (counts[0] - counts[1] >= k)


def ruin(p, k):
    """Exact probability of error and expected draws, by following every state that the rule lets live."""
    rule, alive, error, length = AheadByK(k=k), {(0, 0): 1.0}, 0.0, 0.0
    while sum(alive.values()) > 1e-13:
        after = {}
        for (right, wrong), mass in alive.items():
            length += mass
            for state, chance in (((right + 1, wrong), p), ((right, wrong + 1), 1 - p)):
                if rule(traces(["A"] * state[0] + ["B"] * state[1])):
                    error += mass * chance * (state[1] > state[0])
                else:
                    lead = state[0] - state[1]
                    only_lead = (max(lead, 0), max(-lead, 0))
                    after[only_lead] = after.get(only_lead, 0.0) + mass * chance
        alive = after
    return error, length


@pytest.mark.parametrize(
    ("p", "k", "error", "draws"),
    [(0.8, 1, 0.2, 1), (0.8, 2, 0.058824, 2.941176), (0.8, 3, 0.015385, 4.846154), (0.9, 3, 0.001370, 3.739726)],
)
def test_ahead_by_k_errs_and_draws_as_the_gamblers_ruin_says(p, k, error, draws):
    assert ruin(p, k) == (pytest.approx(error, abs=1e-6), pytest.approx(draws, abs=1e-6))
    r = (1 - p) / p
    assert ruin(p, k)[0] == pytest.approx(1 / (1 + (p / (1 - p)) ** k))
    assert ruin(p, k)[1] == pytest.approx(k / (2 * p - 1) * (1 - r**k) / (1 + r**k))


@pytest.mark.parametrize("rule", [AdaptiveConsistency(), AdaptiveConsistency(prior="dirichlet")], ids=repr)
def test_adaptive_consistency_takes_margins_of_four_five_and_six(rule):
    for counts, enough in [((4, 0), True), ((5, 1), False), ((6, 1), True), ((7, 2), False), ((8, 2), True)]:
        assert rule.decided(counts) is enough


def test_a_third_answer_counts_in_the_dirichlet_form_alone_and_a_sixth_in_none():
    beta, dirichlet = AdaptiveConsistency(), AdaptiveConsistency(prior="dirichlet")
    assert beta.chance((4, 1, 1)) == beta.chance((4, 1))
    assert dirichlet.chance((4, 1, 1)) < dirichlet.chance((4, 1)) == pytest.approx(beta.chance((4, 1)))
    assert dirichlet.chance((4, 1, 1, 1, 1, 1)) == dirichlet.chance((4, 1, 1, 1, 1))


@pytest.mark.parametrize(
    ("shares", "draws"), [((1.0,), 5), ((0.8, 0.2), 14.60996), ((0.6, 0.2, 0.2), 30.58655)], ids=str
)
def test_esc_costs_what_its_closed_form_says(shares, draws):
    w, windows = 5, 8
    chance = sum(
        math.prod(shares[c] for c in window) for window in product(range(len(shares)), repeat=w)
        if Esc(w=w)(traces([str(c) for c in window]))
    )  # fmt: skip
    expected, alive = 0.0, 1.0
    for _ in range(windows):
        expected, alive = expected + alive * w, alive * (1 - chance)
    assert expected == pytest.approx(draws, abs=5e-6)
    m = windows
    closed = w * (sum((i + 1) * chance * (1 - chance) ** i for i in range(m - 1)) + m * (1 - chance) ** (m - 1))
    assert expected == pytest.approx(closed)


def test_esc_windows_do_not_overlap_and_silence_is_not_unanimous():
    assert first_stop(Esc(w=3), traces("BAAABBBB")) == 8
    assert first_stop(Esc(w=3), traces("BAAAAA")) == 6
    assert not Esc(w=3)(traces([None] * 3))
    assert not Esc(w=3)(traces(["A", None, "A"]))


@pytest.mark.parametrize(
    ("prior", "factors"),
    [
        ("code", [4.063, 9.230, 19.138, 38.205, 75.035, 146.406, 285.108, 555.303]),
        ("paper", [4.326, 14.172, 37.005, 88.819, 204.248, 457.8, 1008.4, 2194.0]),
    ],
)
def test_the_bayes_factors_of_equal_answers_are_the_published_ones(prior, factors):
    for n, factor in enumerate(factors, 1):
        assert BestOfInfinity(prior=prior).evidence((n,)) == pytest.approx(factor, abs=0.5 if factor > 457 else 5e-4)


def test_the_chances_of_equal_answers_are_the_published_ones():
    chances = [0.670108, 0.821898, 0.905382, 0.950255, 0.974038, 0.986523, 0.993034, 0.996411]
    assert [BestOfInfinity().chance((n,)) for n in range(1, 9)] == pytest.approx(chances, abs=5e-7)


@pytest.mark.parametrize(
    ("counts", "code", "paper"),
    [
        ((3, 1), (0.759237, 9.4604), (0.858013, 12.0857)),
        ((5, 2, 1), (0.806096, 16.6287), (0.867781, 19.6896)),
        ((4, 3), (0.622867, 4.9548), (0.653311, 3.7689)),
        ((10, 5, 1), (0.892885, 33.3431), (0.909658, 30.2072)),
    ],
)
def test_contested_counts_have_the_published_bayes_factors(counts, code, paper):
    for rule, (chance, factor) in ((BestOfInfinity(), code), (BestOfInfinity(prior="paper"), paper)):
        assert rule.chance(counts) == pytest.approx(chance, abs=5e-7)
        assert rule.evidence(counts) == pytest.approx(factor, abs=5e-5)


def test_overwhelming_evidence_is_infinite_and_enough():
    assert BestOfInfinity(factor=1e300).decided((200,))


def test_a_vote_is_decided_exactly_when_no_way_to_go_on_changes_it():
    n = 5
    for size in range(1, n + 1):
        for keys in product([None, "A", "B", "C"], repeat=size):
            winners = set()
            for more in product([None, "A", "B", "C", "D"], repeat=n - size):
                best = Majority()(traces([*keys, *more])).best
                winners.add(best.answer.key if best.answer else None)
            certain = len(winners) == 1
            assert DecidedMajority(n=n)(traces(keys)) == certain, keys


def test_a_vote_of_unknown_size_is_never_decided_and_its_own_size_comes_first():
    assert not DecidedMajority()(traces("AAAA"))
    assert DecidedMajority().within(4)(traces("AAA"))
    assert not DecidedMajority(n=9).within(4)(traces("AAAA"))


def test_confidence_ends_early_or_fills_a_buffer():
    assert first_stop(EarlyExit(), traces("AAB", [0.7, 0.79, 0.8])) == 3
    assert first_stop(EarlyExit(threshold=0.8, count=2), traces("baa", [0.20, 0.92, 0.81])) == 3
    assert first_stop(EarlyExit(threshold=0.5, count=3), traces("BACAB", [0.9, 0.6, 0.3, 0.7, 0.9])) == 4
    assert not EarlyExit()(traces([None], [0.9]))


def test_what_the_buffer_drew_is_voted_on_by_score():
    pool = traces("baa", [0.20, 0.92, 0.81])
    assert (WeightedVote()(pool).best.answer.key, pool.index(Best()(pool).best)) == ("a", 1)
    votes = WeightedVote()(traces("BACA", [0.9, 0.6, 0.3, 0.7])).votes
    assert {v.key: round(v.weight, 6) for v in votes} == {"A": 1.3, "B": 0.9, "C": 0.3}


def test_the_mass_of_confidence_has_its_worked_example():
    pool = traces("ABAA", [0.9, 0.3, 0.6, 0.8])
    assert first_stop(ConfidenceMass(), pool) == 3
    assert not ConfidenceMass()(pool[:1])
    assert ConfidenceMass(threshold=0.75)(pool[:2])
    assert not ConfidenceMass()(traces("AA", [0.0, 0.0]))
    assert first_stop(MajorityShare(), traces("ABAAA")) == 5


def test_the_score_of_one_scorer_can_be_asked_for():
    [trace] = traces("A", [0.9])
    pool = [trace.scored(Score(value=-3.0, kind="other"))] * 2
    assert EarlyExit(kind="sure")(pool)
    assert not EarlyExit()(pool)
    assert ConfidenceMass(kind="sure")(pool)
    assert not ConfidenceMass(kind="nobody")(pool)


def likely(*probabilities):
    logprobs = Logprobs(space=LogprobSpace.raw, chosen=tuple(map(math.log, probabilities)))
    said = Segment(text="x", origin=Origin.sampled, tokens=len(probabilities), logprobs=logprobs)
    return Trace(prompt=PROMPT, segments=(said,), answer=Answer("x", "x"))


def test_soft_self_consistency_stops_where_its_smallest_probabilities_add_up():
    pool = [likely(0.9, 0.9, 0.2), likely(0.7, 0.7, 0.7), likely(0.99, 0.5, 0.6)]
    assert first_stop(SoftAdaptive(threshold=0.8), pool) == 2
    assert not SoftAdaptive(threshold=0.8)(pool[:1])


@pytest.mark.parametrize(
    "spec", ["adaptive-consistency(threshold=1.0)", "best-of-infinity(factor=1e300)", "soft-adaptive(threshold=1e9)"]
)
def test_a_rule_that_is_asked_after_every_one_of_a_thousand_draws_takes_no_second(spec):
    rule, pool = parse(spec, "stop-rule"), [likely(*[0.5] * 200)] * 1024
    rule = rule.within(2000) if hasattr(rule, "within") else rule
    assert busy(lambda: [rule(pool[:n]) for n in range(1, len(pool) + 1)], below=1) < 1


async def test_a_rule_on_probabilities_asks_the_engine_for_them():
    problem, method = Problem.of("?"), SelfConsistency(n=5, stop=SoftAdaptive(threshold=1.0), pace="thrift")
    engine = Scripted(lambda _: Line(says="The answer is 4", logprob=math.log(0.6)))
    outcome = await solve(problem, method, engine, budget=Budget(), run=Run(concurrency=1))
    assert (len(engine.cues), outcome.stopped) == (2, Stopped.enough)
    assert Capability.logprobs in needs_of(method).can
    with pytest.raises(CapabilityError, match="`logprobs`"):
        await solve(problem, method, Scripted(can=EVERYTHING - {Capability.logprobs}), budget=Budget())


async def test_a_rule_on_confidence_works_on_attempts_that_a_method_scored():
    method = parse(
        "self-consistency(n=6, stop=early-exit(threshold=-0.4), by=best-of-n(n=1, scorer=mean-logprob))", "method"
    )
    engine = Scripted(lambda cue: Line(says="The answer is 4", logprob=-0.5 if cue.number < 2 else -0.3))
    await solve(Problem.of("?"), method, engine, budget=Budget(), run=Run(concurrency=1))
    assert len(engine.cues) == 3


@pytest.mark.parametrize("k", [3, 4, 5])
async def test_a_decided_vote_has_the_winner_of_the_whole(k):
    def script(cue):
        return f"The answer is {cue.seed % k}"

    for seed in range(10):
        whole, early = [
            await solve(Problem.of("?"), SelfConsistency(n=9, stop=stop), Scripted(script), budget=Budget(),
                        run=Run(seed=seed, concurrency=1))
            for stop in (Fixed(), DecidedMajority())
        ]  # fmt: skip
        assert early.answer == whole.answer
        assert early.usage.calls <= whole.usage.calls


@pytest.mark.parametrize(
    "spec",
    [
        "ahead-by-k(k=0)", "esc(w=0)", "adaptive-consistency(threshold=0)", "adaptive-consistency(threshold=1.5)",
        "adaptive-consistency(prior=gamma)", "best-of-infinity(prior=beta)", "best-of-infinity(alpha=0)",
        "best-of-infinity(factor=-1)", "majority-share(threshold=2)", "majority-share(after=0)", "early-exit(count=0)",
        "confidence-mass(threshold=-1)", "decided-majority(n=0)", "soft-adaptive(threshold=-1)",
        "best-of-infinity(alpha=1e5)",
    ],
)  # fmt: skip
def test_a_rule_that_makes_no_sense_is_refused(spec):
    with pytest.raises(SpecError):
        parse(spec, "stop-rule")
