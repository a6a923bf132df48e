"""A run as it happens, on stderr: a bar per sample, the vote so far, and what is spent against the budget."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live as Screen
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from thinkscale.budget import Budget
from thinkscale.cli.report import clipped
from thinkscale.session import Event
from thinkscale.types import Finish, Path, Trace

MARKS = {
    Finish.eos: "✓",
    Finish.stop: "✓",
    Finish.length: "…",
    Finish.budget: "…",
    Finish.aborted: "✂",
    Finish.error: "✗",
}
MOST_ROWS = 16


class Live:
    """A view that is fed events and draws itself ten times a second."""

    def __init__(self, budget: Budget, cap: int) -> None:
        self.console = Console(stderr=True)
        self.budget = budget
        self.cap = cap
        self.tokens: Counter[Path] = Counter()
        self.text: dict[Path, str] = {}
        self.ended: dict[Path, Trace] = {}
        self.spent = 0
        self.started = time.monotonic()
        self._screen = Screen(console=self.console, get_renderable=self.view, refresh_per_second=10, transient=True)

    def __enter__(self) -> Live:
        self._screen.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._screen.stop()

    def observe(self, event: Event) -> None:
        """Take in one piece of news."""
        if event.trace is not None:
            if event.path not in self.tokens or event.replayed:
                self.spent += event.trace.tokens - self.tokens[event.path]
                self.tokens[event.path] = event.trace.tokens
            self.ended[event.path] = event.trace
            return
        self.tokens[event.path] += event.tokens
        self.spent += event.tokens
        self.ended.pop(event.path, None)
        self.text[event.path] = (self.text.get(event.path, "") + event.text)[-200:]

    def view(self) -> RenderableType:
        """The screen as it stands."""
        return Group(self._samples(), self._votes(), self._spending())

    def _samples(self) -> Table:
        table = Table.grid(padding=(0, 1))
        running = [p for p in self.tokens if p not in self.ended]
        latest = running + [p for p in reversed(self.ended) if p in self.tokens]
        for path in sorted(latest[:MOST_ROWS]):
            table.add_row(*self._row(path))
        hidden = len(self.tokens) - MOST_ROWS
        if hidden > 0:
            table.add_row("", "", "", Text(f"and {hidden} more", style="dim"))
        return table

    def _row(self, path: Path) -> tuple[RenderableType, ...]:
        trace = self.ended.get(path)
        if trace is None:
            mark, said = "·", Text(clipped(self.text.get(path, ""), 400)[-40:], style="dim")
        else:
            answer = trace.answer.text if trace.answer else trace.error or ""
            mark, said = (
                MARKS.get(trace.finish, "·"),
                Text(clipped(answer, 40), style="green" if trace.answer else "red"),
            )
        number = ".".join(str(step + 1) for step in path)
        bar = ProgressBar(total=max(self.cap, self.tokens[path]), completed=self.tokens[path], width=24)
        return f"{mark} {number:>4}", bar, f"{self.tokens[path]:>5} tokens", said

    def _votes(self) -> Text:
        votes = Counter(t.answer.text for t in self.ended.values() if t.answer)
        tally = "  ".join(f"{clipped(answer, 20)} ×{count}" for answer, count in votes.most_common(6))
        return Text(f"votes   {tally or '–'}", style="bold")

    def _spending(self) -> Text:
        seconds = time.monotonic() - self.started
        of_tokens = f" of {self.budget.tokens:,}" if self.budget.tokens is not None else ""
        of_seconds = f" of {self.budget.seconds:g}" if self.budget.seconds is not None else ""
        return Text(f"spent   {self.spent:,}{of_tokens} tokens   {seconds:.1f}{of_seconds} s")
