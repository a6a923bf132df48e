"""Test-time scaling for language models: methods that answer better by computing longer, within any budget.

>>> import thinkscale as ts
>>> out = ts.ask("What is 2 + 2?", method=ts.SelfConsistency(n=16), budget=ts.Budget(tokens=2000), model="tabular")
>>> out.answer
'4'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thinkscale.budget import Budget as Budget
    from thinkscale.door import aask as aask
    from thinkscale.door import ask as ask
    from thinkscale.door import run as run
    from thinkscale.door import solve as solve
    from thinkscale.engines.http_reward import HttpReward as HttpReward
    from thinkscale.engines.pool import Pool as Pool
    from thinkscale.engines.replay import Replay as Replay
    from thinkscale.engines.scripted import Scripted as Scripted
    from thinkscale.engines.tabular import Tabular as Tabular
    from thinkscale.errors import ThinkscaleError as ThinkscaleError
    from thinkscale.methods.best_of_n import BestOfN as BestOfN
    from thinkscale.methods.budget_forcing import BudgetForcing as BudgetForcing
    from thinkscale.methods.self_consistency import SelfConsistency as SelfConsistency
    from thinkscale.methods.single import Single as Single
    from thinkscale.recordings import replay_of as replay_of
    from thinkscale.registry import parse as parse
    from thinkscale.registry import spec as spec
    from thinkscale.scorers.length import Length as Length
    from thinkscale.scorers.mean_logprob import MeanLogprob as MeanLogprob
    from thinkscale.scorers.outcome_reward import OutcomeReward as OutcomeReward
    from thinkscale.scorers.process_reward import ProcessReward as ProcessReward
    from thinkscale.scorers.self_certainty import SelfCertainty as SelfCertainty
    from thinkscale.session import Session as Session
    from thinkscale.settings import Settings as Settings
    from thinkscale.stopping.ahead_by_k import AheadByK as AheadByK
    from thinkscale.stopping.fixed import Fixed as Fixed
    from thinkscale.store import Store as Store
    from thinkscale.types import Outcome as Outcome
    from thinkscale.types import Problem as Problem
    from thinkscale.types import Trace as Trace

_HOMES = {
    "AheadByK": "stopping.ahead_by_k",
    "BestOfN": "methods.best_of_n",
    "Budget": "budget",
    "BudgetForcing": "methods.budget_forcing",
    "Fixed": "stopping.fixed",
    "HttpReward": "engines.http_reward",
    "Length": "scorers.length",
    "MeanLogprob": "scorers.mean_logprob",
    "Outcome": "types",
    "OutcomeReward": "scorers.outcome_reward",
    "Pool": "engines.pool",
    "Problem": "types",
    "ProcessReward": "scorers.process_reward",
    "Replay": "engines.replay",
    "Scripted": "engines.scripted",
    "SelfCertainty": "scorers.self_certainty",
    "SelfConsistency": "methods.self_consistency",
    "Session": "session",
    "Settings": "settings",
    "Single": "methods.single",
    "Store": "store",
    "Tabular": "engines.tabular",
    "ThinkscaleError": "errors",
    "Trace": "types",
    "aask": "door",
    "ask": "door",
    "parse": "registry",
    "replay_of": "recordings",
    "run": "door",
    "solve": "door",
    "spec": "registry",
}
"""Public names and where they live; each is imported when it is first used."""

__all__ = sorted(_HOMES)  # noqa: PLE0605
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module `thinkscale` has no attribute `{name}`")
    found = getattr(import_module(f"thinkscale.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
