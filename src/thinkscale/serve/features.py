"""What of a request a method cannot carry: refused before anything is spent, because a silent loss looks like success.

Whoever draws whole attempts at the problem carries everything but several choices. Two kinds of methods do not: those
that write into a turn that the model began, and those that put fresh questions about the attempts to a model.
"""

from __future__ import annotations

from enum import StrEnum

from thinkscale.engines.protocol import Capability
from thinkscale.errors import ServeError
from thinkscale.registry import components, kebab
from thinkscale.serve.passthrough import Passthrough
from thinkscale.serve.records import Asked
from thinkscale.session import Method


class Feature(StrEnum):
    """Something that a request may have, by the name of its field."""

    choices = "n"
    logprobs = "logprobs"
    tools = "tools"
    images = "messages"
    shape = "response_format"
    stop = "stop"


_LOST_IN_A_TURN = frozenset({Feature.tools, Feature.shape, Feature.stop, Feature.logprobs})
_LOST_ON_READERS = frozenset({Feature.tools, Feature.images, Feature.shape, Feature.stop})
READERS: dict[str, frozenset[Feature]] = {
    "deepprune": _LOST_ON_READERS,
    "outcome-reward": frozenset({Feature.tools}),
    "p-true": _LOST_ON_READERS,
    "process-reward": frozenset({Feature.tools}),
    "self-calibration": _LOST_ON_READERS,
    "semantic-consistency": _LOST_ON_READERS,
    "universal-self-consistency": _LOST_ON_READERS,
    "verbalised-confidence": _LOST_ON_READERS,
}
"""Who has the text of attempts read, by a question that the request's fields would distort or that leaves them out."""
_SPELLS_CALLS = "tool-call-best-of-n"
"""It shows calls of tools as text, so whoever reads for it may have them."""


def features_of(asked: Asked) -> frozenset[Feature]:
    """What a request has."""
    parts = (part for m in asked.problem.messages if isinstance(m.content, tuple) for part in m.content)
    present = {
        Feature.choices: asked.n > 1,
        Feature.logprobs: asked.sampling.logprobs is not None,
        Feature.tools: bool(asked.problem.tools),
        Feature.images: any(part.get("type") != "text" for part in parts),
        Feature.shape: asked.sampling.response_format is not None,
        Feature.stop: bool(asked.sampling.stop),
    }
    return frozenset(feature for feature, here in present.items() if here)


def losses_of(method: Method) -> dict[Feature, tuple[str, str]]:
    """What a method would lose, each with the name of the part in the way and the reason."""
    losses: dict[Feature, tuple[str, str]] = {}
    if isinstance(method, Passthrough) and method.by is None:
        return losses
    if not isinstance(method, Passthrough):
        why = "it makes one answer of many attempts; `trace` shows them all"
        losses[Feature.choices] = (_name(method), why)
    for part in components(method):
        name = _name(part)
        readable = {Feature.tools} if _name(method) == _SPELLS_CALLS else frozenset[Feature]()
        for feature in _LOST_IN_A_TURN if _writes_into_a_turn(part) else ():
            losses.setdefault(feature, (name, "it writes into a turn that the model began"))
        for feature in READERS.get(name, frozenset()) - readable:
            why = "it has the text of attempts read by a question of its own"
            losses.setdefault(feature, (name, why))
    return losses


def refusal(feature: Feature, name: str, why: str) -> ServeError:
    """Status 400 that names the field, the part of the method that is in the way, and the way out."""
    what = "images" if feature is Feature.images else f"'{feature}'"
    said = f"The method `{name}` cannot carry {what}: {why}. Leave it out, or ask for a method that draws whole answers"
    tail = "." if feature is Feature.choices else ", such as `self-consistency`."
    if feature is Feature.choices:
        said = (
            f"The method `{name}` cannot carry 'n' above 1: {why}. Ask the model without a method for several choices"
        )
    return ServeError(said + tail, param=feature.value, code="unsupported_feature")


def _name(part: object) -> str:
    return kebab(type(part).__name__)


def _writes_into_a_turn(part: object) -> bool:
    needs = [getattr(part, "needs", frozenset()), *getattr(part, "role_needs", {}).values()]
    carries_on = getattr(part, "carry", "") == "prefill"
    return hasattr(part, "solve") and (carries_on or any(Capability.prefill in needed for needed in needs))
