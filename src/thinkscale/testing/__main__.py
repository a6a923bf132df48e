"""`python -m thinkscale.testing ./mine.py:Doubt`: the suite of one component, a line for every guarantee that it keeps.

Exit codes: 0 it keeps them all, 1 it breaks one, 2 there is no such component.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from thinkscale.component_files import is_filed, load
from thinkscale.engines.opening import engine_for
from thinkscale.errors import SettingsError, SpecError, ThinkscaleError
from thinkscale.registry import MEMBERS, call_of, kind_of, names, nearest, parse
from thinkscale.testing import check_engine, check_method, check_scorer, check_selector, check_stop_rule

CHECKS: dict[str, Callable[..., object]] = {
    "method": check_method,
    "scorer": check_scorer,
    "selector": check_selector,
    "stop-rule": check_stop_rule,
    "engine": check_engine,
}
"""The suite of each kind."""


def command(
    component: Annotated[str, typer.Argument(help="Its spec, such as `./mine.py:Doubt(n=4)` or an installed name.")],
    kind: Annotated[str | None, typer.Option(help=f"One of {', '.join(CHECKS)}, where it does not show.")] = None,
) -> None:
    """Check one component against the guarantees of its kind."""
    kind = _kind(component, kind)
    made = engine_for(component) if kind == "engine" else parse(component, kind)
    kept: list[str] = []

    def told(guarantee: str) -> None:
        kept.append(guarantee)
        typer.echo(f"kept: {guarantee}")

    CHECKS[kind](made, told=told)
    typer.echo(f"`{component}` keeps all {len(kept)} guarantees of {_a(kind)}")


def _kind(component: str, kind: str | None) -> str:
    if kind is not None:
        if kind not in CHECKS:
            raise SpecError(f"there is no kind of component called `{kind}`{nearest(kind, list(CHECKS))}")
        return kind
    name = call_of(component).name
    found = [kind_of(load(name))] if is_filed(name) else [k for k in CHECKS if name in names(k)]
    kinds = [k for k in found if k is not None]
    if len(kinds) == 1:
        return kinds[0]
    if is_filed(name) or kinds:
        says = ", ".join(f"{_a(k)} has `{'`, `'.join(members)}`" for k, members in MEMBERS.items())
        raise SpecError(f"`{name}` does not show what it is ({says}): say it by `--kind`")
    everything = [each for k in CHECKS for each in names(k)]
    raise SpecError(f"there is no component called `{name}`{nearest(name, everything)}")


def _a(kind: str) -> str:
    return f"an {kind}" if kind == "engine" else f"a {kind}"


def main() -> None:
    """Run the command and exit with its code."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    try:
        app(prog_name="python -m thinkscale.testing")
    except (AssertionError, ThinkscaleError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2 if isinstance(error, SettingsError) else 1)


if __name__ == "__main__":
    main()
