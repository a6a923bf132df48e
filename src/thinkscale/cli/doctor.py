"""`thinkscale doctor`: what a server really does, tried out with small requests."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from thinkscale.api import run
from thinkscale.engines.http import Http
from thinkscale.engines.http.probe import Finding, Verdict, capabilities_of, probe, remember, version_of

COLOURS = {Verdict.verified: "green", Verdict.accepted: "yellow", Verdict.unclear: "yellow", Verdict.refused: "red"}


def command(
    base_url: Annotated[
        str | None, typer.Option(help="Address, such as `http://127.0.0.1:8000/v1`; OPENAI_BASE_URL when absent.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name there; the only one when absent.")] = None,
    api: Annotated[str, typer.Option(help="`chat`, `completions` or `responses`.")] = "chat",
    keep: Annotated[bool, typer.Option(help="Keep the findings: later runs on this model start from them.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Find out what a server can do, by what takes effect."""
    engine = Http(base_url=base_url, model=model, api=api)
    findings, version = run(_found(engine, quiet=as_json))
    if keep:
        path = remember(engine, findings)
        print(f"kept in {path}", file=sys.stderr)
    can = sorted(capabilities_of(findings, engine.capabilities.can))
    if as_json:
        rows = [{"name": f.name, "verdict": f.verdict.value, "detail": f.detail} for f in findings]
        server = {"server": engine.server.name, "version": version}
        print(json.dumps({"model": engine.place, **server, "can": can, "rows": rows}))
        return
    Console().print(_table(f"{engine.place} ({engine.server.name} {version})".replace(" )", ")"), findings))
    print(f"can: {', '.join(can)}")


async def _found(engine: Http, *, quiet: bool) -> tuple[list[Finding], str]:
    findings = []
    status = Console(stderr=True).status("asking")
    with status:
        async for finding in probe(engine):
            findings.append(finding)
            if not quiet:
                status.update(f"{finding.name}: {finding.verdict}")
        return findings, await version_of(engine)


def _table(title: str, findings: list[Finding]) -> Table:
    table = Table(title=escape(title), title_justify="left")
    for name in ("what", "seen", "detail"):
        table.add_column(name)
    for f in findings:
        colour = COLOURS.get(f.verdict, "dim")
        table.add_row(f.name, f"[{colour}]{f.verdict}[/{colour}]", escape(f.detail))
    return table
