"""What may be left out of a request when a server refuses it, what may not, and how much room a refusal says there is
for an answer: words in, changes of the request out. It asks nobody.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from thinkscale.engines.guard import size_of
from thinkscale.engines.protocol import Request
from thinkscale.errors import CapabilityError, ContextError, EngineError, ModelError

FIELDS = (
    "seed",
    "temperature",
    "top_k",
    "min_p",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "stream_options",
    "timings_per_token",
    "priority",
    "parallel_tool_calls",
    "reasoning_effort",
    "thinking_token_budget",
    "thinking_budget_tokens",
    "min_tokens",
    "response_format",
    "service_tier",
    "metadata",
    "store",
    "user",
)
"""Fields without which a request still gets what it is for, the one to go first of two that exclude each other last."""
NEEDED = ("logprobs", "top_logprobs", "logit_bias", "tools", "tool_choice", "continue_final_message", "stop")
"""Fields without which the reply would be another one than was asked for; so would it without a schema."""
ROLES = ("developer", "system")
"""Roles of messages that some models do not know: what they say moves to the next one, and at last to the user."""
_UNKNOWN = re.compile(
    r"support|unknown|unrecogni[sz]ed|unexpected|extra|cannot find|(?:not|n't) (?:be )?"
    r"(?:permitted|allowed|accept|enabled|available|implemented|valid)|no such|deprecated|incompatible|"
    r"cannot both|unavailable|only|additional propert|invalid (?:parameter|argument|field)|forbidden",
    re.I,
)
"""Words by which a server says that it does not know a field, and not that its value is out of range."""
_EXCLUSIVE = re.compile(r"cannot both|both .* (?:specified|set)|mutually", re.I)
_PICTURE = re.compile(
    r"image|vision|visual|multi-?modal|mmproj|audio|content.?part|must be a string|expected `?text|content type", re.I
)
_NUMBER = r"([0-9][0-9,_]{0,11})"
_CONTEXT = re.compile(rf"(?:context (?:length|size|window)|n_ctx|maximum)\D{{0,40}}?{_NUMBER}", re.I)
_PROMPT = re.compile(
    rf"{_NUMBER} (?:tokens )?(?:(?:in|of|from|for) (?:the |your )?(?:messages|prompt|input)|(?:input|prompt) tokens)|"
    rf"(?:n_prompt_tokens|prompt (?:contains|has|is)|has)\D{{0,20}}?{_NUMBER}",
    re.I,
)


def refused(error: EngineError) -> bool:
    """Whether the server took offence at the request's form."""
    return error.status in (400, 422) and not isinstance(error, ContextError | ModelError | CapabilityError)


def named(error: EngineError, body: Mapping[str, object], clean: Callable[[str], str]) -> list[str]:
    """The fields, and roles, of a refused request that it can do without, by the words of the refusal.

    Raises:
        CapabilityError: it names only what the reply depends on.
    """
    words = error.words
    if error.status not in (400, 422, 500, 501) or isinstance(error, ContextError) or not _UNKNOWN.search(words):
        return []
    found = [field for field in FIELDS if field in body and _names(words, field)]
    needed = [field for field in NEEDED if field in body and _names(words, field)]
    if "response_format" in found and _schema(body["response_format"]):
        found.remove("response_format")
        needed.append("response_format")
    if len(found) > 1 and _EXCLUSIVE.search(words):
        return found[-1:]
    if found:
        return found
    if needed:
        raise CapabilityError(
            f"the server refuses `{needed[0]}` (`{clean(words)}`), which the request depends on: leave it out, or "
            "ask another model",
            status=error.status,
        )
    messages = body.get("messages")
    spoken = {m.get("role") for m in messages if isinstance(m, Mapping)} if isinstance(messages, list) else set()
    return [role for role in ROLES if role in spoken and _names(words.lower(), role)][:1]


def without(body: dict[str, object], left_out: Collection[str]) -> None:
    """Take fields and roles out of a body."""
    for field in left_out:
        body.pop(field, None)
    messages = body.get("messages")
    if isinstance(messages, list):
        for role in ROLES:
            if role in left_out:
                messages = _moved(messages, role)
        body["messages"] = messages


def blind(error: EngineError, request: Request) -> bool:
    """Whether a server refused a request because it reads no images, or whatever the messages have besides text."""
    pictured = any(
        part.get("type") not in ("text", None)
        for m in request.messages
        if not isinstance(m.content, str)
        for part in m.content
    )
    return pictured and not error.overloaded and error.status is not None and bool(_PICTURE.search(error.words))


def room(error: EngineError, request: Request, context: int | None) -> int | None:
    """Tokens for which there is room behind a prompt, as a refusal or else the context tells.

    `None` where nobody tells, or as many were not asked for.
    """
    cap = request.sampling.max_tokens
    if not isinstance(error, ContextError) or not cap:
        return None
    prompt = next((_whole(a or b) for a, b in _PROMPT.findall(error.words)), None)
    if context is None and prompt is not None:
        context = next(map(_whole, _CONTEXT.findall(error.words)), None)
    if context is None:
        return None
    left = context - (size_of(request) if prompt is None else prompt)
    return left if 0 < left < cap else None


def _names(words: str, field: str) -> bool:
    return re.search(rf"(?<![A-Za-z0-9_]){field}(?![A-Za-z0-9_])", words) is not None


def _schema(form: object) -> bool:
    return isinstance(form, Mapping) and form.get("type") == "json_schema"


def _moved(messages: list[object], role: str) -> list[object]:
    """The messages with those of a role given to another one."""
    if role == "developer":
        return [{**m, "role": "system"} if isinstance(m, dict) and m.get("role") == role else m for m in messages]
    told = [m for m in messages if isinstance(m, dict) and m.get("role") == role]
    rest = [m for m in messages if m not in told]
    at = next((i for i, m in enumerate(rest) if isinstance(m, dict) and m.get("role") == "user"), None)
    said = "\n\n".join(str(m.get("content")) for m in told)
    if at is None:
        return [{"role": "user", "content": said}, *rest] if told else rest
    first = rest[at]
    if told and isinstance(first, dict):
        content = first.get("content")
        text = (
            f"{said}\n\n{content}" if isinstance(content, str) else [{"type": "text", "text": said}, *_parts(content)]
        )
        rest[at] = {**first, "content": text}
    return rest


def _parts(content: object) -> list[object]:
    return list(content) if isinstance(content, list | tuple) else []


def _whole(number: str) -> int:
    return int(number.replace(",", "").replace("_", ""))
