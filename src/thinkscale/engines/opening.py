"""From what a user calls a model to the engine that runs it. Engines stay open for the life of the process."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import cast

from thinkscale.engines.protocol import Engine
from thinkscale.errors import ModelError
from thinkscale.registry import lookup, names, nearest

EMBEDDED = "embedded"


@cache
def engine_for(model: str) -> Engine:
    """The engine for a model name, made at the first call; weights are loaded when they are first needed.

    Args:
        model: `embedded`, the path of a GGUF file, a hub repository `owner/name[:file.gguf]`, or a registered engine.

    Raises:
        ModelError: it is none of these.
    """
    if model == EMBEDDED or "/" in model or model.endswith(".gguf") or Path(model).is_file():
        return cast(Engine, lookup("engine", "llamacpp")(model=None if model == EMBEDDED else model))
    known = names("engine")
    if model not in known:
        raise ModelError(f"no engine and no GGUF file is called `{model}`{nearest(model, [EMBEDDED, *known])}")
    return cast(Engine, lookup("engine", model)())
