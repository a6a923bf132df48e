"""From logits to tokens and their log-probabilities, in torch and in double precision, with full sorts.

It is the plain way on purpose: faster samplers are checked against it. The order is bias and bans, temperature, top-k,
top-p, min-p, and a token is drawn by inverting the cumulative distribution at one uniform number: over the vocabulary
in its own order, or over the survivors of a truncation from the likeliest down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thinkscale.types import Logprobs, LogprobSpace, Sampling

NOTHING = -1
"""Drawn when no token has any probability left."""


@dataclass(frozen=True, slots=True)
class Signals:
    """Log-probability and moments of one token, in nats."""

    chosen: float
    logsumexp: float
    mean: float
    entropy: float
    survivors: int
    """Tokens behind `mean` and `entropy`."""
    top: tuple[tuple[int, float], ...] = ()


def processed(logits: Tensor, sampling: Sampling, bias: dict[int, float]) -> Tensor:
    """Logits of what is drawn from, minus infinity where a token was cut away; not normalised.

    Args:
        logits: shape (rows, vocabulary).
        sampling: temperature and truncation; greedy choice reports its distribution at temperature 1.
        bias: what is added to the logits of a token id.

    Returns:
        Shape (rows, vocabulary), float64.
    """
    z = logits.double()
    if bias:
        ids = torch.tensor(list(bias), device=z.device)
        z[:, ids] += torch.tensor(list(bias.values()), dtype=z.dtype, device=z.device)
    temperature = 1.0 if sampling.temperature is None else max(0.0, sampling.temperature)
    z = z / (temperature or 1.0)
    if not truncates(sampling):
        return z
    z, order = z.sort(dim=1, descending=True, stable=True)
    if sampling.top_k:
        z[:, sampling.top_k :] = -torch.inf
    if sampling.top_p is not None and sampling.top_p < 1.0:
        # A token stays while the likelier ones together have not reached the share yet; the likeliest always does.
        before = z.softmax(1).cumsum(1)[:, :-1]
        z[:, 1:][before >= sampling.top_p] = -torch.inf
    if sampling.min_p:
        p = z.softmax(1)
        z[p < sampling.min_p * p[:, :1]] = -torch.inf
    return torch.full_like(z, -torch.inf).scatter(1, order, z)


def truncates(sampling: Sampling) -> bool:
    """Whether tokens are cut away before the draw."""
    cuts = bool(sampling.top_k) or (sampling.top_p is not None and sampling.top_p < 1.0) or bool(sampling.min_p)
    return cuts and sampling.temperature != 0


def draw(z: Tensor, sampling: Sampling, uniforms: Sequence[float]) -> list[int]:
    """One token per row of processed logits; `uniforms` are one number in [0, 1) per row."""
    alive = z.isfinite().any(1)
    if sampling.temperature is not None and sampling.temperature <= 0:
        tokens = z.argmax(1)
    elif truncates(sampling):
        p, order = z.softmax(1).sort(dim=1, descending=True, stable=True)
        tokens = order.gather(1, _inverted(p, uniforms)).squeeze(1)
    else:
        tokens = _inverted(z.softmax(1), uniforms).squeeze(1)
    drawn: list[int] = torch.where(alive, tokens, NOTHING).tolist()
    return drawn


def _inverted(p: Tensor, uniforms: Sequence[float]) -> Tensor:
    cumulative = p.cumsum(1)
    target = torch.tensor(uniforms, dtype=p.dtype, device=p.device)[:, None] * cumulative[:, -1:]
    at = torch.searchsorted(cumulative, target, right=True)
    last = (p > 0).cumsum(1).argmax(1, keepdim=True)
    return torch.minimum(at, last)


def signals(z: Tensor, tokens: Sequence[int], top: int) -> list[Signals]:
    """Log-probability of one token per row and the moments of its row, over the tokens that have any probability."""
    z = z.double()
    alive = z.isfinite()
    counts = alive.sum(1)
    total = z.logsumexp(1)
    means = torch.where(alive, z, 0.0).sum(1) / counts.clamp(min=1)
    ids = torch.tensor([max(t, 0) for t in tokens], device=z.device)
    chosen = z.gather(1, ids[:, None]).squeeze(1) - total
    log_p = torch.where(alive, z - total[:, None], 0.0)
    entropy = -torch.where(alive, log_p.exp() * log_p, 0.0).sum(1)
    numbers = torch.stack([chosen, total, means, entropy], 1).tolist()
    return [
        Signals(chosen=said, logsumexp=whole, mean=mean, entropy=spread, survivors=survivors, top=best)
        for (said, whole, mean, spread), survivors, best in zip(
            numbers, counts.tolist(), _likeliest(z, total, counts, top), strict=True
        )
    ]


def _likeliest(z: Tensor, total: Tensor, counts: Tensor, k: int) -> list[tuple[tuple[int, float], ...]]:
    if not k:
        return [()] * len(z)
    # Among equals the lower id comes first, which `topk` does not promise.
    best, order = z.sort(dim=1, descending=True, stable=True)
    values = (best[:, :k] - total[:, None]).tolist()
    rows = zip(order[:, :k].tolist(), values, counts.tolist(), strict=True)
    return [tuple(zip(ids, found, strict=True))[:alive] for ids, found, alive in rows]


def pack(found: Sequence[Signals], space: LogprobSpace, vocabulary: int, top: int) -> Logprobs:
    """Per-token signals as one record; `vocab` is 0 where fewer tokens than the vocabulary are behind the mean."""
    whole = all(s.survivors == vocabulary for s in found)
    return Logprobs(
        space=space,
        chosen=tuple(s.chosen for s in found),
        logsumexp=tuple(s.logsumexp for s in found),
        mean_logit=tuple(s.mean for s in found),
        vocab=vocabulary if whole else 0,
        top=tuple(s.top for s in found) if top else (),
        entropy=tuple(s.entropy for s in found),
    )
