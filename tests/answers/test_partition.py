from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkscale.answers.algebra import Remembered, Verdict
from thinkscale.answers.canonical import canonical
from thinkscale.answers.compare import compare
from thinkscale.answers.partition import MAX_PAIRS, Partition, Vote, partition
from thinkscale.answers.reading import Standing, read
from thinkscale.types import AnswerKind


async def silent(pairs: Sequence[tuple[str, str]]) -> list[bool | None]:
    return [None] * len(pairs)


class Table:
    """A judge that looks pairs up and remembers what it was asked."""

    def __init__(self, *equal: tuple[str, str], otherwise: bool | None = False) -> None:
        self.equal = {(f"${a}$", f"${b}$") for a, b in equal}
        self.otherwise = otherwise
        self.asked: list[tuple[str, str]] = []

    async def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[bool | None]:
        self.asked += pairs
        await asyncio.sleep(0)
        return [True if pair in self.equal else self.otherwise for pair in pairs]


async def groups(*texts: str, kind: AnswerKind = AnswerKind.auto) -> list[set[str]]:
    """The texts of one vote by their classes, without algebra."""
    keys = [canonical(text, kind) for text in texts]
    labels = (await partition(keys, kind, silent)).labels
    return [{t for t, its in zip(texts, labels, strict=True) if its == label} for label in dict.fromkeys(labels)]


@pytest.mark.parametrize(
    ("texts", "classes"),
    [
        (["0.3333", "1/3", "3333/10000"], [{"0.3333", "3333/10000"}, {"1/3"}]),
        (["0.3333", "1/3"], [{"0.3333", "1/3"}]),
        (["0.3333", "0.33333", "1/3"], [{"0.3333", "0.33333", "1/3"}]),
        (["0.3333", r"\frac{33331}{100000}", "1/3"], [{"0.3333"}, {r"\frac{33331}{100000}"}, {"1/3"}]),
        (["10", "10 cm", "10 m"], [{"10"}, {"10 cm"}, {"10 m"}]),
        (["10", "10 cm"], [{"10", "10 cm"}]),
        (["10", "10.0", "10 cm", "100 mm"], [{"10", "10.0"}, {"10 cm", "100 mm"}]),
        (["50", "50%", "0.5"], [{"50"}, {"50%", "0.5"}]),
        (["2x+1", "y=2x+1"], [{"2x+1", "y=2x+1"}]),
        (["2x+1", "y=2x+1", "z=2x+1"], [{"2x+1"}, {"y=2x+1"}, {"z=2x+1"}]),
        (["3:30", "3:30 PM"], [{"3:30", "3:30 PM"}]),
        (["3:30", "3:30 PM", "3:30 AM"], [{"3:30"}, {"3:30 PM"}, {"3:30 AM"}]),
        (["05/01/2021", "2021-05-01"], [{"05/01/2021", "2021-05-01"}]),
        (["05/01/2021", "2021-05-01", "2021-01-05"], [{"05/01/2021"}, {"2021-05-01"}, {"2021-01-05"}]),
        (["March 3", "March 3, 1999", "March 3, 2001"], [{"March 3"}, {"March 3, 1999"}, {"March 3, 2001"}]),
        (["1, 2", "x=1, y=2", "x=2, y=1"], [{"1, 2"}, {"x=1, y=2"}, {"x=2, y=1"}]),
        (["1, 2", "x=1, y=2"], [{"1, 2", "x=1, y=2"}]),
        (["(1,2)", "x=1, y=2", "x=2, y=1"], [{"(1,2)", "x=1, y=2"}, {"x=2, y=1"}]),
        (["(3,1)", "(1,3)", r"\{1,3\}"], [{"(3,1)"}, {"(1,3)"}, {r"\{1,3\}"}]),
        (["x^2+y^2=1", "1", "x-y=1"], [{"x^2+y^2=1"}, {"1"}, {"x-y=1"}]),
        (["1000-400=600", "1000-390=610", "600", "610"], [{"1000-400=600", "600"}, {"1000-390=610", "610"}]),
    ],
)
async def test_what_says_less_joins_only_where_one_class_fits(texts: list[str], classes: list[set[str]]):
    assert await groups(*texts) == classes
    assert sorted(map(sorted, await groups(*texts[::-1]))) == sorted(map(sorted, classes))


