"""`thinkscale pull`: fetch the embedded weights; `ask` does it by itself the first time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from thinkscale.engines.weights import default_weights


def command(quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False) -> None:
    """Fetch the embedded model now instead of at the first question; prints where it is."""
    print(fetch(quiet=quiet))


def fetch(*, quiet: bool) -> Path:
    """The path of the weights, fetched behind a progress bar when they are absent.

    Raises:
        ModelError: they cannot be had, or are not what they should be.
    """
    if quiet:
        return default_weights()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("fetching the embedded model", total=None, visible=False)

        def show(done: int, total: int) -> None:
            bars.update(bar, completed=done, total=total, visible=True)

        return default_weights(show)
