"""How sure a model was, read from the probabilities of its tokens: arithmetic that selection and methods share.

Token and group confidence are those of DeepConf (Fu et al. 2025), computed from exactly k log-probabilities per token
and never rounded; the released code also averages k + 1 where the sampled token is none of the k likeliest, and rounds
to three decimals. The bound on self-certainty is for engines that tell the k likeliest tokens only. Knows no traces.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thinkscale.errors import ScorerError, SpecError
from thinkscale.registry import nearest
from thinkscale.types import Logprobs

FloatArray = NDArray[np.float64]

LEAST_TAIL = float(np.finfo(np.float32).eps)
"""Smallest probability that tokens outside the k likeliest may have together: what float32 leaves of 1."""
MOST = -math.log(np.finfo(np.float64).tiny)
"""Most confidence of one token: a probability of 0 counts as the smallest that a number can hold."""
IMPOSSIBLE = -9999.0
"""Log-probability that servers write for minus infinity, which JSON has not."""
BOTTOM = 0.1
"""Share of the groups that `bottom` averages over."""


def likeliest(logprobs: Logprobs, k: int) -> FloatArray:
    """Log-probabilities of the k likeliest tokens at each position, best first, shape [tokens, k].

    A vocabulary that is known to be smaller than k stands for k.

    Raises:
        ScorerError: fewer than k that are possible at all were told somewhere.
    """
    k = min(k, logprobs.vocab or k)
    rows = [[p for _, p in row[:k] if p > IMPOSSIBLE] for row in logprobs.top]
    found = min(map(len, rows), default=0)
    if len(rows) != len(logprobs.chosen) or found < k:
        raise ScorerError(
            f"the {k} likeliest tokens of each position are needed and {found} were told: draw with `logprobs={k}`, or "
            "lower `k` to what the engine tells"
        )
    return np.array(rows, np.float64).reshape(-1, k)


def token_confidence(logprobs: Logprobs, k: int) -> FloatArray:
    """Minus the mean log-probability of the k likeliest tokens at each position, shape [tokens]; large when peaked.

    Raises:
        ScorerError: fewer than k that are possible at all were told somewhere.
    """
    confidence: FloatArray = np.clip(-likeliest(logprobs, k).mean(axis=1), 0.0, MOST)
    return confidence


def group_confidence(tokens: ArrayLike, window: int) -> FloatArray:
    """Means of token confidence over every full window, shape [tokens − window + 1]; a short trace is one group."""
    values = np.asarray(tokens, np.float64)
    if values.size <= window:
        return values.mean(keepdims=True) if values.size else values
    # Sums of a window are differences of sums from the start: exact to 1e-12 for any length that a model writes.
    sums = np.concatenate([[0.0], values.cumsum()])
    groups: FloatArray = (sums[window:] - sums[:-window]) / window
    return groups


class GrowingGroups:
    """Group confidence of a text that grows: every token is read once, and sums are those of `group_confidence`."""

    def __init__(self, window: int) -> None:
        self.window = window
        self._sums = [0.0]

    @property
    def tokens(self) -> int:
        """Tokens that were read."""
        return len(self._sums) - 1

    def grow(self, tokens: ArrayLike) -> float:
        """Read more token confidences; returns the lowest full window that ends in them, infinite without one."""
        lowest, sums = math.inf, self._sums
        for value in np.asarray(tokens, np.float64).tolist():
            sums.append(sums[-1] + value)
            if len(sums) > self.window:
                lowest = min(lowest, (sums[-1] - sums[-1 - self.window]) / self.window)
        return lowest


def trace_confidence(tokens: ArrayLike, window: int, reduce: str) -> float:
    """Token confidences of a whole trace as one number.

    Args:
        tokens: shape [tokens].
        window: tokens in a group.
        reduce: `mean` over all tokens, `lowest` group, `bottom` tenth of the groups, or `tail`: the last group.

    Returns:
        Minus infinity for an empty trace.

    Raises:
        SpecError: there is no such reduction.
    """
    check_reduction(reduce)
    values = np.asarray(tokens, np.float64)
    if not values.size:
        return -math.inf
    return float(values.mean()) if reduce == "mean" else _GROUPS[reduce](group_confidence(values, window))


def check_reduction(reduce: str) -> None:
    """Refuse a reduction that does not exist.

    Raises:
        SpecError: the message names the nearest one.
    """
    known = ["mean", *_GROUPS]
    if reduce not in known:
        raise SpecError(f"`reduce={reduce}` is no way to reduce group confidence{nearest(reduce, known)}")


def self_certainty_bound(top: ArrayLike, vocab: int) -> FloatArray:
    """Lower bounds of KL(U ‖ p) from the likeliest tokens alone, in nats: the rest of the mass is spread evenly.

    Even spreading makes Σ log p as large as it can be, so the bound never exceeds the true value, does not fall with k,
    and is exact from k = V − 1 on. A tail below `LEAST_TAIL` counts as that much, which only lowers the bound.

    Args:
        top: log-probabilities, best first, shape [tokens, k]; what is beyond `vocab` columns is left out.
        vocab: tokens in the vocabulary, V.

    Returns:
        Shape [tokens].
    """
    log_p = np.asarray(top, np.float64)[:, :vocab]
    rest = vocab - log_p.shape[1]
    total = log_p.sum(axis=1)
    if rest:
        tail = np.maximum(-np.expm1(np.logaddexp.reduce(log_p, axis=1)), LEAST_TAIL)
        total = total + rest * np.log(tail / rest)
    bound: FloatArray = -total / vocab - math.log(vocab)
    return bound


def _bottom(groups: FloatArray) -> float:
    return float(np.sort(groups)[: max(1, int(BOTTOM * groups.size))].mean())


_GROUPS: dict[str, Callable[[FloatArray], float]] = {
    "bottom": _bottom,
    "lowest": lambda groups: float(groups.min()),
    "tail": lambda groups: float(groups[-1]),
}


def window_of(cap: int) -> int:
    """Tokens of a group where an attempt has at most `cap`: an eighth of them, and DeepConf's own 2,048 at most."""
    return max(1, min(2048, cap // 8))


def known_confidence(signals: Logprobs | None, top: int, start: int = 0) -> FloatArray:
    """Confidence of every token from one on; none where the engine told fewer likely tokens than were asked for."""
    with suppress(ScorerError):
        if signals is not None:
            chosen, likely = tuple(signals.chosen[start:]), tuple(signals.top[start:])
            return token_confidence(Logprobs(space=signals.space, chosen=chosen, top=likely), top)
    return np.empty(0)
