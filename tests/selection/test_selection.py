"""Guarantees that every selection rule keeps, and what each rule picks."""

import math
from collections import Counter
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkscale.selection.best import Best
from thinkscale.selection.majority import Majority
from thinkscale.selection.readings import last_score
from thinkscale.selection.votes import attempts
from thinkscale.selection.weighted_vote import WeightedVote
from thinkscale.types import Answer, Finish, Message, Score, Trace

PROMPT = (Message("user", "?"),)
RULES = [Majority(), Best()]
ROW = st.tuples(
    st.sampled_from([None, "A", "B", "C"]),
    st.one_of(st.none(), st.floats(-5, 5), st.sampled_from([math.nan, -math.inf])),
    st.sampled_from(list(Finish)),
)
POOL = st.lists(ROW, max_size=9)


def pool(rows):
    made = []
    for place, (key, score, finish) in enumerate(rows):
        answer = None if key is None or finish in (Finish.aborted, Finish.error) else Answer(key.lower(), key)
        scores = () if score is None else (Score(value=score, kind="test"),)
        made.append(Trace(prompt=PROMPT, path=(place,), answer=answer, scores=scores, finish=finish))
    return made


def answered(*keys, scores=None):
    rows = zip(keys, scores or [None] * len(keys), strict=True)
    return pool([(k, s, Finish.eos) for k, s in rows])


@pytest.mark.parametrize("rule", RULES)
@given(rows=POOL)
def test_a_trace_without_an_answer_never_wins_over_one_with_and_never_votes(rule, rows):
    traces = pool(rows)
    ranking = rule(traces)
    voters = [t for t in traces if t.answer]
    assert sum(v.count for v in ranking.votes) == len(voters)
    assert (ranking.best is not None and ranking.best.answer is not None) == bool(voters)
    if ranking.confidence is not None:
        assert 0 < ranking.confidence <= 1


@pytest.mark.parametrize("rule", RULES)
@given(rows=POOL, seed=st.randoms())
def test_the_order_of_the_pool_decides_nothing_but_ties(rule, rows, seed):
    traces = pool(rows)
    shuffled = list(traces)
    seed.shuffle(shuffled)
    here, there = rule(traces), rule(shuffled)
    assert Counter({v.key: v.count for v in here.votes}) == Counter({v.key: v.count for v in there.votes})
    if isinstance(rule, Majority):
        assert here.confidence == pytest.approx(there.confidence) if here.confidence else not there.confidence
        if len(here.votes) == 1 or (here.votes and here.votes[0].count > here.votes[1].count):
            assert here.best.answer == there.best.answer
    elif here.votes and sum(last_score(t) == last_score(here.best) for t in traces if t.answer) == 1:
        assert here.best == there.best


@pytest.mark.parametrize("rule", RULES)
@given(rows=POOL)
def test_renaming_the_answers_renames_the_winner_and_nothing_else(rule, rows):
    new = {None: None, "A": "C", "B": "A", "C": "B"}
    here, there = rule(pool(rows)), rule(pool([(new[k], s, f) for k, s, f in rows]))
    assert (here.best and here.best.path) == (there.best and there.best.path)
    assert [(new[v.key], v.count, v.weight) for v in here.votes] == [(v.key, v.count, v.weight) for v in there.votes]
    assert here.confidence == there.confidence


@pytest.mark.parametrize("rule", RULES)
@given(row=ROW)
def test_of_one_attempt_that_attempt_is_chosen(rule, row):
    [only] = pool([row])
    ranking = rule([only])
    if only.finish in (Finish.aborted, Finish.error):
        assert ranking.best is None
    else:
        assert ranking.best == only
    assert ranking.confidence == (1.0 if only.answer else None)


@pytest.mark.parametrize("rule", RULES)
def test_an_empty_pool_has_no_winner(rule):
    assert rule([]).best is None
    assert rule([]).votes == ()


@given(rows=POOL)
def test_the_majority_is_the_class_that_a_plain_count_finds(rows):
    traces = pool(rows)
    counts = Counter(t.answer.key for t in traces if t.answer)
    ranking = Majority()(traces)
    if counts:
        most = max(counts.values())
        winner = next(t for t in traces if t.answer and counts[t.answer.key] == most)
        assert ranking.best == winner
        assert ranking.confidence == most / sum(t.finish is not Finish.aborted for t in traces)


