"""`thinkscale keys`: who may use the gateway, how much, and what each has used today."""

from __future__ import annotations

import json
import sys
from dataclasses import fields, replace
from datetime import datetime
from typing import Annotated

import typer
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from thinkscale.budget import Budget
from thinkscale.errors import SettingsError
from thinkscale.registry import nearest
from thinkscale.serve.keys import Key, Keyring, Limits, Spent
from thinkscale.settings import load

VERBS = ("add", "list", "limit", "revoke")
NONE = "none"

Number = Annotated[str | None, typer.Option(metavar="N", help="A number, or `none` to lift the limit.")]


def command(
    verb: Annotated[str, typer.Argument(help="add, list, limit or revoke.")] = "list",
    who: Annotated[str, typer.Argument(help="A name for a new key, or the id of one that exists.")] = "",
    requests_per_minute: Number = None,
    tokens_per_day: Number = None,
    usd_per_day: Number = None,
    concurrent: Number = None,
    budget: Annotated[
        str | None, typer.Option(help="Most that one request may spend, such as `tokens=2000,seconds=30`, or `none`.")
    ] = None,
    store: Annotated[str | None, typer.Option(help="File of the run store.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Add, list, limit or revoke API keys of the gateway."""
    if verb not in VERBS:
        raise SettingsError(f"`thinkscale keys {verb}` is not a command{nearest(verb, VERBS)}")
    if (verb == "list") == bool(who):
        raise SettingsError(
            f"`thinkscale keys list` takes no `{who}`" if who else f"`thinkscale keys {verb}` needs a name or an id"
        )
    said = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_day": tokens_per_day,
        "usd_per_day": usd_per_day,
        "concurrent": concurrent,
        "budget": budget,
    }
    given = {name: value for name, value in said.items() if value is not None}
    if given and verb not in ("add", "limit"):
        raise SettingsError(f"`thinkscale keys {verb}` sets no limits: use `thinkscale keys limit ID` for that")
    path = load({"store": store}).store_path
    if path is None:
        raise SettingsError("keys are kept in the store, and `none` keeps nothing: name a file with `--store`")
    ring = Keyring(path)
    try:
        if verb == "add":
            _add(ring, who, _changed(Limits(), given), as_json=as_json)
            return
        if verb == "limit":
            ring.limit(who, _changed(_known(ring, who).limits, given))
        if verb == "revoke":
            ring.revoke(who)
        _print([(k, ring.spent(k)) for k in ring.listed() if who in ("", k.id)], as_json=as_json)
    finally:
        ring.close()


def _add(ring: Keyring, name: str, limits: Limits, *, as_json: bool) -> None:
    key, token = ring.add(name, limits)
    if as_json:
        print(json.dumps({**_row(key, Spent()), "key": token}, ensure_ascii=False))
        return
    print(token)
    print("this is the only time it is shown: only its hash is kept", file=sys.stderr)


def _known(ring: Keyring, id: str) -> Key:
    for key in ring.listed():
        if key.id == id:
            return key
    raise SettingsError(f"there is no key `{id}`: see `thinkscale keys list`")


def _changed(limits: Limits, given: dict[str, str]) -> Limits:
    changes: dict[str, object] = {}
    for name, text in given.items():
        if name == "budget":
            changes[name] = Budget() if text == NONE else Budget.parse(text)
            continue
        try:
            changes[name] = None if text == NONE else (float if name == "usd_per_day" else int)(text.replace("_", ""))
        except ValueError:
            flag = f"--{name.replace('_', '-')}"
            raise SettingsError(f"`{flag} {text}` is not a number: write `{flag} 100`, or `{flag} none`") from None
    return replace(limits, **changes)  # type: ignore[arg-type]


def _row(key: Key, today: Spent) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "created": key.created,
        "revoked": key.revoked,
        "limits": {**key.limits.named(), "budget": key.limits.budget.limits()},
        "today": {f.name: getattr(today, f.name) for f in fields(today)},
    }


def _print(rows: list[tuple[Key, Spent]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([_row(*row) for row in rows], ensure_ascii=False))
        return
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for column in ("id", "name", "since", "requests", "tokens", "usd today", "limits"):
        justify: JustifyMethod = "right" if column in ("requests", "tokens", "usd today") else "left"
        table.add_column(column, no_wrap=column in ("id", "since"), justify=justify, overflow="fold")
    for key, today in rows:
        since = datetime.fromtimestamp(key.created).astimezone().strftime("%Y-%m-%d")
        limits = [f"{name}={value}" for name, value in key.limits.named().items()]
        if key.limits.budget.limits():
            limits.append(f"budget({key.limits.budget})")
        state = "revoked" if key.revoked is not None else " ".join(limits) or "none"
        cells = (key.id, key.name, since, str(today.requests), str(today.tokens), f"{today.usd:.4f}", state)
        table.add_row(*map(Text, cells))
    Console().print(table if rows else "no keys yet: make one with `thinkscale keys add NAME`")
