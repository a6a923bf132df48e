"""The most that a run can cost, for whoever has to set it aside. It knows orders and prices, and nobody's account."""

from __future__ import annotations

import math
from collections.abc import Iterable

from thinkscale.budget import CLOSING_TOKENS, Budget, Cost
from thinkscale.engines.protocol import Engine, Request
from thinkscale.errors import ServeError
from thinkscale.serve.records import Order
from thinkscale.session import DEFAULT_MAX_TOKENS

_CLOSING = Cost(tokens=CLOSING_TOKENS, calls=1)


def most(order: Order) -> Budget:
    """What a run can spend at most: the ceiling of its method, and the closing question that a budget may lead to, at
    list prices and within its budget.

    It is no budget to run under: what one keeps back for the closing question is then missing for the attempts.

    Returns:
        Tokens, calls and money; what nothing bounds is open, and so is money where no engine has a price.
    """
    ceiling = order.method.ceiling(order.sampling.max_tokens or DEFAULT_MAX_TOKENS)
    if order.budget.limits():
        ceiling += _CLOSING
    ceiling = order.budget.clip(ceiling)
    tokens, calls = (None if math.isinf(most) else int(most) for most in (ceiling.tokens, ceiling.calls))
    usd = _dearest(order, ceiling, (order.engine, *order.roles.values()))
    return Budget(tokens=tokens, calls=calls, usd=None if usd is None or math.isinf(usd) else usd)


def refuse_vast(order: Order, size: int, sent: int) -> None:
    """Refuse a run whose calls might send too much: each may have to send the whole prompt by itself.

    Args:
        order: what is to be run.
        size: bytes of the request.
        sent: most bytes for all calls together.

    Raises:
        ServeError: they are more (400).
    """
    calls = order.budget.clip(order.method.ceiling(order.sampling.max_tokens or DEFAULT_MAX_TOKENS)).calls
    if size * calls > sent:
        said = f"The request has {size} bytes and may lead to {calls:.0f} calls that each send them: ask for"
        most = f"{max(1, sent // size)} calls at most, or send a shorter prompt."
        raise ServeError(f"{said} {most}", code="too_much_to_send")


def _dearest(order: Order, ceiling: Cost, engines: Iterable[Engine]) -> float | None:
    """The money when every call goes to the dearest engine and reads the prompt and all that was written before."""
    asked = Request(messages=order.asked.problem.messages, tools=order.asked.problem.tools)
    most = None
    for engine in {id(e): e for e in engines}.values():
        if price := engine.capabilities.price:
            read = ceiling.calls * (engine.count(asked) + ceiling.tokens) if price.input else 0.0
            most = max(most or 0.0, price.of(read, ceiling.tokens))
    return most if most is None or order.budget.usd is None else min(most, order.budget.usd)
