"""What you allow, and the account that enforces it. Knows nothing of engines, prompts or methods.

A `Ledger` is one account. Work is *admitted* before it is awaited: an admission reserves the worst case, the settled
cost replaces it, so n tasks can never all pass one check. Admission is first come, first served, and gives the same
grants whether work runs serially or at once: a draw gets its full cap when that fits beside everything still in flight,
otherwise it waits, and only once nothing is in flight does it get what is left. So a draw's cap depends on the cost of
the draws before it and never on who finished first.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from thinkscale.errors import BudgetError
from thinkscale.types import Usage

CLOSING_TOKENS = 32
"""Most tokens kept back to ask an unfinished attempt for its final answer."""
CLOSING_SECONDS = 1.5
"""Time kept back for the same, when a tenth of the budget is less: half of the budget at most."""
STOPPING_SECONDS = 0.25
"""Most time that is left for engines to stop in: what was begun ends at its next token, not at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a run may spend. `None` means no limit; every limit holds at once.

    >>> Budget.parse("tokens=2000, seconds=30")
    Budget(tokens=2000, seconds=30.0)
    >>> str(Budget(tokens=2000, seconds=30))
    'tokens=2000,seconds=30'
    """

    tokens: int | None = None
    """Tokens generated, over all attempts; injected text and prompts are not counted."""
    calls: int | None = None
    """Completions asked for."""
    seconds: float | None = None
    """Time on the wall."""
    usd: float | None = None

    def __post_init__(self) -> None:
        for name, limit in self.limits().items():
            if not isinstance(limit, int | float) or math.isnan(limit) or limit < 0:
                raise BudgetError(f"the budget `{name}={limit}` is not a number of 0 or more")

    def limits(self) -> dict[str, int | float]:
        """The limits that are set, by name."""
        limits = {"tokens": self.tokens, "calls": self.calls, "seconds": self.seconds, "usd": self.usd}
        return {name: limit for name, limit in limits.items() if limit is not None}

    def clip(self, cost: Cost) -> Cost:
        """A worst case, no larger than this budget allows."""
        return cost.clip(_as_cost(self))

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read `tokens=2000,seconds=30`.

        Raises:
            BudgetError: an unknown name, or a value that is not a number.
        """
        kinds: dict[str, Callable[[str], int | float]] = {"tokens": int, "calls": int, "seconds": float, "usd": float}
        limits: dict[str, int | float] = {}
        for part in filter(None, (p.strip() for p in text.split(","))):
            name, _, value = (p.strip() for p in part.partition("="))
            if name not in kinds:
                raise BudgetError(f"unknown budget `{part}`: use `tokens=`, `calls=`, `seconds=` or `usd=`")
            try:
                limits[name] = kinds[name](value.replace("_", ""))
            except ValueError:
                raise BudgetError(f"the budget `{part}` needs a number, such as `{name}=100`") from None
        return cls(**limits)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return ",".join(
            f"{name}={value:g}" if float(f"{value:g}") == value < 1e6 else f"{name}={value}"
            for name, value in self.limits().items()
        )

    def __repr__(self) -> str:
        return f"Budget({', '.join(f'{name}={value!r}' for name, value in self.limits().items())})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one piece of work can cost at most."""

    tokens: float = 0
    calls: float = 0
    usd: float = 0.0
    prompt_usd: float | None = None
    """The part of `usd` that is due before the first token, for one call; `None` for work that minds its own money."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(tokens=self.tokens + other.tokens, calls=self.calls + other.calls, usd=self.usd + other.usd)

    def __mul__(self, times: float) -> Cost:
        return Cost(tokens=self.tokens * times, calls=self.calls * times, usd=self.usd * times)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(tokens=self.tokens - other.tokens, calls=self.calls - other.calls, usd=self.usd - other.usd)

    def within(self, other: Cost) -> bool:
        """Whether it is no larger than `other` in any dimension; money is compared to a billionth."""
        return self.tokens <= other.tokens and self.calls <= other.calls and self.usd <= other.usd + 1e-9

    def clip(self, other: Cost) -> Cost:
        """The smaller of both in each dimension."""
        return Cost(
            tokens=min(self.tokens, other.tokens), calls=min(self.calls, other.calls), usd=min(self.usd, other.usd)
        )


@runtime_checkable
class Bounded(Protocol):
    """Something whose cost is known beforehand, as a method's is."""

    def ceiling(self, cap: int) -> Cost:
        """The most that it can cost when a call may generate `cap` tokens."""
        ...


