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
from thinkscale.errors import BenchError, SettingsError
from thinkscale.pace import Pace
from thinkscale.registry import call_of, kind_of, names, parse
from thinkscale.selection import Selector
from thinkscale.selection.majority import Majority
from thinkscale.selection.numeric import Numeric
from thinkscale.selection.voting import Voting
from thinkscale.stopping import StopRule

ORDERS = 100
"""Random orders of each question's attempts that stop rules are shown."""
USUAL = (1, 2, 4, 8, 16)
"""Numbers of attempts that are shown where none are asked for."""


def command(
    pool: Annotated[str, typer.Argument(help="Its name, as `import` or `bench` printed it.")],
    rules: Annotated[
        str, typer.Option(help="`all`, or specs between commas: selection rules, stop rules or both.")
    ] = "all",
    n: Annotated[
        str, typer.Option("--n", help="Numbers of attempts, between commas; 1,2,4,8,16 as far as the pool goes.")
    ] = "",
    pace: Annotated[Pace, typer.Option(help="How many attempts stop rules have drawn at once.")] = Pace.steady,
    places: Annotated[int, typer.Option(help="Attempts that the engine makes at once; 0 for all.", min=0)] = 0,
    against: Annotated[
        str, typer.Option(help="A rule whose accuracy is subtracted: `majority`, or all attempts, when absent.")
    ] = "",
    resamples: Annotated[int, typer.Option(help="Random subsets of each size.", min=1)] = 1000,
    seed: Annotated[int, typer.Option(help="Of the subsets.")] = 0,
    store: Annotated[str | None, typer.Option(help="File of the run store.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run selection and stop rules on a recorded pool."""
    sizes = _sizes(n) if n else []
    selectors, stoppers = _rules(rules)
    with opened(store) as kept:
        questions = load_pool(kept, pool)
    least = min(len(q.traces) for q in questions)
    if not least:
        raise BenchError(f"a question of the pool `{pool}` has no attempts: import it without that question")
    sizes = sizes or _usual(least)
    others, bases = _rules(against) if against else ([], [])
    other, base = next(iter(others), Majority()), next(iter(bases), None)
    if not isinstance(other, Voting) or isinstance(other, Numeric):
        raise SettingsError(f"`--against {against}` names a rule that elects no answer: name another")
    curves = select(questions, selectors, sizes, resamples=resamples, seed=seed, against=other) if selectors else []
    stops = stop(
        questions, stoppers, max(sizes), orders=ORDERS, seed=seed, pace=pace, places=places or None, against=base
    )
    if as_json:
        told = {"pool": pool, "questions": len(questions), "n": sizes, "pace": pace.value, "places": places or None}
        print(json.dumps({**told, "selection": [*map(asdict, curves)], "stopping": [*map(asdict, stops)]}))
        return
    console = Console(width=None if sys.stdout.isatty() else 200)
    if curves:
        console.print(_curves(curves, sizes, repr(other)))
    if stops:
        console.print(_stops(stops, repr(base) if base else "all attempts"))
    for note in _notes([*curves, *stops]):
        console.print(Text(note, style="dim"))
    print(
        f"\n{len(questions)} questions; right in %, over {resamples:,} random subsets of each size, equal shares\n"
        "split; differences are to the rule in the column before, with 95 % intervals paired by question. Stop rules:\n"
        f"pace {pace}, {_places(places)}; “needed” tokens, of which “depth” one after another."
    )


def _places(places: int) -> str:
    return f"{places} at once" if places else "places for all"


def _sizes(text: str) -> list[int]:
    try:
        sizes = sorted({int(part) for part in text.split(",")})
    except ValueError:
        sizes = []
    if not sizes or sizes[0] < 1:
        raise SettingsError(f"`--n {text}` is no list of numbers: write it like `1,2,4,8`")
    return sizes


def _usual(attempts: int) -> list[int]:
    """Numbers of attempts to show of a pool whose shortest question has so many."""
    return sorted({*(size for size in USUAL if size <= attempts), min(attempts, USUAL[-1])})


def _rules(text: str) -> tuple[list[Selector], list[StopRule]]:
    """Selection and stop rules of a list."""
    if text == "all":
        rest = sorted(set(names("selector")) - {"majority"})
        selectors, stoppers = ["majority", *rest], sorted(names("stop-rule"))
    else:
        specs = [spec.strip() for spec in split(text)]
        stoppers = [spec for spec in specs if _is_stop_rule(call_of(spec).name)]
        selectors = [spec for spec in specs if spec not in stoppers]
    return (
        [cast(Selector, parse(spec, "selector")) for spec in selectors],
        [cast(StopRule, parse(spec, "stop-rule")) for spec in stoppers],
    )


def _is_stop_rule(name: str) -> bool:
    if is_filed(name):
        return kind_of(load(name)) == "stop-rule"
    return name in names("stop-rule") or name.startswith("ahead-by-")


def _curves(curves: Sequence[Curve], sizes: Sequence[int], other: str) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for name in ("selection", *(f"n = {size}" for size in sizes), other, f"− {other}", "95 %"):
        table.add_column(name, justify="left" if name == "selection" else "right", no_wrap=name != "selection")
    for curve in curves:
        if curve.accuracy:
            figures = (f"{100 * a:.1f}" for a in (*curve.accuracy, curve.baseline))
            table.add_row(curve.rule, *figures, *_against(curve.against))
        else:
            table.add_row(curve.rule, "–", style="dim")
    return table


def _notes(rows: Sequence[Curve | Stop]) -> list[str]:
    return [f"{row.rule}: {row.note}" for row in rows if row.note]


def _stops(stops: Sequence[Stop], other: str) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for name in ("stopping", "right", "attempts", "needed", "depth", other, f"− {other}", "95 %"):
        table.add_column(name, justify="left" if name == "stopping" else "right", no_wrap=name != "stopping")
    for row in stops:
        table.add_row(
            row.rule,
            f"{100 * row.accuracy:.1f}",
            f"{row.samples:.2f}",
            f"{row.needed:,.0f}",
            f"{row.depth:,.0f}",
            f"{100 * row.baseline:.1f}",
            *_against(row.against),
        )
    return table


def _against(paired: Paired | None) -> tuple[str, str]:
    if paired is None:
        return "", ""
    return f"{100 * paired.difference:+.1f}", f"{100 * paired.low:+.1f} to {100 * paired.high:+.1f}"
