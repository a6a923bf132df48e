"""Weights of an ensemble of models in the limit of many samples (Komiyama et al. 2025, Best-of-∞): a MILP.

With enough samples of each, a weighted vote of models answers argmax_a Σ_i w_i p_i(a). It knows the answers that were
recorded and which one is right, never how they were drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from thinkscale.errors import BenchError, SettingsError

TIE = 1e-6
"""Totals this close are equal, and smaller weights are dropped: what the solver can tell apart."""
STRICT = 1e-4
"""Least lead of a strict win while fitting."""
STEPS = 20
"""Most programs solved to widen the margin."""

Margins = list[NDArray[np.float64]]
"""Per problem, the lead of the right answer over each wrong one under each model: shape (wrong answers, models)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """One problem as the models answer it."""

    id: str
    right: str
    """The key of the right answer."""
    shares: tuple[Mapping[str, float], ...]
    """Of each model, answer → part of its samples, in [0, 1]; what is missing to 1 gave no answer."""

    @classmethod
    def of(cls, id: str, right: str, answers: Sequence[Sequence[str | None]]) -> Contest:
        """From the answers of each model's samples. `None` is no answer: it does not vote, and it is not left out.

        The released code leaves it out, which makes a model that seldom answers look better than it is.
        """
        return cls(
            id=id,
            right=right,
            shares=tuple({a: given.count(a) / len(given) for a in given if a is not None} for given in answers),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How often a weighting is right."""

    right: int
    """Problems on which the right answer has more weight than any other."""
    tied: int
    """Problems on which it shares the most weight with others."""
    problems: int
    credit: float
    """Strict wins, and of each tie the part of its winners that is right: what random tie-breaking gives on average."""

    @property
    def accuracy(self) -> float:
        """Credit per problem."""
        return self.credit / self.problems if self.problems else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble:
    """Fitted weights. Others do as well: a whole region attains the optimum, and these have the widest lead in it."""

    weights: tuple[float, ...]
    """One per model, not negative, of sum 1."""
    margin: float
    """The least lead of the right answer, over all problems that are won."""
    fitted: Tally
    """On the problems it was fitted to: an upper bound on what to expect of others."""
    ties_as_wins: int
    """The optimum of the program at margin 0, which counts ties as wins; strict wins may be fewer."""
    fitted_on: frozenset[str]


def fit(contests: Sequence[Contest]) -> Ensemble:
    """The weights that are strictly right most often, and among those the ones with the widest margin.

    max Σ_q y_q subject to Σ_i w_i (p_i(q, right) − p_i(q, a)) ≥ ξ − M(1 − y_q) for every wrong answer a, where
    M = 1 + ξ is enough (the released code has 10 000). The margin ξ is then widened as far as the problems that are won
    allow, and raised until no weights keep the optimum. The released code bisects for that ξ, in many more programs.
    A program takes seconds for 200 problems and 5 models, and may take many minutes for 500 and 7.

    Raises:
        SettingsError: scipy is not installed.
        BenchError: there are no contests, or they differ in the number of models.
    """
    if len({len(c.shares) for c in contests}) != 1:
        raise BenchError(f"an ensemble was to be fitted to {len(contests)} contests: give some, all of the same models")
    margins = [_margins(c) for c in contests]
    bound = len(_solved(margins, 0.0).won)
    best = _widest(margins, _solved(margins, STRICT))
    return Ensemble(
        weights=best.weights,
        margin=best.margin,
        fitted=tally(contests, best.weights),
        ties_as_wins=bound,
        fitted_on=frozenset(c.id for c in contests),
    )


def evaluate(ensemble: Ensemble, contests: Sequence[Contest]) -> Tally:
    """How the weights do on problems that they were not fitted to.

    Raises:
        BenchError: they were fitted to one of them.
    """
    if seen := sorted(ensemble.fitted_on & {c.id for c in contests}):
        raise BenchError(f"the ensemble was fitted to `{seen[0]}` and {len(seen) - 1} more of these: report on others")
    return tally(contests, ensemble.weights)


def tally(contests: Sequence[Contest], weights: Sequence[float]) -> Tally:
    """How often a weighted vote with these weights is right; a vote without answers is lost."""
    winners = [_winners(c, weights) for c in contests]
    credits = [1 / len(w) if c.right in w else 0.0 for c, w in zip(contests, winners, strict=True)]
    return Tally(
        right=sum(credit == 1 for credit in credits),
        tied=sum(0 < credit < 1 for credit in credits),
        problems=len(contests),
        credit=sum(credits),
    )


def _winners(contest: Contest, weights: Sequence[float]) -> set[str]:
    totals: dict[str, float] = {}
    for weight, shares in zip(weights, contest.shares, strict=True):
        for answer, share in shares.items():
            totals[answer] = totals.get(answer, 0.0) + weight * share
    most = max(totals.values(), default=0.0)
    return {answer for answer, total in totals.items() if total >= most - TIE} if most > TIE else set()


def _margins(contest: Contest) -> NDArray[np.float64]:
    # The last row is a rival without votes: an answer that nobody gives does not win.
    wrong = sorted({answer for shares in contest.shares for answer in shares} - {contest.right})
    right = np.array([shares.get(contest.right, 0.0) for shares in contest.shares])
    rivals = [[shares.get(answer, 0.0) for shares in contest.shares] for answer in wrong]
    return np.asarray(right - np.array([*rivals, [0.0] * len(contest.shares)]))


@dataclass(frozen=True, slots=True)
class _Solution:
    weights: tuple[float, ...]
    won: tuple[int, ...]
    margin: float


def _solved(margins: Margins, xi: float) -> _Solution:
    """Weights under which most problems are won by at least xi."""
    try:
        from scipy import optimize, sparse  # noqa: PLC0415 — an extra
    except ImportError:
        raise SettingsError(
            'fitting an ensemble needs scipy, which is not installed: run `pip install "thinkscale[bench]"`'
        ) from None
    models, problems, leads = margins[0].shape[1], len(margins), np.vstack(margins)
    owner = np.repeat(np.arange(problems), [len(m) for m in margins])
    switches = sparse.csr_matrix((np.full(len(owner), -1 - xi), (np.arange(len(owner)), owner)))
    found = optimize.milp(
        c=np.r_[np.zeros(models), -np.ones(problems)],
        integrality=np.r_[np.zeros(models), np.ones(problems)],
        bounds=optimize.Bounds(0, 1),
        constraints=[
            optimize.LinearConstraint(sparse.hstack([sparse.csr_matrix(leads), switches]), lb=-1),
            optimize.LinearConstraint(np.r_[np.ones(models), np.zeros(problems)][None, :], 1, 1),
        ],
    )
    won = np.flatnonzero(found.x[models:] > 0.5)
    return _Solution(_cleaned(found.x[:models]), tuple(won.tolist()), xi)


def _widest(margins: Margins, first: _Solution) -> _Solution:
    if not first.won:
        return replace(first, margin=0.0)
    best = _widened(margins, first.won)
    for _ in range(STEPS):
        found = _solved(margins, best.margin + TIE)
        if len(found.won) < len(first.won) or (wider := _widened(margins, found.won)).margin <= best.margin:
            break
        best = wider
    return best


def _widened(margins: Margins, won: tuple[int, ...]) -> _Solution:
    """The widest margin by which all these problems are won at once: a linear program."""
    from scipy import optimize  # noqa: PLC0415 — an extra

    leads = np.vstack([margins[q] for q in won])
    models = leads.shape[1]
    found = optimize.linprog(
        np.r_[np.zeros(models), -1],
        A_ub=np.c_[-leads, np.ones(len(leads))],
        b_ub=np.zeros(len(leads)),
        A_eq=np.r_[np.ones(models), 0][None, :],
        b_eq=[1],
        bounds=(0, 1),
    )
    return _Solution(_cleaned(found.x[:models]), won, float(found.x[-1]))


def _cleaned(weights: NDArray[np.float64]) -> tuple[float, ...]:
    kept = np.where(weights < TIE, 0.0, weights)
    return tuple((kept / kept.sum()).tolist())
