"""Calls of tools from the fragments in which servers stream them. It knows no choices and no connections."""

from __future__ import annotations

import json
from collections.abc import Mapping

from thinkscale.engines import guard
from thinkscale.engines.dialects import Json

Call = dict[str, object]


class Calls:
    """The calls of one choice while they grow.

    Fragments of a call have the same index. Servers that give all calls the index 0, or none, tell them apart by their
    ids, or by a name, or by arguments that begin where those before were complete.
    """

    def __init__(self) -> None:
        self._calls: list[tuple[int, Call]] = []

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, fragment: Json) -> int:
        """Take in a fragment; returns the characters that it adds.

        Raises:
            TypeError: it is none.
        """
        function = fragment.get("function") or {}
        if not isinstance(function, Mapping):
            raise TypeError("a call of a tool whose function is none")
        said = _written(function.get("arguments"))
        at = fragment.get("index")
        known = self._continued(at if isinstance(at, int) else 0, fragment, function.get("name"), said)
        before = known.get("function")
        again = isinstance(before, dict) and before.get("arguments") == said and known.get("id") == fragment.get("id")
        if again and _complete(said):
            return 0  # some servers say a call again when it is complete
        for name, value in fragment.items():
            if name not in ("index", "function") and (value not in (None, "") or name not in known):
                known[name] = value
        self._grow(known, function, said)
        return len(said)

    def all(self) -> tuple[Call, ...]:
        """The calls, in the order of their numbers and then as they began."""
        calls = [call for _, call in sorted(self._calls, key=lambda numbered: numbered[0])]
        for call in calls:
            function = call.get("function")
            if isinstance(function, dict) and "arguments" in function:
                function["arguments"] = guard.writable(function["arguments"])
        return tuple(calls)

    def _continued(self, at: int, fragment: Json, name: object, said: str) -> Call:
        """The call that a fragment goes on with, or a new one."""
        here = [call for number, call in self._calls if number == at]
        id_ = fragment.get("id")
        last = next((call for call in reversed(here) if id_ and call.get("id") == id_), here[-1] if here else None)
        if last is not None and not self._begins(last, id_, name, said):
            return last
        before = last.get("function") if last else None
        call: Call = {"function": {"name": before["name"]}} if isinstance(before, dict) else {}
        self._calls.append((at, call))
        return call

    def _begins(self, last: Call, id_: object, name: object, said: str) -> bool:
        """Whether a fragment is of another call than the last one under its number."""
        before = last.get("function")
        if not isinstance(before, dict) or not before.get("name"):
            return False
        written = before.get("arguments") or ""
        if name and id_ and last.get("id") and id_ != last["id"]:
            return not written or _complete(written)  # some servers give every fragment an id of its own
        if name and name != before["name"]:
            return _complete(written)
        again = said == written and bool(id_)
        return said.lstrip()[:1] == "{" and not again and _complete(written)

    def _grow(self, call: Call, function: Json, said: str) -> None:
        known = call.setdefault("function", {})
        if not isinstance(known, dict):
            raise TypeError("a call of a tool whose function is none")
        for name, value in function.items():
            if name != "arguments" and (value not in (None, "") or name not in known):
                known[name] = value
        if "arguments" in function or "arguments" in known:
            known["arguments"] = str(known.get("arguments", "")) + said


def _written(arguments: object) -> str:
    """Arguments as they stand in a message: JSON in a string."""
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _complete(written: object) -> bool:
    """Whether arguments are an object of JSON, with nothing missing."""
    try:
        return isinstance(json.loads(str(written)), dict)
    except (ValueError, RecursionError):
        return False
