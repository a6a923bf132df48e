"""From what a user calls a model to the engine that runs it. Engines stay open for the life of the process."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import cast

from thinkscale.component_files import is_filed
from thinkscale.engines.protocol import Engine
from thinkscale.errors import ModelError, SettingsError, SpecError
from thinkscale.registry import Call, call_of, lookup, names, nearest

EMBEDDED = "embedded"
MAIN = "main"
SERVERS = ("http", "http-reward")
"""Engines that ask a server."""
_ADDRESS = re.compile(r"\w+://|https?:?/")
"""What is meant as one: of what is none, the refusal shows no credentials."""
_ROLE = re.compile(r"([a-z][a-z0-9_-]*)=(.+)", re.DOTALL)


@cache
def engine_for(model: str, base_url: str = "", concurrency: int | None = None) -> Engine:
    """The engine for a model name, made at the first call; weights are loaded when they are first needed.

    Args:
        model: `embedded`; the path of a GGUF file; a hub repository `owner/name[:file.gguf]`; the address of a server,
            `http://host:8000/v1` or `http://host:8000/v1#model`; several of these between commas, for replicas of one
            model; `replay:FILE`, a recording; or an engine with its arguments, such as
            `http(base_url="…", api=completions)` or `./mine.py:Parrot(words=3)`.
        base_url: address of the server that serves whatever is none of the above; `OPENAI_BASE_URL` when empty.
        concurrency: most draws in flight at each server whose engine is not given its own; the engine's when absent.

    Raises:
        ModelError: it is none of these.
        SettingsError: the arguments of an engine are wrong.
    """
    parts = split(model)
    if len(parts) > 1:
        replicas = [engine_for(part, base_url, concurrency) for part in parts]
        return cast(Engine, lookup("engine", "pool")(replicas))
    if _ADDRESS.match(model):
        address, _, name = model.partition("#")
        return _server(concurrency, base_url=address, model=name or None)
    if model.startswith("replay:"):
        return cast(Engine, lookup("engine", "replay")(path=model.removeprefix("replay:")))
    if model == EMBEDDED and base_url:
        return _server(concurrency, base_url=base_url)
    if model == EMBEDDED or model.endswith(".gguf") or Path(model).is_file():
        return cast(Engine, lookup("engine", "llamacpp")(model=None if model == EMBEDDED else model))
    known = names("engine")
    if "(" in model or is_filed(model) or model in known:
        return _built(_read(model), concurrency)
    if base_url or os.environ.get("OPENAI_BASE_URL") or (os.environ.get("OPENAI_API_KEY") and "/" not in model):
        return _server(concurrency, base_url=base_url or None, model=model)
    if "/" in model:
        return cast(Engine, lookup("engine", "llamacpp")(model=model))
    raise ModelError(f"no engine and no GGUF file is called `{model}`{nearest(model, [EMBEDDED, *known])}")


def engines_for(models: str, base_url: str = "", concurrency: int | None = None) -> tuple[Engine, dict[str, Engine]]:
    """The main engine and those of named roles: `small=…,large=…,judge=…`, or one model without a role.

    The model without a role, the one called `main`, or else the first is the main engine. Addresses that follow a
    role without a role of their own are replicas of its model.

    Raises:
        SettingsError: a role is given twice.
        ModelError: a model is unknown.
    """
    roles: dict[str, str] = {}
    role = MAIN
    for part in split(models):
        match = _ROLE.fullmatch(part)
        if match:
            role, part = match[1], match[2]  # noqa: PLW2901
            if role in roles:
                raise SettingsError(f"the role `{role}` is given two models: separate replicas by commas, without `=`")
        roles[role] = f"{roles[role]},{part}" if role in roles else part
    engines = {name: engine_for(model, base_url, concurrency) for name, model in roles.items()}
    main = engines.get(MAIN) or next(iter(engines.values()))
    return main, {name: engine for name, engine in engines.items() if name != MAIN}


def split(models: str) -> list[str]:
    """The parts between commas that stand in no parentheses, brackets or quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in models:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "([":
            depth += 1
        elif letter in ")]":
            depth -= 1
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()] or [""]


def _server(concurrency: int | None, **options: object) -> Engine:
    bound = {} if concurrency is None else {"concurrency": concurrency}
    return cast(Engine, lookup("engine", "http")(**options, **bound))


def _read(spec: str) -> Call:
    """The parts of an engine's spec; an error shows only its name, because a key may be in it."""
    try:
        return call_of(spec)
    except SpecError as error:
        told = str(error).replace(spec.strip(), f"{spec.partition('(')[0]}(…)")
        raise SpecError(re.sub(r" after `.*", "", told, flags=re.DOTALL)) from None


def _built(call: Call, concurrency: int | None) -> Engine:
    """An engine from its spec; values are those of the spec grammar."""
    cls = lookup("engine", call.name)
    known = [*inspect.signature(cls).parameters]
    for name, _ in call.fields:
        if name not in known:
            raise SettingsError(f"the engine `{call.name}` takes no `{name}`{nearest(name, known)}")
    options = {name: _plain(value, concurrency) for name, value in call.fields}
    if concurrency is not None and call.name in SERVERS:
        options.setdefault("concurrency", concurrency)
    try:
        return cast(Engine, cls(**options))
    except (AttributeError, TypeError, ValueError) as error:
        raise SettingsError(f"the engine `{call.name}` cannot be made: {error}") from error


def _plain(value: object, concurrency: int | None) -> object:
    match value:
        case Call(name, ()):
            return name
        case Call():
            return _built(value, concurrency)
        case list():
            return [_plain(item, concurrency) for item in value]
        case Mapping():
            raise SettingsError("an engine takes no table")
    return value
