"""`thinkscale select`: every selection and stop rule on a recorded pool, without a single new call."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, cast

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from thinkscale.bench.library import load_pool
from thinkscale.bench.offline import Curve, Stop, select, stop
from thinkscale.bench.stats import Paired
from thinkscale.cli.pools import opened
from thinkscale.component_files import is_filed, load
from thinkscale.engines.opening import split
from thinkscale.errors import SettingsError
from thinkscale.registry import call_of, kind_of, names, parse
from thinkscale.selection import Selector
from thinkscale.stopping import StopRule

ORDERS = 100
"""Random orders of each question's attempts that stop rules are shown."""


def command(
    pool: Annotated[str, typer.Argument(help="Its name, as `import` or `bench` printed it.")],
    rules: Annotated[
        str, typer.Option(help="`all`, or specs between commas: selection rules, stop rules or both.")
    ] = "all",
    n: Annotated[str, typer.Option("--n", help="Numbers of attempts, between commas.")] = "1,2,4,8,16",
    resamples: Annotated[int, typer.Option(help="Random subsets of each size.", min=1)] = 1000,
    seed: Annotated[int, typer.Option(help="Of the subsets.")] = 0,
    store: Annotated[str | None, typer.Option(help="File of the run store.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run selection and stop rules on a recorded pool."""
    sizes = _sizes(n)
    selectors, stoppers = _rules(rules, max(sizes))
    with opened(store) as kept:
        questions = load_pool(kept, pool)
    curves = select(questions, selectors, sizes, resamples=resamples, seed=seed) if selectors else []
    stops = stop(questions, stoppers, max(sizes), orders=ORDERS, seed=seed) if stoppers else []
    if as_json:
        told = {"pool": pool, "questions": len(questions), "n": sizes}
        print(json.dumps({**told, "selection": [*map(asdict, curves)], "stopping": [*map(asdict, stops)]}))
        return
    console = Console(width=None if sys.stdout.isatty() else 200)
    if curves:
        console.print(_curves(curves, sizes))
    if stops:
        console.print(_stops(stops))
    for note in _notes([*curves, *stops]):
        console.print(Text(note, style="dim"))
    print(
        f"\n{len(questions)} questions; right in %, over {resamples:,} random subsets of each size, equal shares\n"
        "split; differences are to majority vote over as many attempts (stop rules: over all), with 95 % intervals\n"
        "paired by question."
    )


def _sizes(text: str) -> list[int]:
    try:
        sizes = sorted({int(part) for part in text.split(",")})
    except ValueError:
        sizes = []
    if not sizes or sizes[0] < 1:
        raise SettingsError(f"`--n {text}` is no list of numbers: write it like `1,2,4,8`")
    return sizes


def _rules(text: str, cap: int) -> tuple[list[Selector], list[StopRule]]:
    """Selection and stop rules of a list; a stop rule that has to know how many attempts there are is told the cap."""
    if text == "all":
        rest = sorted(set(names("selector")) - {"majority"})
        selectors, stoppers = ["majority", *rest], sorted(names("stop-rule"))
    else:
        specs = [spec.strip() for spec in split(text)]
        stoppers = [spec for spec in specs if _is_stop_rule(call_of(spec).name)]
        selectors = [spec for spec in specs if spec not in stoppers]
    rules = [cast(StopRule, parse(spec, "stop-rule")) for spec in stoppers]
    return (
        [cast(Selector, parse(spec, "selector")) for spec in selectors],
        [rule.within(cap) if hasattr(rule, "within") else rule for rule in rules],
    )


def _is_stop_rule(name: str) -> bool:
    if is_filed(name):
        return kind_of(load(name)) == "stop-rule"
    return name in names("stop-rule") or name.startswith("ahead-by-")


def _curves(curves: Sequence[Curve], sizes: Sequence[int]) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for name in ("selection", *(f"n = {size}" for size in sizes), "− majority", "95 %"):
        table.add_column(name, justify="left" if name == "selection" else "right", no_wrap=name != "selection")
    for curve in curves:
        if curve.accuracy:
            table.add_row(curve.rule, *(f"{100 * a:.1f}" for a in curve.accuracy), *_against(curve.against))
        else:
            table.add_row(curve.rule, "–", style="dim")
    return table


def _notes(rows: Sequence[Curve | Stop]) -> list[str]:
    return [f"{row.rule}: {row.note}" for row in rows if row.note]


def _stops(stops: Sequence[Stop]) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for name in ("stopping", "right", "attempts", "tokens", "− all attempts", "95 %"):
        table.add_column(name, justify="left" if name == "stopping" else "right", no_wrap=name != "stopping")
    for row in stops:
        told = (f"{100 * row.accuracy:.1f}", f"{row.samples:.2f}", f"{row.tokens:,.0f}")
        table.add_row(row.rule, *told, *_against(row.against))
    return table


def _against(paired: Paired | None) -> tuple[str, str]:
    if paired is None:
        return "", ""
    return f"{100 * paired.difference:+.1f}", f"{100 * paired.low:+.1f} to {100 * paired.high:+.1f}"
