"""The messages of a request, from each endpoint's own shape, checked as far as somebody here relies on them.

Parts that are not text stay as they came, and so do fields of messages that are not known here.
"""

from __future__ import annotations

from collections.abc import Callable

from thinkscale.serve import items
from thinkscale.serve.fields import Json, invalid, missing, mistyped, one_of, rows, table, text
from thinkscale.serve.records import Api
from thinkscale.types import Message

ROLES = ("system", "developer", "user", "assistant", "tool", "function")


def _chat_messages(body: Json, most: int) -> tuple[Message, ...]:
    given = rows(body, "messages", most=most)
    if given is None:
        raise missing("messages")
    if not given:
        seen = "Expected an array with minimum length 1, but got an empty array instead."
        raise invalid("messages", f"empty array. {seen}", "empty_array")
    return tuple([_message(message, f"messages[{at}]") for at, message in enumerate(given)])


def _message(given: Json, where: str) -> Message:
    """A message with every field that it came with; content that is null stays so on the wire."""
    role = one_of(text(given, "role", where, required=True) or "", f"{where}.role", ROLES)
    extra = {name: value for name, value in given.items() if name not in ("role", "content")}
    calls, content = rows(given, "tool_calls", where), given.get("content")
    if role == "tool":
        text(given, "tool_call_id", where, required=True)
    for at, call in enumerate(calls or ()):
        function = table(call, "function", f"{where}.tool_calls[{at}]")
        if function is not None:
            text(function, "arguments", f"{where}.tool_calls[{at}].function")
    if content is None:
        if role in ("assistant", "function"):
            return Message(role, "", {**extra, "content": None})
        if "content" not in given:
            raise missing(f"{where}.content")
    if isinstance(content, str):
        return Message(role, content, extra)
    if not isinstance(content, list):
        raise mistyped(f"{where}.content", "one of a string or array of objects", content)
    parts = rows(given, "content", where) or ()
    for at, part in enumerate(parts):
        kind = text(part, "type", f"{where}.content[{at}]", required=True)
        if kind == "text":
            text(part, "text", f"{where}.content[{at}]", required=True)
    return items.plain(Message(role, tuple(parts), extra))


def _prompt(body: Json, most: int) -> tuple[Message, ...]:
    given = body.get("prompt")
    if given is None:
        raise missing("prompt")
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if not isinstance(given, str):
        raise mistyped("prompt", "a string, or an array with one string (send several prompts one by one)", given)
    return (Message("user", given),)


def _input(body: Json, most: int) -> tuple[Message, ...]:
    said = items.conversation(body, most)
    return tuple([_message(message, f"input[{at}]") for at, message in enumerate(said)])


MESSAGES: dict[Api, Callable[[Json, int], tuple[Message, ...]]] = {
    Api.chat: _chat_messages,
    Api.completions: _prompt,
    Api.responses: _input,
}
"""By endpoint: from a body, and the most messages that it may have."""
