"""Greedy clustering of attempts that are likely to agree (DeepPrune). It knows no traces, only how alike they are."""

from __future__ import annotations

from collections.abc import Sequence

Similarity = Sequence[Sequence[float]]
"""How alike any two of n things are, in [0, 1], shape [n, n]; row i is read at columns below i."""


def cluster(
    similarity: Similarity, threshold: float = 0.5, max_clusters: int | None = None, probe: int = 10
) -> list[list[int]]:
    """Put things into clusters, one after the other (Tu et al. 2025, online greedy clustering).

    Each joins the cluster whose members it resembles most on average, if that is above the threshold, and founds one of
    its own otherwise. Once there are as many as there may be, it joins the most similar one all the same: the paper's
    text leaves that open, and so every one is counted somewhere.

    Args:
        similarity: of all pairs.
        threshold: mean similarity above which one joins, τ.
        max_clusters: most clusters, K; no limit when `None`.
        probe: most members of a cluster that are compared with, p: the first ones.
    """
    clusters: list[list[int]] = []
    for new in range(len(similarity)):
        alike = [sum(similarity[new][old] for old in c[:probe]) / len(c[:probe]) for c in clusters]
        best = max(range(len(clusters)), key=alike.__getitem__, default=None)
        full = max_clusters is not None and len(clusters) >= max_clusters
        if best is not None and (alike[best] > threshold or full):
            clusters[best].append(new)
        else:
            clusters.append([new])
    return clusters
