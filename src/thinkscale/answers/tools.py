"""Calls of tools as answers: equal calls have equal keys, however their JSON is written. No tool is known or run."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

from thinkscale.answers.canonical import canonical
from thinkscale.types import Answer, AnswerKind


def called(calls: Sequence[Mapping[str, object]], exclude: Collection[str] = ()) -> Answer | None:
    """The calls of one turn as an answer, or `None` where one of them has no name or arguments that are no JSON.

    The order of the calls counts, that of arguments does not; neither do spaces, nor whether one is written 1 or 1.0.

    Args:
        calls: in OpenAI's form, `{"function": {"name": …, "arguments": "{…}"}}`.
        exclude: names of arguments, of any tool, that the key leaves out; the text keeps them.

    >>> called([{"function": {"name": "add", "arguments": '{"b": 2.0, "a": 1}'}}]).text
    '[{"arguments":{"a":1,"b":2},"name":"add"}]'
    """
    read = [_read(call) for call in calls]
    made = [call for call in read if call is not None]
    if not made or len(made) < len(read):
        return None
    kept = [
        {**call, "arguments": {k: v for k, v in given.items() if k not in exclude}}
        if isinstance(given := call["arguments"], dict)
        else call
        for call in made
    ]
    return Answer(_key(made), _key(kept))


def _read(call: Mapping[str, object]) -> dict[str, object] | None:
    function = call.get("function")
    if not isinstance(function, Mapping) or not function.get("name"):
        return None
    given = function.get("arguments") or "{}"
    try:
        arguments = json.loads(given) if isinstance(given, str) else given
        return {"name": function["name"], "arguments": arguments}
    except (ValueError, RecursionError):
        return None


def _key(calls: Sequence[Mapping[str, object]]) -> str:
    return canonical(json.dumps(calls, default=dict), AnswerKind.json)
