"""`thinkscale serve`: the gateway, on this machine unless told otherwise."""

from __future__ import annotations

import gc
import sys
import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from thinkscale.api import run
from thinkscale.cli.pull import fetch
from thinkscale.engines.http import Http
from thinkscale.engines.http_reward import HttpReward
from thinkscale.engines.opening import EMBEDDED, engines_for, split
from thinkscale.engines.pool import Pool
from thinkscale.engines.protocol import Engine
from thinkscale.errors import EngineError, SettingsError
from thinkscale.prompts import use
from thinkscale.serve.app import Gateway, application
from thinkscale.serve.asking import Limits
from thinkscale.serve.connections import Server, room
from thinkscale.serve.keys import Keyring
from thinkscale.serve.logs import configure
from thinkscale.serve.profiles import Menu
from thinkscale.serve.runs import Runs
from thinkscale.serve.tracing import tracing
from thinkscale.settings import Settings, load
from thinkscale.store import Store

COLLECTING = (20_000, 20, 50)
"""Objects made, and young collections, before garbage is looked for: a request makes thousands that die with it."""
IDLE = 75
"""Seconds after which a connection without requests is closed: longer than clients keep one for reuse."""
ENDING = 5
"""Seconds for replies that are being sent when the gateway has drained."""


def command(
    upstream: Annotated[
        str | None,
        typer.Option(help="Address of the server behind, such as `http://127.0.0.1:8000/v1`; more between commas."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="As for `ask`: the model behind, and roles such as `judge=…`.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="Method of requests that name none; `single` is the model as it is.")
    ] = "single",
    host: Annotated[str, typer.Option(help="Address to listen at; beyond this machine it needs keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.", min=0, max=65535)] = 8080,
    places: Annotated[int, typer.Option(help="Requests that run at once.", min=1)] = 64,
    waiting: Annotated[int, typer.Option(help="Requests that may wait; more are refused.", min=0)] = 512,
    concurrency: Annotated[int, typer.Option(help="Draws in flight at once at each upstream.", min=1)] = 1024,
    max_tokens: Annotated[int, typer.Option(help="Cap of a call that names none.", min=1)] = 4096,
    max_seconds: Annotated[float, typer.Option(help="Most time for one request.", min=0.1)] = 3600.0,
    reasoning: Annotated[
        str, typer.Option(help="Fields for thinking and progress, between commas; `none` leaves them out.")
    ] = "reasoning,reasoning_content",
    prompts: Annotated[str | None, typer.Option(help="As for `ask`.")] = None,
    store: Annotated[str | None, typer.Option(help="File of runs and keys; `none` keeps no runs.")] = None,
    log_level: Annotated[str, typer.Option(help="`debug`, `info`, `warning` or `error`.")] = "info",
    plain_logs: Annotated[bool, typer.Option(help="Text instead of JSON.")] = False,
) -> None:
    """Serve every method behind the API that OpenAI's clients speak."""
    configure(log_level, json=not plain_logs)
    settings = load({"model": _models(upstream, model), "store": store, "prompts": prompts})
    use(settings.prompts)
    spans = tracing()
    main, roles = _engines(settings, concurrency)
    plain = _plain(settings, main, concurrency)
    main, roles = spans.traced(main), {role: spans.traced(engine, role) for role, engine in roles.items()}
    keyring = Keyring(_keys(settings))
    keyring.allow(host)
    record = Store(settings.store_path) if settings.store_path else None
    gateway = Gateway(
        menu=Menu(
            {_name(main): main},
            settings.profiles,
            plain=plain,
            roles=roles,
            method=method,
            max_tokens=max_tokens,
            created=int(time.time()),
        ),
        engines=(main, *roles.values()),
        runs=Runs(places=places, waiting=waiting, store=record, tracing=spans),
        keyring=keyring,
        limits=Limits(seconds=max_seconds),
        tracing=spans,
        reasoning=() if reasoning == "none" else tuple(reasoning.split(",")),
    )
    try:
        _listen(gateway, host, port)
    finally:
        keyring.close()
        if record:
            record.close()


def _listen(gateway: Gateway, host: str, port: int) -> None:
    """Serve until told to end, and then until the runs in flight are done or out of time."""
    config = uvicorn.Config(
        application(gateway),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=ENDING,
    )
    # What exists by now stays: looking through it for garbage again and again is a sixth of a request's time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTING)
    Server(config, partial(gateway.runs.drain, gateway.patience), most=room()).run()


def _models(upstream: str | None, model: str | None) -> str | None:
    """The two flags as one: every upstream has the model that is named, and roles follow."""
    if not upstream or not model:
        return upstream or model
    name, *roles = split(model)
    if "=" in name.partition("(")[0]:
        name, roles = "", [name, *roles]
    return ",".join([*(f"{address}#{name}" if name else address for address in split(upstream)), *roles])


def _engines(settings: Settings, concurrency: int) -> tuple[Engine, dict[str, Engine]]:
    """The engines, asked what they are. One that does not answer yet ends the start, with the reason."""
    main, roles = engines_for(settings.model, settings.base_url, concurrency)
    if settings.model == EMBEDDED and not settings.base_url:
        fetch(quiet=False)
    # All requests share an upstream's places, its ejection when it fails and its wish for fewer at a time.
    pools = {id(e): Pool([e]) for e in (main, *roles.values()) if isinstance(e, Http | HttpReward)}
    main, roles = pools.get(id(main), main), {role: pools.get(id(e), e) for role, e in roles.items()}
    for engine in (main, *roles.values()):
        try:
            run(engine.open())
        except EngineError as error:
            raise SettingsError(f"the gateway cannot start: {error}") from None
    return main, roles


def _plain(settings: Settings, main: Engine, concurrency: int) -> dict[str, Engine]:
    """For plain completions, the same servers without a chat template, within the same limits."""
    addresses = [part for part in split(settings.model) if part.startswith("http")]
    if not addresses or "=" in settings.model.partition("#")[0].partition("?")[0]:
        return {}
    parts = [address.partition("#") for address in addresses]
    engines = [
        Http(base_url=base, model=name or None, api="completions", concurrency=concurrency) for base, _, name in parts
    ]
    for engine in engines:
        run(engine.open())
    shared = main.limits if isinstance(main, Pool) and len(main.limits) == len(engines) else None
    return {_name(main): Pool(engines, limits=shared)}


def _name(engine: Engine) -> str:
    told = engine.capabilities
    return Path(told.name or told.model).name if told.name.startswith("/") else told.name or told.model


def _keys(settings: Settings) -> Path | str:
    """Where keys are kept: in the store, or nowhere."""
    if settings.store_path is None:
        print("`--store none`: there are no keys, so everybody on this machine may ask", file=sys.stderr)
        return ":memory:"
    return settings.store_path
