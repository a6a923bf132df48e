"""One trace, step by step, under a policy: the loop beneath budget forcing, early exit, hints and probes.

A policy is an async generator: it yields what to do next and is sent the trace that came of it, so its state is its
local variables and it reads like the pseudocode of its paper; in between it may await a judge or a likelihood. The loop
ends by itself when a trace can go no further (budget spent, engine failed), so a policy contains no such checks.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field

from thinkscale.contracts import no_action
from thinkscale.session import Session
from thinkscale.types import Finish, Trace


@dataclass(frozen=True, slots=True)
class Go:
    """Append `inject` and generate on; the policy is sent the longer trace."""

    inject: str = ""
    sampling: Mapping[str, object] = field(default_factory=dict)
    """Fields of `Sampling` for this step, `until`, or `thinking=True`: what comes of it answers nothing."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Generate after `inject` on a fork that is thrown away; the policy is sent the fork. It is charged."""

    inject: str
    sampling: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class End:
    """Append `close` and stop."""

    close: str = ""


@dataclass(frozen=True, slots=True)
class Cut:
    """Go back to the first sampled tokens of the trace; the policy is sent that. What is left out was paid for."""

    tokens: int


Action = Go | Probe | Cut | End
Policy = AsyncGenerator[Action, Trace]
"""What a policy function returns when called with the trace to start from."""

CUT = frozenset({Finish.budget, Finish.error})
"""Ends that no policy can do anything about; a draw that a policy's own `until` cut short is its business."""


MOST_ACTIONS = 10_000
"""Steps after which a policy is taken to go on for ever."""


def go(inject: str = "", **sampling: object) -> Go:
    """Append `inject` and generate on."""
    return Go(inject, sampling)


def probe(inject: str, **sampling: object) -> Probe:
    """Look at what the model would say after `inject`."""
    return Probe(inject, sampling)


async def drive(llm: Session, trace: Trace, policy: Policy, **sampling: object) -> Trace:
    """Run a policy on a trace and return the trace it ends with.

    Args:
        llm: pays for every step.
        trace: where to start; `policy` was made from it.
        policy: a fresh generator.
        **sampling: fields of `Sampling` for every step that does not set them itself.
    """
    seen = None
    try:
        for _ in range(MOST_ACTIONS):
            action = await policy.asend(seen) if seen is not None else await anext(policy)
            settings = {**sampling, **getattr(action, "sampling", {})}
            match action:
                case End(close):
                    return trace.inject(close)
                case Probe(inject):
                    [seen] = await llm.probe([trace], inject, **settings)
                    if seen.finish in CUT:
                        return trace
                case Cut(tokens):
                    trace = seen = trace.split(tokens)[0]
                case Go(inject):
                    [trace] = await llm.extend([trace], inject=inject, final=False, **settings)
                    seen = trace
                    if trace.finish in CUT:
                        return trace
                case _:
                    raise no_action(policy, action)
        llm.warn(f"a policy took {MOST_ACTIONS:,} steps on one attempt and was ended")
        return trace
    except StopAsyncIteration:
        return trace
    finally:
        await policy.aclose()
