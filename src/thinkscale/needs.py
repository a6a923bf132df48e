"""What a component asks of the world, in one record, and what it and everything nested in it ask together.

A method, scorer, selection rule or stop rule says it in `needs`, a class variable or a property; one that says nothing
asks for nothing. Everything that is refused before a run is refused by these records. They know no engine and no run.
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
    """Something that a request may have, by the name of its field."""

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
"""What is lost by writing into a turn that the model began."""
IN_A_QUESTION = frozenset({Feature.tools, Feature.images, Feature.shape, Feature.stop})
"""What is lost by putting a question of one's own about the text of attempts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a component asks of the world. `needs_of` adds up what it and its parts ask."""

    can: Abilities = frozenset()
    """What the engine that it runs on must be able to do."""
    roles: Mapping[str, Abilities] = field(default_factory=dict)
    """Roles that it asks, with what each must be able to do; the main engine plays those that nobody was named for."""
    players: frozenset[str] = frozenset()
    """Roles that it and its parts run on instead; each has to be played, the main engine does not stand in."""
    tools: frozenset[str] = frozenset()
    """What must be at hand beside engines, by name: a sandbox, a retriever, an evaluator."""
    top_logprobs: int = 0
    """Likeliest tokens that have to be told at each position."""
    either: tuple[tuple[Needs, ...], ...] = ()
    """Choices that follow from the engine: of each, the first that can be served is what is asked, beside the above."""
    scores: frozenset[str] = frozenset()
    """Kinds of scores that a rule reads off attempts; the empty text is the latest score, whatever its kind."""
    summed: bool = False
    """Whether a rule sums scores as they are, so that it refuses those below 0."""
    gives: Mapping[str, Sign] = field(default_factory=dict)
    """Kinds of scores that it attaches to attempts, with what is known of their sign."""
    loses: frozenset[Feature] = frozenset()
    """What of a request does not survive it."""
    keeps: frozenset[Feature] = frozenset()
    """What its parts would lose and do not within it."""
    effort: Mapping[str, int] = field(default_factory=dict)
    """Fields that `reasoning_effort` scales, with the least value of each."""

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
        """What the engine in a role must be able to do; `main` is the main engine."""
        return self.can if role == "main" else self.roles.get(role, frozenset())

    def everything(self) -> Abilities:
        """What the engines of all roles together must be able to do."""
        return self.can.union(*self.roles.values())

    def served(self, can: Callable[[str], Abilities]) -> Needs:
        """The same with every choice made.

        Args:
            can: what the engine in a role offers.
        """
        made = [next((n for n in choice if n.met(can)), choice[-1]) for choice in self.either]
        return reduce(or_, made, replace(self, either=()))

    def met(self, can: Callable[[str], Abilities]) -> bool:
        """Whether the engines offer it."""
        return all(self.of(role) <= can(role) for role in ("main", *self.roles))

    def played_by(self, players: frozenset[str]) -> Needs:
        """The same where others than the main engine have to serve it."""
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
"""What a component says that asks for nothing."""
UNSAID = Needs()
"""What stands for a component that does not say what it needs: nothing is asked, and nothing else is known of it."""


def own_needs(component: object) -> Needs:
    """What a component says of itself; the only place that knows what absent means."""
    needs: Needs = getattr(component, "needs", UNSAID)
    return needs


@remembered
def needs_of(component: object) -> Needs:
    """What a component and everything nested in it ask of the main engine, of other roles and of the world."""
    return reduce(or_, (needs for _, needs in each_need(component)), NOTHING)


def each_need(
    component: object, players: frozenset[str] = frozenset(), kept: frozenset[Feature] = frozenset()
) -> Iterator[tuple[object, Needs]]:
    """Every part with what it asks, depth first.

    Args:
        component: where to begin.
        players: the roles whose turn it is; none is the main engine.
        kept: what is not lost, whatever a part says.
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
    """A warning for every rule within a component that reads scores which nothing gives, so that it does nothing."""
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
    """Refuse a rule that sums scores where none of those that it reads is above 0.

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
    """Every rule that reads scores, behind what holds it."""
    for whole in components(component):
        yield from ((whole, part) for part in parts_of(whole) if own_needs(part).scores)


def _collect_gives(whole: object) -> Mapping[str, Sign] | None:
    """The scores that attempts of a component have; `None` where a part of it does not say what it gives."""
    parts = [own_needs(part) for part in components(whole)]
    return None if any(part is UNSAID for part in parts) else reduce(or_, parts, NOTHING).gives
