"""Whole replies in OpenAI's shapes: chat completions, completions, responses, errors. Pure: JSON in, nothing sent."""

from __future__ import annotations

import re
from collections.abc import Sequence

from thinkscale.errors import ServeError
from thinkscale.serve.fields import Json
from thinkscale.serve.items import responses_format, responses_tool
from thinkscale.serve.records import Api, Order
from thinkscale.serve.shown import REASONING_FIELDS, Choice, bill, choices_of, report
from thinkscale.types import Logprobs, Message, Outcome, Stopped, Usage

PREFIXES = {Api.chat: "chatcmpl-", Api.completions: "cmpl-", Api.responses: "resp_"}
"""What ids begin with."""
_SPELLED = re.compile(rb"\\x([89a-f][0-9a-f])")
UNLIKELY = -9999.0
"""What stands for minus infinity, which JSON does not have."""


def reply(
    order: Order, outcome: Outcome, *, id: str, created: int, names: Sequence[str] = REASONING_FIELDS
) -> dict[str, object]:
    """The reply to a request that is not streamed, in the shape of its endpoint.

    Args:
        order: what was run.
        outcome: what came of it.
        id: unique, beginning as `PREFIXES` says.
        created: seconds since 1970.
        names: fields of chat messages that carry the thinking; none leaves it out.

    Raises:
        ServeError: there is nothing to show.
    """
    make = {Api.chat: chat, Api.completions: completion, Api.responses: response}[order.asked.api]
    return make(order, outcome, id=id, created=created, names=names)


def chat(order: Order, outcome: Outcome, *, id: str, created: int, names: Sequence[str]) -> dict[str, object]:
    """A `chat.completion`."""
    choices = choices_of(order, outcome)
    return {
        "id": id,
        "object": "chat.completion",
        "created": created,
        "model": order.asked.model,
        "choices": [
            {
                "index": choice.at,
                "message": message_of(choice, names),
                "logprobs": chat_logprobs(choice, order),
                "finish_reason": choice.finish,
            }
            for choice in choices
        ],
        "usage": usage_of(bill(outcome, choices)),
        "thinkscale": report(order, outcome),
    }


def completion(order: Order, outcome: Outcome, *, id: str, created: int, names: Sequence[str]) -> dict[str, object]:
    """A `text_completion`, whose text is all that the model wrote."""
    choices = choices_of(order, outcome)
    return {
        "id": id,
        "object": "text_completion",
        "created": created,
        "model": order.asked.model,
        "choices": [completion_choice(choice, order) for choice in choices],
        "usage": usage_of(bill(outcome, choices)),
        "thinkscale": report(order, outcome),
    }


def completion_choice(choice: Choice, order: Order) -> dict[str, object]:
    """One choice of a completion."""
    finish = "length" if choice.finish == "length" else "stop"
    told = choice.logprobs if order.asked.sampling.logprobs is not None else None
    return {"index": choice.at, "text": choice.whole, "logprobs": _plain_logprobs(told), "finish_reason": finish}


def response(order: Order, outcome: Outcome, *, id: str, created: int, names: Sequence[str]) -> dict[str, object]:
    """A `response`."""
    choice = next(iter(choices_of(order, outcome)), None)
    begun, end = response_frame(order, id, created), response_end(order, outcome, choice)
    if choice is None:
        return {**begun, **end}
    output = [message_item(id, choice, order)] if choice.text or not choice.calls else []
    output += [call_item(id, call, at) for at, call in enumerate(choice.calls)]
    if choice.thought and names:
        output.insert(0, reasoning_item(id, choice.thought))
    return {**begun, **end, "output": output}


def response_frame(order: Order, id: str, created: int) -> dict[str, object]:
    """A response that has only begun: what was asked for, and no output."""
    asked, sampling = order.asked, order.asked.sampling
    extra = sampling.extra
    told = next((m.content for m in asked.problem.messages[:1] if _briefs(m)), None)
    return {
        "id": id,
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": asked.background,
        "error": None,
        "incomplete_details": None,
        "instructions": told,
        "max_output_tokens": sampling.max_tokens,
        "max_tool_calls": None,
        "metadata": extra.get("metadata") or {},
        "model": asked.model,
        "output": [],
        "parallel_tool_calls": extra.get("parallel_tool_calls") is not False,
        "previous_response_id": None,
        "reasoning": {"effort": asked.effort, "summary": None},
        "store": asked.store,
        "temperature": sampling.temperature,
        "text": {"format": responses_format(sampling.response_format)},
        "tool_choice": _tool_choice(extra.get("tool_choice")),
        "tools": [responses_tool(tool) for tool in asked.problem.tools],
        "top_logprobs": sampling.logprobs or 0,
        "top_p": sampling.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": extra.get("user"),
    }


