"""Input of the responses endpoint in the words of chat: items become messages, tools and formats get their wrapping.

Pure; that a body is an object of objects was not checked before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from thinkscale.serve.fields import Json, invalid, missing, mistyped, rows, table, text, unsupported
from thinkscale.types import Message

_SKIPPED = frozenset({"reasoning"})
"""Items that a client sends back because it got them; models are not shown their old thinking."""


def conversation(body: Json, most: int) -> list[Json]:
    """The messages that `instructions` and `input` stand for, in the form that chat has, unchecked."""
    told = text(body, "instructions")
    messages: list[Json] = [{"role": "system", "content": told}] if told else []
    given = body.get("input")
    if given is None:
        raise missing("input")
    if isinstance(given, str):
        return [*messages, {"role": "user", "content": given}]
    items = rows(body, "input", most=most)
    for at, item in enumerate(items or ()):
        _add(messages, item, f"input[{at}]")
    if not items:
        raise invalid("input", "empty array. Expected an array with minimum length 1.", "empty_array")
    return messages


def _add(messages: list[Json], item: Json, where: str) -> None:
    kind = item.get("type", "message")
    if kind == "message":
        messages.append({"role": item.get("role"), "content": _content(item, "content", where)})
    elif kind == "function_call":
        name, call = text(item, "name", where, required=True), text(item, "call_id", where, required=True)
        made = {"name": name, "arguments": text(item, "arguments", where) or "{}"}
        _add_call(messages, {"id": call, "type": "function", "function": made})
    elif kind == "function_call_output":
        call = text(item, "call_id", where, required=True)
        messages.append({"role": "tool", "tool_call_id": call, "content": _content(item, "output", where)})
    elif kind not in _SKIPPED:
        why = "messages, calls of functions and their outputs are understood here; send what is referred to in full."
        raise unsupported(f"{where}.type", f"The item is of another kind: {why}")


def _add_call(messages: list[Json], call: Json) -> None:
    """Append a call to the turn that it belongs to: calls that follow each other are of one turn."""
    last = messages[-1] if messages else {}
    if last.get("role") != "assistant":
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        return
    calls = last.get("tool_calls")
    messages[-1] = {**last, "tool_calls": [*(calls if isinstance(calls, list) else ()), call]}


def _content(item: Json, name: str, where: str) -> object:
    content = item.get(name)
    if not isinstance(content, list):
        return content
    return [_part(part) for part in rows(item, name, where) or ()]


def _part(part: Json) -> Json:
    match part.get("type"):
        case "input_text" | "output_text":
            return {"type": "text", "text": part.get("text")}
        case "input_image" if "image_url" in part:
            image = {name: part[name] for name in ("detail",) if part.get(name) is not None}
            return {"type": "image_url", "image_url": {"url": part["image_url"], **image}}
        case "input_file":
            return {"type": "file", "file": {name: value for name, value in part.items() if name != "type"}}
    return part


def chat_tools(tools: Sequence[Json]) -> list[Json]:
    """Tools in the wrapping that chat has."""
    return [_tool(tool, f"tools[{at}]") for at, tool in enumerate(tools)]


def _tool(tool: Json, where: str) -> Json:
    if tool.get("type") != "function":
        raise unsupported(f"{where}.type", "Only tools of type 'function' exist here: the gateway runs none itself.")
    if "function" in tool:
        return tool
    return {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}


def chat_tool_choice(choice: object) -> object:
    """A choice of tools as chat has it."""
    if isinstance(choice, Mapping) and choice.get("type") == "function" and "name" in choice:
        return {"type": "function", "function": {"name": choice["name"]}}
    if choice is not None and not isinstance(choice, str | Mapping):
        raise mistyped("tool_choice", "a string or an object", choice)
    return choice


def chat_format(body: Json) -> object:
    """`text.format` as chat's `response_format`."""
    asked = table(table(body, "text") or {}, "format", "text")
    if not asked or asked.get("type") != "json_schema":
        return asked
    schema = {name: value for name, value in asked.items() if name != "type"}
    return {"type": "json_schema", "json_schema": schema}


def responses_tool(tool: Json) -> Json:
    """A tool without the wrapping that chat has, for the reply."""
    function = tool.get("function")
    return (
        {"type": "function", "parameters": None, "strict": None, **function} if isinstance(function, Mapping) else tool
    )


def responses_format(asked: Json | None) -> Json:
    """Chat's `response_format` as `text.format`, for the reply."""
    if not asked:
        return {"type": "text"}
    schema = asked.get("json_schema")
    return {"type": "json_schema", **schema} if isinstance(schema, Mapping) else asked


def plain(message: Message) -> Message:
    """The message with its content as a plain string where it is one part of text and nothing else."""
    if isinstance(message.content, tuple) and len(message.content) == 1 and set(message.content[0]) == {"type", "text"}:
        return replace(message, content=str(message.content[0]["text"]))
    return message
