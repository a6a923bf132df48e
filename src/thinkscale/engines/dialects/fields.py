"""What the bodies of requests have in common, whichever endpoint they go to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from thinkscale.engines.dialects import Habits, Json
from thinkscale.engines.protocol import Request
from thinkscale.errors import CapabilityError
from thinkscale.types import Sampling, Segment

BIAS = 100.0
"""Largest bias of a token that the endpoints take; it amounts to a ban or to a must."""


def written(prefix: Sequence[Segment]) -> str:
    """The partial assistant turn as text."""
    return "".join(segment.text for segment in prefix)


def given(**fields: object) -> dict[str, object]:
    """The fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}


def merged(below: Json, above: Json) -> dict[str, object]:
    """Both objects, the second one winning, objects inside them likewise."""
    result = dict(below)
    for name, value in above.items():
        old = result.get(name)
        result[name] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def put(body: dict[str, object], path: str, value: object) -> None:
    """Set a field of the body; dots in the path step into objects."""
    for name in reversed(path.split(".")):
        value = {name: value}
    if isinstance(value, dict):
        body |= merged(body, value)


def sampled_fields(request: Request, model: str, n: int, habits: Habits, cap: str) -> dict[str, object]:
    """The fields that chat and plain completions share, with `cap` naming the cap on generated tokens.

    Raises:
        CapabilityError: there is no field for what the text has to obey.
    """
    sampling = request.sampling
    own: dict[str, object] = {"model": model, "stream": True, "seed": request.seeds[0] & 0x7FFFFFFF}
    own |= given(temperature=sampling.temperature, top_p=sampling.top_p, response_format=sampling.response_format)
    own |= given(**{cap: sampling.max_tokens})
    if n > 1:
        own["n"] = n
    if sampling.stop and habits.tells_stop:
        own["stop"] = list(sampling.stop)
    if sampling.logit_bias:
        own["logit_bias"] = {str(token): _bounded(bias) for token, bias in sampling.logit_bias.items()}
    body = merged(habits.always, own)
    put_uncommon(body, sampling, habits)
    return body


def put_uncommon(body: dict[str, object], sampling: Sampling, habits: Habits) -> None:
    """Set what not all servers have, in the fields that this one has for it.

    Raises:
        CapabilityError: there is no field for what the text has to obey.
    """
    wishes: dict[str, object] = {
        "min_tokens": sampling.min_tokens or None,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "thinking_budget": sampling.thinking_budget,
        "grammar": sampling.grammar,
        "banned": list(sampling.banned) or None,
    }
    for name, wish in wishes.items():
        path = habits.sampling.get(name)
        if wish is None:
            continue
        if path is not None:
            put(body, path, wish)
        elif name in ("grammar", "banned"):
            raise CapabilityError(
                f"the request has a `{name}`, which this server has no field for: leave it out or use another engine"
            )


def put_priority(body: dict[str, object], habits: Habits, *, waits: bool) -> None:
    """Say whether a request may wait for others, where the server is known to understand that.

    A request that need not is told apart too: SGLang serves what has no priority last of all.
    """
    said = body.get("priority") or 0
    if habits.later is not None and isinstance(said, int):
        body["priority"] = said + habits.later * waits


def _bounded(bias: float) -> float | int:
    held = max(-BIAS, min(BIAS, bias))
    return int(held) if held == int(held) else held
