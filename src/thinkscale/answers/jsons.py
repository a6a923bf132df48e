"""JSON as models write it: strict where it is, and read with its small faults where it is not."""

from __future__ import annotations

import ast
import json
import math
import re
import warnings

_MAX_LENGTH = 65_536
_MAX_DEPTH = 60
_MAX_LOOSE = 5000
_TRAILING = re.compile(r"(\"(?:[^\"\\]|\\.)*\")|,(?=\s*[}\]])", re.DOTALL)
_NAMES = re.compile(r"(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')|\b(true|false|null)\b", re.DOTALL)
_PYTHON = {"true": "True", "false": "False", "null": "None"}


def json_key(text: str) -> str | None:
    """The compact spelling of a JSON value with sorted names, or `None` where the text is none.

    A comma too many and Python's quotes are forgiven. `1.0` and `1` are one number.
    """
    value = _read(text) if len(text) <= _MAX_LENGTH else None
    if value is None:
        return None
    try:
        return json.dumps(_normal(value[0]), sort_keys=True, separators=(",", ":"))
    except (ValueError, TypeError, RecursionError):
        return None


def object_key(text: str) -> str | None:
    """The key of a text that can be nothing but JSON: an object whose names are strings, or a list of such."""
    start = text.lstrip()[:2].replace(" ", "")
    if not start or start[0] not in "{[" or not re.match(r"\s*(?:\[\s*)?\{\s*[\"']", text):
        return None
    return json_key(text)


def _read(text: str) -> tuple[object] | None:
    text = text.strip()
    try:
        return (json.loads(text),)
    except (ValueError, RecursionError):
        pass
    if len(text) > _MAX_LOOSE or not text or text[0] not in "{[\"'" or _depth(text) > _MAX_DEPTH:
        return None
    loose = _TRAILING.sub(lambda m: m[1] or "", text)
    try:
        return (json.loads(loose),)
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            value = ast.literal_eval(_NAMES.sub(lambda m: m[1] or _PYTHON[m[2]], loose))
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None
    return (value,) if isinstance(value, (dict, list)) else None


def _depth(text: str) -> int:
    depth = deepest = 0
    for c in text:
        depth += (c in "([{") - (c in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _normal(value: object) -> object:
    # 1.0 and 1 are one number; beyond 2**53 a float no longer names one integer.
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("JSON has no infinity")
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, list):
        return [_normal(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _normal(item) for key, item in value.items()}
    if isinstance(value, (str, int)) or value is None:
        return value
    raise TypeError(f"`{type(value).__name__}` is no JSON")
