"""From logits to tokens and their log-probabilities, in numpy over a view of the runtime's own buffer.

The order is: bias and bans, temperature, top-k, top-p, min-p. A token is drawn by inverting the cumulative
distribution at one uniform number, in two levels: sums of blocks first, then the tokens of one block. What survives a
truncation is found exactly, through bounds that need one comparison per vocabulary entry and no full sort. Rows that
share their settings are treated together. It knows nothing of sequences, texts or requests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thinkscale.types import LogprobSpace

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ids = NDArray[np.intp]

BLOCK = 256
NOTHING = -1
"""Drawn when no token has any probability left."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How a row is drawn from, with every default filled in; rows with equal rules are one group."""

    temperature: float = 1.0
    """0 takes the likeliest token, and the first of equals."""
    top_k: int = 0
    """0 keeps all."""
    top_p: float = 1.0
    min_p: float = 0.0
    bias: tuple[tuple[int, float], ...] = ()
    """Sorted pairs of token id and the amount added; minus infinity bans."""
    logprobs: int | None = None
    space: LogprobSpace = LogprobSpace.raw

    @property
    def truncates(self) -> bool:
        """Whether tokens are cut away before the draw."""
        return self.temperature > 0 and (self.top_k > 0 or self.top_p < 1.0 or self.min_p > 0.0)


@dataclass(slots=True)
class Signals:
    """Log-probability and moments of one drawn token, in nats."""

    chosen: float
    logsumexp: float
    mean: float
    entropy: float
    top: tuple[tuple[int, float], ...] = ()
    survivors: int = 0
    """Tokens behind `mean` and `entropy`."""


@dataclass(slots=True)
class Drawn:
    """One sampled token; `signals` only when the rule asks for log-probabilities."""

    token: int
    signals: Signals | None = None