@dataclass(frozen=True, slots=True)
class Grant:
    """Permission for `draws` pieces of work that may cost `each` at most."""

    draws: int
    each: Cost


class Ledger:
    """One account: reserve, settle, what is left.

    Times are those of `time.monotonic`.
    """

    def __init__(
        self, budget: Budget, *, closing: bool = False, deadline: float = math.inf, above: Ledger | None = None
    ) -> None:
        self.budget = budget
        self._above = above
        self.spent = Usage()
        self.started = time.monotonic()
        self.in_flight = 0
        self.refused = False
        """Whether anything was denied for want of budget."""
        self._reserved = Cost()
        self._queue: deque[_Turn] = deque()
        self._limit = _as_cost(budget)
        self._bounds = any(map(math.isfinite, (self._limit.tokens, self._limit.calls, self._limit.usd)))
        self._kept = _closing_reserve(self._limit) if closing else Cost()
        self._closing = closing
        seconds = math.inf if budget.seconds is None else budget.seconds
        self._deadline = min(deadline, self.started + seconds - min(STOPPING_SECONDS, 0.05 * seconds))

    @property
    def left(self) -> Cost:
        """What can still be reserved, the closing reserve aside."""
        limit, held, kept, spent = self._limit, self._reserved, self._kept, self.spent
        return Cost(
            tokens=limit.tokens - spent.output_tokens - held.tokens - kept.tokens,
            calls=limit.calls - spent.calls - held.calls - kept.calls,
            usd=limit.usd - (spent.usd or 0.0) - held.usd - kept.usd,
        )

    @property
    def deadline(self) -> float:
        """When drawing must end: some of the time is kept back until there is an answer."""
        if self._above is not None:
            return min(self._deadline, self._above.deadline)
        if not self._closing or math.isinf(self._deadline):
            return self._deadline
        span = self._deadline - self.started
        return self._deadline - max(0.1 * span, min(CLOSING_SECONDS, 0.5 * span))

    @property
    def exhausted(self) -> bool:
        """Whether nothing more can be drawn."""
        left = self.left
        return self.refused or left.tokens < 1 or left.calls < 1 or left.usd < 0 or time.monotonic() >= self.deadline

    async def admit(self, each: Cost, draws: int = 1) -> Grant | None:
        """Reserve as many of `draws` equal pieces of work as fit now; wait while fewer than one fits.

        Returns:
            A grant for one or more pieces at full cost, or for a single one at whatever is left when nothing is in
            flight; `None` when nothing is left.
        """
        turn = _Turn()
        self._queue.append(turn)
        try:
            while True:
                if self._queue[0] is turn:
                    grant = self._decide(each, draws)
                    if grant is not None or not self.in_flight or time.monotonic() >= self.deadline:
                        return grant
                await turn.wait()
        finally:
            self._queue.remove(turn)
            self._wake()

    def _decide(self, each: Cost, draws: int) -> Grant | None:
        left = self.left
        if time.monotonic() >= self.deadline:
            self.refused = True
            return None
        fit = _pieces(left, each, draws)
        if fit:
            return self._reserve(Grant(fit, each))
        if self.in_flight:
            return None
        partial = _affordable(each, left)
        if partial.tokens < min(1, each.tokens) or partial.calls < 1 or partial.usd < (each.prompt_usd or 0):
            self.refused = True
            return None
        return self._reserve(Grant(1, partial))

    def fit(self, each: Cost, draws: int) -> int:
        """How many of `draws` equal pieces of work would be granted now at full cost."""
        return _pieces(self.left, each, draws)

    def settle(self, reserved: Cost, usage: Usage) -> None:
        """Replace one reservation by what was really spent."""
        if self._bounds:
            self._reserved -= self._bounded(reserved)
        self.in_flight -= 1
        self.spent += usage
        self._wake()

    def cancel(self, reserved: Cost, draws: int) -> None:
        """Give back the reservations of work that was never begun."""
        for _ in range(draws):
            self.settle(reserved, Usage())

    @contextmanager
    def aside(self) -> Iterator[None]:
        """While a nested budget is open it is not work in flight: what waits must not wait for it."""
        self.in_flight -= 1
        self._wake()
        try:
            yield
        finally:
            self.in_flight += 1

    def release(self) -> None:
        """Give up the closing reserve: there is an answer, or the closing question is about to be asked."""
        if self._closing:
            self._kept, self._closing = Cost(), False
            self._wake()
        if self._above is not None:
            self._above.release()

    def end(self) -> None:
        """Have the time be up, here and in every nested account."""
        self._deadline = min(self._deadline, time.monotonic())

    def child(self, grant: Cost, budget: Budget | None = None) -> Ledger:
        """A nested account that may spend `grant`, already reserved here, within its own `budget`."""
        own = budget or Budget()
        limits = _finite(grant)
        if math.isinf(self._limit.usd):
            limits.pop("usd", None)
        for name, value in own.limits().items():
            limits[name] = min(value, limits.get(name, math.inf))
        return Ledger(Budget(**limits), deadline=self.deadline, above=self)  # type: ignore[arg-type]

    def _reserve(self, grant: Grant) -> Grant:
        if self._bounds:
            each = self._bounded(grant.each)
            self._reserved += each if grant.draws == 1 else each * grant.draws
        self.in_flight += grant.draws
        return grant

    def _bounded(self, cost: Cost) -> Cost:
        """The part of a cost that this account limits; an unlimited dimension needs no reservation."""
        return Cost(
            tokens=0 if math.isinf(self._limit.tokens) else cost.tokens,
            calls=0 if math.isinf(self._limit.calls) else cost.calls,
            usd=0 if math.isinf(self._limit.usd) else cost.usd,
        )

    def _wake(self) -> None:
        if self._queue:
            self._queue[0].call()