@given(rows=POOL)
def test_the_best_is_the_first_of_the_highest_scores_among_answers(rows):
    traces = pool(rows)
    voters = [t for t in traces if t.answer]
    best = Best()(traces).best
    if voters:
        rank = [-math.inf if not t.scores or math.isnan(t.scores[-1].value) else t.scores[-1].value for t in voters]
        judged = max(rank) > -math.inf
        assert best == (voters[rank.index(max(rank))] if judged else Majority()(traces).best)


def test_ties_go_to_the_answer_seen_first():
    assert Majority()(answered("B", "A", "A", "B")).best.path == (0,)
    assert Best()(answered("B", "A", scores=[1.0, 1.0])).best.path == (0,)


def test_the_three_rules_of_the_worked_example_have_their_winners():
    traces = answered("A", "B", "A", "C", "B", scores=[0.3, 0.9, 0.4, 0.95, 0.1])
    assert Majority()(traces).best.answer.key == "A"
    best = Best()(traces)
    assert (best.best.answer.key, best.best.path) == ("C", (3,))
    assert best.confidence == pytest.approx(0.2)
    weighted = WeightedVote()(traces)
    assert weighted.best.answer.key == "B"
    assert [(v.key, round(v.weight, 6)) for v in weighted.votes] == [("B", 1.0), ("C", 0.95), ("A", 0.7)]


def test_only_the_latest_score_counts():
    first, second = answered("A", "B", scores=[9.0, 8.0])
    again = [first.scored(Score(value=1.0, kind="second")), second.scored(Score(value=2.0, kind="second"))]
    assert Best()(again).best.answer.key == "B"


def test_cancelled_attempts_leave_the_denominator_and_failed_ones_do_not():
    rows = [("A", None, Finish.eos), (None, None, Finish.aborted), (None, None, Finish.error), (None, None, Finish.eos)]
    assert len(attempts(pool(rows))) == 3
    assert Majority()(pool(rows)).confidence == pytest.approx(1 / 3)


def test_without_any_answer_the_first_attempt_that_did_not_fail_stands_for_the_pool():
    traces = pool([(None, None, Finish.error), (None, None, Finish.length), (None, None, Finish.eos)])
    for rule in RULES:
        assert (rule(traces).best.path, rule(traces).confidence) == ((1,), None)


def test_the_words_of_a_class_are_those_of_its_first_member():
    first, second = answered("A", "A")
    second = replace(second, answer=Answer("other words", "A"))
    assert Majority()([first, second]).votes[0].answer == "a"


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        ([0.5, 0.3, 0.2], {1: 0.5, 2: 0.5, 3: 0.56, 5: 0.6125}),
        ([0.3, 0.4, 0.3], {1: 0.3, 2: 0.3, 3: 0.288, 5: 0.27648}),
    ],
)
def test_over_all_sequences_the_vote_wins_as_often_as_its_closed_form_says(p, expected):
    # First seen wins ties; over all orders of one multiset that is the fractional rule.
    classes = "ABC"
    for n, value in expected.items():
        chance = sum(
            math.prod(p[i] for i in draws) * (Majority()(answered(*(classes[i] for i in draws))).best.answer.key == "A")
            for draws in product(range(3), repeat=n)
        )
        assert chance == pytest.approx(value, abs=1e-6)


def test_at_nine_draws_too():
    p, classes, chance = [0.5, 0.3, 0.2], "ABC", 0.0
    for a in range(10):
        for b in range(10 - a):
            counts = (a, b, 9 - a - b)
            ways = math.factorial(9) / math.prod(map(math.factorial, counts))
            weight = ways * math.prod(x**c for x, c in zip(p, counts, strict=True))
            ties = [i for i in range(3) if counts[i] == max(counts)]
            firsts = [
                Majority()(answered(*classes[i], *"".join(classes[j] * (counts[j] - (j == i)) for j in range(3))))
                for i in ties
            ]
            chance += weight * sum(r.best.answer.key == "A" for r in firsts) / len(ties)
    assert chance == pytest.approx(0.698214, abs=1e-6)