def response_end(order: Order, outcome: Outcome, choice: Choice | None) -> dict[str, object]:
    """The fields of a response that its end changes, but for the output."""
    usage = bill(outcome, [choice] if choice else [])
    cancelled = outcome.stopped is Stopped.cancelled
    cut = choice is not None and choice.finish == "length" and not cancelled
    return {
        "status": "cancelled" if cancelled else "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "usage": {
            "input_tokens": usage.input_tokens or 0,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens or 0, "cache_write_tokens": 0},
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
            "total_tokens": (usage.input_tokens or 0) + usage.output_tokens,
        },
        "thinkscale": report(order, outcome),
    }


def failed(refused: ServeError) -> dict[str, object]:
    """The fields of a response that its failure changes."""
    return {"status": "failed", "error": {"code": "server_error", "message": str(refused)}}


def message_item(id: str, choice: Choice, order: Order) -> dict[str, object]:
    """The item with the words of an answer."""
    told = choice.logprobs if order.asked.sampling.logprobs is not None else None
    part: dict[str, object] = {
        "type": "output_text",
        "text": choice.text,
        "annotations": [],
        "logprobs": _tokens(told) or [],
    }
    status = "incomplete" if choice.finish == "length" else "completed"
    return {"id": f"msg_{id}", "type": "message", "status": status, "role": "assistant", "content": [part]}


def call_item(id: str, call: Json, at: int) -> dict[str, object]:
    """The item of one call of a tool."""
    function = call["function"]
    assert isinstance(function, dict)
    named = {"call_id": call["id"], "name": function["name"], "arguments": function["arguments"]}
    return {"id": f"fc_{id}_{at}", "type": "function_call", "status": "completed", **named}


def reasoning_item(id: str, text: str) -> dict[str, object]:
    """The item of what was thought, progress included."""
    content = [{"type": "reasoning_text", "text": text}]
    return {"id": f"rs_{id}", "type": "reasoning", "status": "completed", "summary": [], "content": content}


def message_of(choice: Choice, names: Sequence[str]) -> dict[str, object]:
    """A chat message."""
    said: dict[str, object] = {"role": "assistant", "content": choice.text, "refusal": None}
    if choice.thought:
        said |= dict.fromkeys(names, choice.thought)
    if choice.calls:
        said |= {"content": choice.text or None, "tool_calls": list(choice.calls)}
    return said


def usage_of(usage: Usage) -> dict[str, object]:
    """The usage of chat and completions."""
    read, written = usage.input_tokens or 0, usage.output_tokens
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens or 0},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
    }


def chat_logprobs(choice: Choice, order: Order) -> dict[str, object] | None:
    """Log-probabilities as chat has them, where they were asked for and the tokens' texts are known."""
    tokens = _tokens(choice.logprobs) if order.asked.sampling.logprobs is not None else None
    return None if tokens is None else {"content": tokens, "refusal": None}


def error(refused: ServeError) -> dict[str, object]:
    """OpenAI's error object."""
    told = {"message": str(refused), "type": refused.type, "param": refused.param, "code": refused.code}
    return {"error": told}


def _tokens(told: Logprobs | None) -> list[dict[str, object]] | None:
    if told is None or len(told.texts) != len(told.chosen):
        return None
    ranked = told.top if len(told.top) == len(told.top_texts) == len(told.chosen) else ((),) * len(told.chosen)
    spelled = told.top_texts or ((),) * len(told.chosen)
    return [
        {
            **_token(text, logprob),
            "top_logprobs": [_token(t, p) for t, (_, p) in zip(texts, top, strict=False)],
        }
        for text, logprob, texts, top in zip(told.texts, told.chosen, spelled, ranked, strict=True)
    ]


def _token(text: str, logprob: float) -> dict[str, object]:
    return {"token": text, "logprob": max(logprob, UNLIKELY), "bytes": list(_bytes(text))}


def _bytes(text: str) -> bytes:
    r"""The bytes of a token; those of part of a character are spelled as `\xf0\x9f`."""
    told = text.encode(errors="replace")
    return _SPELLED.sub(lambda byte: bytes([int(byte[1], 16)]), told) if b"\\x" in told else told


def _plain_logprobs(told: Logprobs | None) -> dict[str, object] | None:
    """Log-probabilities as completions have them: a list for each property of the tokens."""
    tokens = _tokens(told)
    if told is None or tokens is None:
        return None
    offsets = [0]
    for text in told.texts:
        offsets.append(offsets[-1] + len(text))
    rows = zip(told.top_texts, told.top, strict=False)
    top = [{text: max(p, UNLIKELY) for text, (_, p) in zip(texts, row, strict=False)} for texts, row in rows]
    return {
        "tokens": list(told.texts),
        "token_logprobs": [max(p, UNLIKELY) for p in told.chosen],
        "text_offset": offsets[:-1],
        **({"top_logprobs": top} if top else {}),
    }


def _briefs(message: Message) -> bool:
    return message.role == "system" and isinstance(message.content, str)


def _tool_choice(choice: object) -> object:
    """A choice of tools in the words of responses."""
    if isinstance(choice, dict) and isinstance(function := choice.get("function"), dict):
        return {"type": "function", "name": function.get("name")}
    return choice or "auto"