class _Turn:
    """A place in the queue of an account."""

    __slots__ = ("_called",)

    def __init__(self) -> None:
        self._called: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        self._called = asyncio.get_running_loop().create_future()
        await self._called

    def call(self) -> None:
        if self._called is not None and not self._called.done():
            self._called.set_result(None)


def _pieces(left: Cost, each: Cost, draws: int) -> int:
    if (each if draws == 1 else each * draws).within(left):
        return draws
    fits = draws
    for have, want in ((left.tokens, each.tokens), (left.calls, each.calls), (left.usd + 1e-9, each.usd)):
        if want > 0:
            fits = min(fits, max(0, int(have // want)) if math.isfinite(have) else fits)
        elif have < 0:
            return 0
    return fits


def _affordable(each: Cost, left: Cost) -> Cost:
    """The part of a cost that is left; a call that is short of money may generate as much less as it is short."""
    part = each.clip(left)
    if each.prompt_usd is None or part.usd >= each.usd:
        return part
    share = (part.usd - each.prompt_usd) / (each.usd - each.prompt_usd) if each.usd > each.prompt_usd else 0.0
    return replace(part, tokens=min(part.tokens, math.floor(each.tokens * share)))


def _as_cost(budget: Budget) -> Cost:
    return Cost(
        tokens=math.inf if budget.tokens is None else budget.tokens,
        calls=math.inf if budget.calls is None else budget.calls,
        usd=math.inf if budget.usd is None else budget.usd,
    )


def _closing_reserve(limit: Cost) -> Cost:
    tokens = 0.0 if math.isinf(limit.tokens) else min(CLOSING_TOKENS, max(8, limit.tokens // 4), limit.tokens)
    return Cost(tokens=tokens, calls=1 if 2 <= limit.calls < math.inf else 0)


def _finite(cost: Cost) -> dict[str, float]:
    named = {"tokens": cost.tokens, "calls": cost.calls, "usd": cost.usd}
    return {name: (value if name == "usd" else int(value)) for name, value in named.items() if math.isfinite(value)}


def ceiling_text(cost: Cost) -> str:
    """A worst case in words, for `--dry-run`."""
    tokens = "no limit of" if math.isinf(cost.tokens) else f"{int(cost.tokens):,}"
    calls = "no limit of" if math.isinf(cost.calls) else f"{int(cost.calls):,}"
    return f"{calls} calls, {tokens} generated tokens"
