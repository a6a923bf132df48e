"""What components ask of the world, added up and checked before anything is spent."""

from dataclasses import dataclass

import pytest

from thinkscale.api import solve
from thinkscale.budget import Budget
from thinkscale.built_in import BUILT_IN
from thinkscale.engines.scripted import Line, Scripted
from thinkscale.errors import CapabilityError, ScorerError
from thinkscale.needs import (
    IN_A_QUESTION,
    UNSAID,
    Capability,
    Feature,
    Needs,
    Sign,
    each_need,
    idle_rules,
    needs_of,
    own_needs,
    refuse_clashes,
)
from thinkscale.registry import lookup, parse
from thinkscale.types import Problem

ALL = frozenset(Capability)
LOG, TOP, MOMENTS = Capability.logprobs, Capability.top_logprobs, Capability.token_moments


def method(spec):
    return parse(spec, "method")


@pytest.mark.parametrize("kind", ["method", "scorer", "selector", "stop-rule"])
def test_every_component_that_is_built_in_says_what_it_needs(kind):
    for name in BUILT_IN[kind]:
        made = lookup(kind, name)()
        assert own_needs(made) is not UNSAID, f"{kind} `{name}` does not say what it needs"
        assert isinstance(own_needs(made), Needs)


def test_a_scorer_gives_scores_of_its_own_name():
    for name in BUILT_IN["scorer"]:
        assert own_needs(lookup("scorer", name)()).gives.keys() == {name}


def test_a_component_that_says_nothing_asks_for_nothing():
    assert own_needs(object()) == Needs()
    assert needs_of(object()) == Needs()


def test_needs_add_up():
    a = Needs(can=frozenset({LOG}), roles={"judge": frozenset()}, top_logprobs=3, gives={"a": Sign.unknown})
    b = Needs(roles={"judge": frozenset({LOG})}, players=frozenset({"small"}), top_logprobs=2, loses=IN_A_QUESTION)
    both = a | b
    assert both.can == {LOG}
    assert both.roles == {"judge": {LOG}}
    assert both.players == {"small"}
    assert both.top_logprobs == 3
    assert both.gives == {"a": Sign.unknown}
    assert both.loses == IN_A_QUESTION
    assert both == b | a
    assert a | Needs() == a


def test_what_runs_on_a_role_is_asked_of_whoever_plays_it():
    nested = "self-consistency(by=on(role=small, method=best-of-n(scorer=mean-logprob)))"
    needs = needs_of(method(nested))
    assert (needs.can, needs.roles, needs.players) == (frozenset(), {"small": {LOG}}, {"small"})
    assert needs_of(method("on(role=small, method=on(role=main, method=budget-forcing))")).can == {Capability.prefill}
    assert needs_of(method("ensemble(models=[main, big], by=budget-forcing)")).everything() == {Capability.prefill}


def test_a_part_keeps_what_its_whole_keeps_for_it():
    whole = method("tool-call-best-of-n(judge=p-true)")
    lost = {type(part).__name__: needs.loses for part, needs in each_need(whole)}
    assert lost["PTrue"] == IN_A_QUESTION - {Feature.tools}


@pytest.mark.parametrize(
    ("can", "asked", "told"),
    [
        (ALL, {LOG, MOMENTS}, 0),
        (ALL - {MOMENTS}, {LOG, TOP}, 20),
        (ALL - {MOMENTS, TOP}, {LOG}, 0),
        (frozenset(), {LOG}, 0),
    ],
)
def test_best_of_n_asks_for_the_strongest_scorer_that_the_model_can_serve(can, asked, told):
    needs = needs_of(method("best-of-n")).served(lambda _: can)
    assert (needs.can, needs.top_logprobs) == (asked, told)


async def test_best_of_n_says_which_scorer_judged():
    engine = Scripted(lambda cue: Line(says=f" The answer is {cue.seed % 2}.", logprob=-0.5), can=ALL - {MOMENTS, TOP})
    found = await solve(Problem.of("Which?"), method("best-of-n(n=2)"), engine, budget=Budget())
    assert {score.kind for trace in found.traces for score in trace.scores} == {"mean-logprob"}
    assert any("judged by `mean-logprob`" in warning for warning in found.warnings)
    mute = Scripted(can=frozenset())
    with pytest.raises(CapabilityError, match="logprobs"):
        await solve(Problem.of("Which?"), method("best-of-n(n=2)"), mute, budget=Budget())
    assert not mute.cues


IDLE = [
    ("self-consistency(stop=confidence-mass)", ["confidence-mass"]),
    ("self-consistency(stop=early-exit)", ["early-exit"]),
    ("self-consistency(select=borda)", ["borda"]),
    ("self-consistency(select=weighted-vote, stop=early-exit)", ["early-exit", "weighted-vote"]),
    ("best-of-n(scorer=length, select=borda(kind=p-true))", ['borda(kind="p-true")']),
    ("cascade(levels=[self-consistency(select=cisc), single])", ["cisc"]),
    ("best-of-n(scorer=p-true, select=weighted-vote)", []),
    ("self-consistency(by=best-of-n(n=1), stop=confidence-mass, select=borda)", []),
    ("deepprune", []),
    ("deepconf-online", []),
    ("ensemble", []),
    ("self-consistency(stop=soft-adaptive, select=rpc)", []),
]


@pytest.mark.parametrize(("spec", "rules"), IDLE)
def test_a_rule_without_scores_to_read_is_warned_of(spec, rules):
    assert sorted(warning.split("`")[1] for warning in idle_rules(method(spec))) == rules


async def test_the_warning_is_part_of_the_outcome():
    found = await solve(Problem.of("2?"), method("self-consistency(n=2, select=borda)"), Scripted(), budget=Budget())
    assert any("`borda` reads a score" in warning for warning in found.warnings)


def test_nothing_is_said_of_parts_that_do_not_say_what_they_give():
    @dataclass(frozen=True)
    class Own:
        """A method of somebody else."""

    assert (
        idle_rules(method("self-consistency(select=borda)").__class__(by=Own(), select=parse("borda", "selector")))
        == ()
    )


@pytest.mark.parametrize("scorer", ["entropy", "perplexity", "sum-logprob", "mean-logprob", "fewest-hedges", "length"])
@pytest.mark.parametrize("rule", ["confidence-filtered-vote", "weighted-vote"])
async def test_a_rule_that_sums_scores_is_refused_before_it_is_given_negative_ones(scorer, rule):
    engine = Scripted()
    with pytest.raises(ScorerError, match="weights below 0"):
        await solve(Problem.of("2?"), method(f"best-of-n(scorer={scorer}, select={rule})"), engine, budget=Budget())
    assert not engine.cues


@pytest.mark.parametrize(
    "spec",
    [
        "best-of-n(scorer=entropy, select=weighted-vote(transform=softmax))",
        "best-of-n(scorer=outcome-reward, select=weighted-vote)",
        'best-of-n(scorer=length(prefer="longest"), select=weighted-vote)',
        "best-of-n(scorer=self-certainty, select=confidence-filtered-vote)",
    ],
)
def test_scores_that_may_be_positive_are_not_refused(spec):
    refuse_clashes(method(spec))
