"""What a component requires, in one record, and what it and everything nested in it require together.

A method, scorer, selection rule or stop rule states it in `needs`, a class variable or a property; without `needs` it
requires nothing. Every refusal before a run follows from these records. They know no engine and no run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import reduce
from operator import or_

from thinkscale.errors import ScorerError
from thinkscale.registry import components, parts_of, remembered


class Capability(StrEnum):
    """Something an engine can do beyond plain sampling."""

    prefill = "prefill"
    """Continue a partial assistant turn exactly."""
    logprobs = "logprobs"
    """Log-probabilities of the sampled tokens."""
    top_logprobs = "top-logprobs"
    """Log-probabilities of the k likeliest tokens."""
    token_moments = "token-moments"
    """`logsumexp(z)` and `mean(z)` per token: exact self-certainty."""
    token_entropy = "token-entropy"
    """Entropy of the whole next-token distribution per token."""
    likelihood = "likelihood"
    """Teacher-forced log-probabilities of a given text."""
    logit_bias = "logit-bias"
    min_tokens = "min-tokens"
    seed = "seed"
    grammar = "grammar"
    json_schema = "json-schema"
    thinking_budget = "thinking-budget"
    """A native cap on thinking tokens."""
    rewards = "rewards"
    """Judge the steps of a given answer, as reward models do."""


class Feature(StrEnum):
    """A feature of a request, by the name of its field."""

    choices = "n"
    logprobs = "logprobs"
    tools = "tools"
    images = "messages"
    shape = "response_format"
    stop = "stop"


class Sign(StrEnum):
    """What is known of a score before it is given."""

    unknown = "unknown"
    not_negative = "not-negative"
    not_positive = "not-positive"


Abilities = frozenset[Capability]
IN_A_TURN = frozenset({Feature.tools, Feature.shape, Feature.stop, Feature.logprobs})
"""What a component loses that writes into a turn the model began."""
IN_A_QUESTION = frozenset({Feature.tools, Feature.images, Feature.shape, Feature.stop})
"""What a component loses that asks a question of its own about the text of attempts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a component requires by itself. `needs_of` adds up what it and its parts require."""

    can: Abilities = frozenset()
    """Capabilities of the engine that it runs on."""
    roles: Mapping[str, Abilities] = field(default_factory=dict)
    """Roles that it calls, with the capabilities of each; the main engine plays those without one of their own."""
    players: frozenset[str] = frozenset()
    """Roles that it and its parts run on instead of the main engine; each needs an engine of its own."""
    tools: frozenset[str] = frozenset()
    """What it needs beside engines, by name: a sandbox, a retriever, an evaluator."""
    top_logprobs: int = 0
    """How many of the likeliest tokens it reads at each position."""
    either: tuple[tuple[Needs, ...], ...] = ()
    """Alternatives: of each tuple, the first one that the engines support is required, beside the fields above."""
    scores: frozenset[str] = frozenset()
    """Kinds of scores that a rule reads; the empty text is the latest score of any kind."""
    summed: bool = False
    """Whether a rule sums raw scores, and so refuses scores below 0."""
    gives: Mapping[str, Sign] = field(default_factory=dict)
    """Kinds of scores that it attaches to attempts, with what is known of their sign."""
    loses: frozenset[Feature] = frozenset()
    """Features of a request that it loses."""
    keeps: frozenset[Feature] = frozenset()
    """Features that its parts would lose by themselves but not inside it."""
    effort: Mapping[str, int] = field(default_factory=dict)
    """Fields that `reasoning_effort` scales, with the smallest value of each."""

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            can=self.can | other.can,
            roles=_unite(self.roles, other.roles),
            players=self.players | other.players,
            tools=self.tools | other.tools,
            top_logprobs=max(self.top_logprobs, other.top_logprobs),
            either=self.either + other.either,
            scores=self.scores | other.scores,
            summed=self.summed or other.summed,
            gives={**self.gives, **other.gives},
            loses=self.loses | other.loses,
            keeps=self.keeps | other.keeps,
            effort={**self.effort, **other.effort},
        )

    def of(self, role: str) -> Abilities:
        """Capabilities required of the engine in a role; `main` is the main engine."""
        return self.can if role == "main" else self.roles.get(role, frozenset())

    def everything(self) -> Abilities:
        """Capabilities required of the engines of all roles together."""
        return self.can.union(*self.roles.values())

    def served(self, can: Callable[[str], Abilities]) -> Needs:
        """The same with one alternative taken of each tuple in `either`.

        Args:
            can: the capabilities of the engine in a role.
        """
        made = [next((n for n in choice if n.met(can)), choice[-1]) for choice in self.either]
        return reduce(or_, made, replace(self, either=()))

    def met(self, can: Callable[[str], Abilities]) -> bool:
        """Whether the engines have every capability that is required."""
        return all(self.of(role) <= can(role) for role in ("main", *self.roles))

    def played_by(self, players: frozenset[str]) -> Needs:
        """The same, required of the engines in these roles; of the main engine if there are none."""
        if not players:
            return self
        here = {role: self.can for role in players if role != "main"}
        return replace(
            self,
            can=self.can if "main" in players else frozenset(),
            roles=_unite(self.roles, here),
            either=tuple(tuple(n.played_by(players) for n in choice) for choice in self.either),
        )


NOTHING = Needs()
"""The needs of a component that requires nothing."""
UNSAID = Needs()
"""The needs of a component that states none: nothing is required, and what it loses or gives is unknown."""


def own_needs(component: object) -> Needs:
    """The needs that a component states, or `UNSAID`; the only place that reads the attribute."""
    needs: Needs = getattr(component, "needs", UNSAID)
    return needs


@remembered
def needs_of(component: object) -> Needs:
    """What a component and everything nested in it require of the main engine, of other roles and beside engines."""
    return reduce(or_, (needs for _, needs in each_need(component)), NOTHING)


def each_need(
    component: object, players: frozenset[str] = frozenset(), kept: frozenset[Feature] = frozenset()
) -> Iterator[tuple[object, Needs]]:
    """Every part with its needs, depth first.

    Args:
        component: the outermost one.
        players: the roles that it runs on; empty for the main engine.
        kept: features that are not lost, whatever a part states.
    """
    own = own_needs(component)
    players = own.players or players
    yield component, replace(own, loses=own.loses - kept).played_by(players)
    for part in parts_of(component):
        yield from each_need(part, players, kept | own.keeps)


def _unite(a: Mapping[str, Abilities], b: Mapping[str, Abilities]) -> dict[str, Abilities]:
    return {role: a.get(role, frozenset()) | b.get(role, frozenset()) for role in (*a, *b)}


@remembered
def idle_rules(component: object) -> tuple[str, ...]:
    """One warning for every rule inside a component that reads scores which nothing gives."""
    found = []
    for whole, rule in _find_readers(component):
        given, wanted = _collect_gives(whole), own_needs(rule).scores
        if given is not None and not (given if wanted == {""} else wanted & given.keys()):
            what = " or ".join(f"a `{kind}` score" if kind else "a score" for kind in sorted(wanted))
            found.append(
                f"`{rule!r}` reads {what}, and nothing in `{whole!r}` gives one, so it changes nothing: use it where "
                "attempts are scored, as in `best-of-n(scorer=…, select=…)` or `self-consistency(by=best-of-n(n=1), …)`"
            )
    return tuple(found)


def refuse_clashes(component: object) -> None:
    """Refuse a rule that sums scores of which none is above 0.

    Raises:
        ScorerError: naming the rule and the scores.
    """
    if clash := _clash(component):
        raise ScorerError(clash)


@remembered
def _clash(component: object) -> str:
    for whole, rule in _find_readers(component):
        given, needs = _collect_gives(whole) or {}, own_needs(rule)
        signs = [sign for kind, sign in given.items() if needs.scores in ({""}, {kind})]
        if needs.summed and signs and all(sign is Sign.not_positive for sign in signs):
            return (
                f"`{rule!r}` sums scores, and those of `{whole!r}` are never above 0: with weights below 0 an answer "
                "loses by being given more often; use `borda`, `cisc` or `weighted-vote(transform=softmax)`"
            )
    return ""


def _find_readers(component: object) -> Iterator[tuple[object, object]]:
    """Every (holder, rule) pair in which the rule reads scores."""
    for whole in components(component):
        yield from ((whole, part) for part in parts_of(whole) if own_needs(part).scores)


def _collect_gives(whole: object) -> Mapping[str, Sign] | None:
    """Scores that a component attaches to attempts, by kind; `None` if a part of it states no needs."""
    parts = [own_needs(part) for part in components(whole)]
    return None if any(part is UNSAID for part in parts) else reduce(or_, parts, NOTHING).gives