ATOMS = st.sampled_from(
    [
        "1",
        "2",
        "x",
        "y",
        "n",
        r"\pi",
        "0.3333",
        "1/3",
        "0.5",
        r"\sqrt{2}",
        "1.4142",
        "x^{2024}+1",
        r"\sum_{k=1}^n k",
        "7",
    ]
)
WHOLE = st.sampled_from(
    ["5 km", "5000 m", "5", "50%", "50", "1/2", "3:30", "3:30 pm", "yes", "no", "Paris", "2021-05-01", "05/01/2021"]
)
FORMULAS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", r"\cdot "]), inner).map("".join),
        inner.map(lambda t: rf"\sqrt{{{t}}}"),
        st.tuples(inner, inner).map(lambda p: rf"\frac{{{p[0]}}}{{{p[1]}}}"),
        st.tuples(inner, inner).map(lambda p: f"({p[0]}, {p[1]})"),
        st.tuples(inner, inner).map(lambda p: f"{p[0]}, {p[1]}"),
        st.tuples(inner, inner).map(lambda p: f"{p[0]}={p[1]}"),
    ),
    max_leaves=5,
)
ANSWERS = st.one_of(FORMULAS, WHOLE, ATOMS)


@given(st.lists(ANSWERS, min_size=1, max_size=8), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_the_classes_do_not_depend_on_the_order_in_which_answers_come(texts, random):
    keys = [canonical(text) for text in texts]
    shuffled = random.sample(keys, len(keys))

    async def one_by_one() -> dict[str, str]:
        vote = Vote(judge=silent)
        for key in shuffled:
            await vote.add([key])
        return {key: vote.label(key) for key in keys}

    at_once = asyncio.run(partition(keys, judge=silent))
    assert dict(zip(keys, at_once.labels, strict=True)) == asyncio.run(one_by_one())


@given(st.lists(ANSWERS, min_size=1, max_size=8))
@settings(max_examples=150, deadline=None)
def test_two_answers_that_are_known_to_differ_are_never_in_one_class(texts):
    found = asyncio.run(partition([canonical(text) for text in texts], judge=silent))
    for each in found.classes:
        exact = {m.key for m in each.members if m.how in ("stands for it", "same value")}
        names = {read(key).name for key in exact}
        assert len(names) == 1
        assert each.label in {m.key for m in each.members}


@given(ANSWERS, ANSWERS)
@settings(max_examples=150, deadline=None)
def test_comparison_is_reflexive_and_symmetric(first, second):
    a, b = canonical(first), canonical(second)
    there, back = (asyncio.run(compare(*pair, judge=silent)) for pair in ((a, b), (b, a)))
    assert asyncio.run(compare(a, a, judge=silent)).verdict is Verdict.same
    assert there.verdict is back.verdict
    assert there.reason == back.reason


@given(st.one_of(ANSWERS, st.text(max_size=30)), st.sampled_from(list(AnswerKind)))
@settings(max_examples=300, deadline=None)
def test_what_is_read_is_a_function_of_a_key_that_is_its_own_key(text, kind):
    key = canonical(text, kind)
    assert canonical(key, kind) == key
    assert read(key, kind) == read(canonical(key, kind), kind)


async def test_what_was_not_computed_joins_the_one_class_that_algebra_finds_equal():
    judge = Table((r"\sum_{k=1}^nk", r"n(n+1)/2"))
    found = await partition([r"\sum_{k=1}^nk", "n(n+1)/2", "n^2"], judge=judge)
    assert found.labels == ("n(n+1)/2", "n(n+1)/2", "n^2")
    assert {m.how for c in found.classes for m in c.members} == {"stands for it", "algebra"}
    assert not found.undecided


async def test_what_algebra_finds_equal_to_two_classes_joins_neither():
    judge = Table((r"\sum_{k=1}^nk", "n"), (r"\sum_{k=1}^nk", "n^2"))
    found = await partition([r"\sum_{k=1}^nk", "n", "n^2"], judge=judge)
    assert len(set(found.labels)) == 3


async def test_unknown_never_merges_and_is_named():
    found = await partition(["x^{2024}+1", "1+x^{2024}", "Paris"], judge=silent)
    assert len(set(found.labels)) == 3
    assert found.undecided == {("1+x^{2024}", "x^{2024}+1")}
    assert found.may_change({"x^{2024}+1": 2, "1+x^{2024}": 2, "paris": 3})
    assert not found.may_change({"x^{2024}+1": 1, "1+x^{2024}": 1, "paris": 3})


def test_a_winner_that_no_undecided_pair_can_catch_is_not_in_doubt():
    found = Partition(("a", "b"), (), frozenset({("b", "c")}))
    assert not found.may_change({"a": 5, "b": 2, "c": 2})
    assert found.may_change({"a": 4, "b": 2, "c": 2})
    assert not found.may_change({"b": 5, "c": 2})


async def test_verdicts_are_asked_for_once_and_kept_even_where_there_is_none():
    memory, judge = Remembered(), Table(otherwise=None)
    for _ in range(3):
        await partition(["x^{2024}+1", "1+x^{2024}"], judge=judge, memory=memory)
    assert len(judge.asked) == 1
    assert memory.recall("1+x^{2024}", "x^{2024}+1") is Verdict.unknown


async def test_algebra_is_asked_about_a_limited_number_of_pairs():
    judge = Table()
    keys = [rf"\lim_{{x\to {n}}}g(x)" for n in range(2, 60)]
    found = await partition(keys, judge=judge)
    assert len({frozenset(pair) for pair in judge.asked}) == MAX_PAIRS
    assert found.undecided


async def test_votes_with_different_answers_do_not_touch_each_other():
    alone = await partition(["10", "10 cm"], judge=silent)
    await partition(["10", "10 m"], judge=silent)
    assert (await partition(["10", "10 cm"], judge=silent)) == alone


async def test_tasks_that_add_at_once_see_the_classes_of_all():
    vote = Vote(judge=Table(("1+x^{2024}", "x^{2024}+1")))
    async with asyncio.TaskGroup() as group:
        for key in ("x^{2024}+1", "1+x^{2024}", "2"):
            group.create_task(vote.add([key]))
    assert vote.label("x^{2024}+1") == vote.label("1+x^{2024}")
    assert vote.label("2") == "2"


def test_two_hundred_different_formulas_are_classed_in_a_second_one_by_one():
    keys = [canonical(rf"\frac{{{n}\sqrt{{{n + 7}}}}}{{x+{n}}}") for n in range(2, 202)]

    async def count() -> set[str]:
        vote = Vote(judge=silent)
        for key in keys:
            await vote.add([key])
        return {vote.label(key) for key in keys}

    began = time.process_time()
    assert len(asyncio.run(count())) == 200
    assert time.process_time() - began < 1


async def test_the_version_grows_when_an_earlier_answer_changes_its_class_and_only_then():
    vote, versions = Vote(judge=silent), []
    for key in ("10", "10", "7", "10 cm", "10 m"):
        await vote.add([key])
        versions.append((vote.version, vote.label("10")))
    assert versions == [(0, "10"), (0, "10"), (0, "10"), (1, "10 cm"), (2, "10")]


def test_an_answer_that_was_seen_costs_next_to_nothing():
    vote = Vote(judge=silent)
    asyncio.run(vote.add([rf"x+{n}" for n in range(50)]))
    began = time.process_time()
    for _ in range(10_000):
        assert vote.settled(["x+7"])
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("key", "standing"),
    [
        ("1/3", Standing.exact),
        ("0.3333", Standing.coarse),
        ("3:30", Standing.coarse),
        ("05/01/2021", Standing.coarse),
        (r"\sum_{k=1}^nk", Standing.opaque),
        ("2^{99999}+1", Standing.opaque),
        ("paris", Standing.exact),
    ],
)
def test_a_key_says_how_much_is_known_of_it(key: str, standing: Standing):
    assert read(key).standing is standing