class Sampler:
    """Scratch space for one vocabulary size; used from one thread only."""

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self._blocks = -(-vocabulary // BLOCK)
        self._scratch = np.zeros((1, self._blocks * BLOCK), np.float32)
        self._biased = np.zeros((1, vocabulary), np.float32)
        self._depth = np.zeros(vocabulary, np.float32)

    def draw(
        self,
        logits: Floats,
        rule: Rule,
        uniforms: Sequence[float],
        veto: Callable[[int, int], NDArray[np.bool_] | None] | None = None,
        again: Sequence[float] = (),
    ) -> list[Drawn]:
        """One token per row.

        Args:
            logits: shape (rows, vocabulary), float32; left untouched.
            rule: the settings that all rows share.
            uniforms: one number in [0, 1) per row.
            veto: given a row and the token drawn for it, `None` when the token may stand, otherwise the mask of the
                tokens that may; the row is then drawn again among those.
            again: one more uniform number per row, for those second draws. It must be independent of the first: the
                two draws together then have exactly the distribution of the masked one.
        """
        z = self._with_bias(logits, rule)
        tokens = self._tokens(z, rule, uniforms)
        masks: dict[int, NDArray[np.bool_]] = {}
        for row, token in enumerate(tokens if veto else ()):
            mask = veto(row, token) if veto and token != NOTHING else None
            if mask is not None:
                masks[row] = mask
                tokens[row] = self._tokens(np.where(mask, z[row], -np.inf)[None], rule, [again[row]])[0]
        drawn = [Drawn(token) for token in tokens]
        if rule.logprobs is not None:
            self._explain(drawn, logits, z, rule, masks)
        return drawn

    def moments(self, logits: Floats, tokens: Sequence[int], top: int = 0) -> list[Signals]:
        """Raw log-probabilities and moments of given tokens, one per row."""
        # Row by row, so that a row is still in the cache when its moments are taken.
        with np.errstate(invalid="ignore"):
            return [self._signals(row, token, top) for row, token in zip(logits, tokens, strict=True)]

    def _signals(self, z: Floats, token: int, top: int) -> Signals:
        """Moments of one row, and what it says of a token."""
        weights, highest = self._weights(z[None], 1.0)[0, : self.vocabulary], z.max()
        whole = float(weights.sum(dtype=np.float32))
        if not whole > 0:
            return Signals(-math.inf, -math.inf, -math.inf, 0.0, (), len(z))
        # H = log Σ w − Σ w·(z − max z) / Σ w. An impossible token adds nothing, while 0 · −∞ would be no number.
        depth = np.subtract(z, highest, out=self._depth)
        energy = float(weights @ depth)
        if not math.isfinite(energy):
            energy = float(weights @ np.where(weights > 0, depth, 0.0))
        total = math.log(whole) + float(highest)
        best = _likeliest(z, total, top) if top else ()
        entropy = max(0.0, math.log(whole) - energy / whole)
        return Signals(float(z[token]) - total, total, float(z.mean(dtype=np.float32)), entropy, best, len(z))

    def _with_bias(self, logits: Floats, rule: Rule) -> Floats:
        if not rule.bias:
            return logits
        rows = len(logits)
        if len(self._biased) < rows:
            self._biased = np.zeros((rows, self.vocabulary), np.float32)
        z = self._biased[:rows]
        z[:] = logits
        ids = [i for i, _ in rule.bias]
        z[:, ids] += np.array([b for _, b in rule.bias], np.float32)
        return z

    def _tokens(self, z: Floats, rule: Rule, uniforms: Sequence[float]) -> list[int]:
        if rule.temperature <= 0:
            best = z.argmax(axis=1)
            alive = np.isfinite(z[np.arange(len(z)), best])
            return [int(token) if ok else NOTHING for token, ok in zip(best, alive, strict=True)]
        weights = self._weights(z, rule.temperature)
        if rule.truncates:
            return [self._cut(weights[row], rule, u) for row, u in enumerate(uniforms)]
        blocks = weights.reshape(len(z), self._blocks, BLOCK).sum(axis=2).astype(np.float64).cumsum(axis=1)
        return [_invert(weights[row], blocks[row], u) for row, u in enumerate(uniforms)]

    def _weights(self, z: Floats, temperature: float) -> Floats:
        """exp((z - max z) / temperature), shape (rows, blocks * BLOCK), zero past the vocabulary; a scratch view."""
        rows, scale = len(z), np.float32(1.0 / max(temperature, 1e-6))
        if len(self._scratch) < rows:
            self._scratch = np.zeros((rows, self._blocks * BLOCK), np.float32)
        # Row by row: one row stays in the second-level cache through all four passes, sixteen do not.
        for row in range(rows):
            out = self._scratch[row, : self.vocabulary]
            highest = z[row].max()
            np.subtract(z[row], highest if np.isfinite(highest) else 0.0, out=out)
            if scale != 1.0:
                np.multiply(out, scale, out=out)
            np.exp(out, out=out)
        return self._scratch[:rows]

    def _cut(self, weights: Floats, rule: Rule, uniform: float) -> int:
        ids = survivors(weights, rule, self._blocks)
        cumulative = weights[ids].cumsum(dtype=np.float64)
        if not len(ids) or not cumulative[-1] > 0:
            return NOTHING
        at = int(cumulative.searchsorted(uniform * cumulative[-1], side="right"))
        return int(ids[min(at, len(ids) - 1)])

    def _explain(
        self, drawn: list[Drawn], logits: Floats, z: Floats, rule: Rule, masks: dict[int, NDArray[np.bool_]]
    ) -> None:
        """Fill in the signals of drawn tokens, in the space that the rule names."""
        tokens = [max(d.token, 0) for d in drawn]
        if rule.space is LogprobSpace.raw:
            found = self.moments(logits, tokens, rule.logprobs or 0)
        else:
            found = [
                self._processed(z[row] if row not in masks else np.where(masks[row], z[row], -np.inf), rule, token)
                for row, token in enumerate(tokens)
            ]
        for one, signals in zip(drawn, found, strict=True):
            one.signals = signals

    def _processed(self, z: Floats, rule: Rule, token: int) -> Signals:
        """Signals of the distribution drawn from; greedy choice reports it at temperature 1."""
        temperature = rule.temperature or 1.0
        weights = self._weights(z[None], temperature)[0]
        kept = survivors(weights, rule, self._blocks) if rule.truncates else np.flatnonzero(np.isfinite(z))
        scaled = z[kept].astype(np.float64) / temperature
        highest = scaled.max()
        total = float(highest + np.log(np.exp(scaled - highest).sum()))
        log_p = scaled - total
        best = np.argsort(-scaled, kind="stable")[: rule.logprobs or 0]
        top = tuple((int(kept[i]), float(log_p[i])) for i in best)
        entropy = max(0.0, -float(np.exp(log_p) @ log_p))
        return Signals(float(z[token]) / temperature - total, total, float(scaled.mean()), entropy, top, len(kept))


def _invert(weights: Floats, blocks: Doubles, uniform: float) -> int:
    """The token at which the cumulative weight passes `uniform` of the whole; `blocks` are cumulative block sums."""
    whole = blocks[-1]
    if not whole > 0 or not np.isfinite(whole):
        return NOTHING
    target = uniform * whole
    block = min(int(blocks.searchsorted(target, side="right")), len(blocks) - 1)
    inside = weights[block * BLOCK : (block + 1) * BLOCK].cumsum(dtype=np.float64)
    rest = target - (blocks[block - 1] if block else 0.0)
    at = int(inside.searchsorted(rest, side="right"))
    if at >= BLOCK:
        # The block sums were rounded the other way: take the block's last token that has any weight.
        at = int(inside.searchsorted(inside[-1], side="left"))
    return block * BLOCK + at


def survivors(weights: Floats, rule: Rule, blocks: int) -> Ids:
    """Ids that top-k, then top-p, then min-p leave over, likeliest first; equal weights keep vocabulary order."""
    ids = _floor(weights, rule, blocks)
    if not len(ids):
        return ids
    ids = ids[np.argsort(-weights[ids], kind="stable")]
    if rule.top_k:
        ids = ids[: rule.top_k]
    if rule.top_p < 1.0:
        cumulative = weights[ids].cumsum(dtype=np.float64)
        whole = cumulative[-1] if rule.top_k else float(weights.sum(dtype=np.float64))
        ids = ids[: int(cumulative.searchsorted(rule.top_p * whole, side="left")) + 1]
    if rule.min_p > 0.0:
        ids = ids[weights[ids] >= np.float32(rule.min_p)]
    return ids


def _floor(weights: Floats, rule: Rule, blocks: int) -> Ids:
    """A small superset of the survivors, by one bound that holds for all of them.

    Weights are relative to the largest, which is 1, so min-p is its own bound. Tokens below (1 - p) / V of the whole
    weigh less than 1 - p together, so none is in the nucleus. At least k blocks hold a token as large as the k-th
    largest block maximum, so none below it is among the k largest.
    """
    bound = float(np.finfo(np.float32).tiny)
    if rule.top_p >= 1.0 or not rule.top_k:
        # Behind a top-k, the share that top-p keeps is of those k: min-p may not take any of them away before.
        bound = max(bound, rule.min_p)
    if rule.top_p < 1.0 and not rule.top_k:
        bound = max(bound, (1.0 - rule.top_p) / len(weights) * float(weights.sum()) * 0.999)
    if 0 < rule.top_k <= blocks:
        peaks = weights.reshape(blocks, BLOCK).max(axis=1)
        bound = max(bound, float(np.partition(peaks, blocks - rule.top_k)[blocks - rule.top_k]))
    return np.flatnonzero(weights >= np.float32(bound))


def _likeliest(z: Floats, total: float, k: int) -> tuple[tuple[int, float], ...]:
    k = min(k, len(z))
    ids = np.argpartition(z, len(z) - k)[len(z) - k :]
    ids = ids[np.lexsort((ids, -z[ids]))]
    return tuple((int(i), float(z[i]) - total) for i in ids)
