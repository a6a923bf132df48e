"""The language of `responses`: items in, items out, one choice to a request."""

from __future__ import annotations

from collections.abc import Mapping

from thinkscale.engines.dialects import Habits, Json, News, Piece
from thinkscale.engines.dialects.fields import given, merged, put_uncommon
from thinkscale.engines.dialects.parts import complaint, count, finish_of, token_logprobs, usage_of
from thinkscale.engines.protocol import Request
from thinkscale.errors import CapabilityError
from thinkscale.types import Message

LEAST = 16
"""Smallest cap on tokens that the endpoint takes."""
_NOTHING = News()
_TEXT = frozenset({"response.output_text.delta", "response.refusal.delta"})
_THOUGHT = frozenset({"response.reasoning_text.delta", "response.reasoning_summary_text.delta"})
_OVER = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})


class Responses:
    """Items in, items out. It knows no seed, no stop strings, no prefix and no several choices."""

    path = "responses"
    shares = False

    def body(self, request: Request, model: str, n: int, habits: Habits) -> dict[str, object]:
        """The streamed request for one choice. Of the habits only `sampling` matters: the others are of chat.

        Raises:
            CapabilityError: the request continues something, or the server has no field for something to obey.
        """
        if request.prefix or request.continuation is not None:
            raise CapabilityError("`responses` cannot continue a given text: ask through `api=chat` or `completions`")
        sampling = request.sampling
        items = [item for message in request.messages for item in _items(message)]
        body: dict[str, object] = {"model": model, "input": items, "stream": True, "store": False}
        body |= given(temperature=sampling.temperature, top_p=sampling.top_p)
        if sampling.max_tokens is not None:
            body["max_output_tokens"] = max(LEAST, sampling.max_tokens)
        if sampling.effort is not None:
            body["reasoning"] = {"effort": sampling.effort}
        if sampling.response_format is not None:
            body["text"] = {"format": _format(sampling.response_format)}
        if sampling.logprobs is not None:
            body |= {"include": ["message.output_text.logprobs"], "top_logprobs": sampling.logprobs}
        if request.tools:
            body["tools"] = [_tool(tool) for tool in request.tools]
        put_uncommon(body, sampling, habits)
        return merged(body, sampling.extra)

    def news(self, event: Json) -> News:
        """What one event says; the many that only frame the text say nothing."""
        kind = event.get("type")
        if kind in _TEXT:
            return News((_text_piece(event.get("delta"), event.get("logprobs")),))
        if kind in _THOUGHT:
            return News((Piece(0, thought=str(event.get("delta") or "")),))
        if kind == "response.function_call_arguments.delta":
            call = {"index": _place(event), "function": {"arguments": str(event.get("delta") or "")}}
            return News((Piece(0, calls=(call,)),))
        item = event.get("item")
        if kind == "response.output_item.added" and isinstance(item, dict) and item.get("type") == "function_call":
            return News((Piece(0, calls=(_call(item, _place(event)),)),))
        if kind in _OVER:
            return _last(event.get("response"), Piece(0))
        error = complaint(event)
        return _NOTHING if error is None else News(error=error)

    def whole(self, reply: Json, request: Request) -> News:
        """What a reply to the request says that came in one piece."""
        if not isinstance(output := reply.get("output"), list):
            error = complaint(reply)
            return _NOTHING if error is None else News(error=error)
        piece = Piece(0)
        calls = []
        for at, item in enumerate(output):
            kind = item.get("type") if isinstance(item, dict) else None
            if kind == "message":
                _hear(piece, item)
            elif kind == "reasoning":
                parts = item.get("content") or item.get("summary") or ()
                piece.thought += "\n\n".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))
            elif kind == "function_call":
                calls.append(_call(item, at))
        piece.calls = calls
        return _last(reply, piece)


def _items(message: Message) -> list[dict[str, object]]:
    """The items that a chat message becomes: itself, and each call of a tool, or the result of one."""
    if message.role == "tool":
        said = message.content if isinstance(message.content, str) else _joined(message)
        return [{"type": "function_call_output", "call_id": message.extra.get("tool_call_id"), "output": said}]
    items: list[dict[str, object]] = []
    if message.content:
        content = message.content
        parts = content if isinstance(content, str) else [_part(part, message.role) for part in content]
        items.append({"role": message.role, "content": parts})
    calls = message.extra.get("tool_calls")
    for call in calls if isinstance(calls, list | tuple) else ():
        function = call.get("function") or {}
        named = {"name": function.get("name"), "arguments": function.get("arguments") or "{}"}
        items.append({"type": "function_call", "call_id": call.get("id"), **named})
    return items


def _part(part: Json, role: str) -> Json:
    match part.get("type"):
        case "text":
            return {"type": "output_text" if role == "assistant" else "input_text", "text": part.get("text")}
        case "image_url":
            image = part.get("image_url")
            if not isinstance(image, Mapping):
                return {"type": "input_image", "image_url": image, "detail": "auto"}
            return {"type": "input_image", "image_url": image.get("url"), "detail": image.get("detail", "auto")}
        case "file" if isinstance(file := part.get("file"), Mapping):
            return {"type": "input_file", **file}
    return part


def _joined(message: Message) -> str:
    return "".join(str(part.get("text") or "") for part in message.content if isinstance(part, Mapping))


def _tool(tool: object) -> object:
    """A tool without the wrapping that chat has; `strict` is said because its default differs."""
    function = tool.get("function") if isinstance(tool, Mapping) else None
    return {"type": "function", "strict": False, **function} if isinstance(function, Mapping) else tool


def _format(asked: Json) -> Json:
    schema = asked.get("json_schema")
    return {"type": "json_schema", "name": "answer", **schema} if isinstance(schema, Mapping) else asked


def _text_piece(delta: object, logprobs: object) -> Piece:
    piece = Piece(0, str(delta or ""), logprobs=token_logprobs(logprobs))
    piece.sampled = len(piece.logprobs.chosen) if piece.logprobs is not None else None
    return piece


def _hear(piece: Piece, item: Mapping[str, object]) -> None:
    """Take over the parts of a message."""
    content = item.get("content")
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict):
            continue
        new = _text_piece(part.get("text") or part.get("refusal"), part.get("logprobs"))
        piece.text += new.text
        if new.logprobs is not None:
            piece.logprobs = new.logprobs if piece.logprobs is None else piece.logprobs + new.logprobs
            piece.sampled = len(piece.logprobs.chosen)


def _call(item: Mapping[str, object], at: int) -> Json:
    function = {"name": item.get("name"), "arguments": item.get("arguments") or ""}
    return {"index": at, "id": item.get("call_id"), "type": "function", "function": function}


def _place(event: Json) -> int:
    at = event.get("output_index")
    return at if isinstance(at, int) else 0


def _last(response: object, piece: Piece) -> News:
    """The end of a reply: why it ended and what it cost."""
    if not isinstance(response, dict):
        return _NOTHING
    usage = usage_of(response.get("usage"))
    if response.get("status") == "failed" or response.get("error"):
        error = response.get("error")
        return News(usage=usage, error=error if isinstance(error, dict) else {"message": "the response failed"})
    details = response.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    piece.finish = finish_of(reason or response.get("status"))
    piece.total = count(response.get("usage"), "output_tokens")
    return News((piece,), usage)
