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
    from thinkscale.api import aask as aask
    from thinkscale.api import ask as ask
    from thinkscale.api import run as run
    from thinkscale.api import solve as solve
    from thinkscale.budget import Budget as Budget
    from thinkscale.engines.http_reward import HttpReward as HttpReward
    from thinkscale.engines.pool import Pool as Pool
    from thinkscale.engines.replay import Replay as Replay
    from thinkscale.engines.scripted import Scripted as Scripted
    from thinkscale.engines.tabular import Tabular as Tabular
    from thinkscale.errors import ThinkscaleError as ThinkscaleError
    from thinkscale.methods.atts import Atts as Atts
    from thinkscale.methods.best_of_n import BestOfN as BestOfN
    from thinkscale.methods.budget_forcing import BudgetForcing as BudgetForcing
    from thinkscale.methods.cascade import Cascade as Cascade
    from thinkscale.methods.decoding_ensemble import DecodingEnsemble as DecodingEnsemble
    from thinkscale.methods.deepconf_online import DeepconfOnline as DeepconfOnline
    from thinkscale.methods.deepprune import Deepprune as Deepprune
    from thinkscale.methods.ensemble import Ensemble as Ensemble
    from thinkscale.methods.on import On as On
    from thinkscale.methods.self_consistency import SelfConsistency as SelfConsistency
    from thinkscale.methods.semantic_consistency import SemanticConsistency as SemanticConsistency
    from thinkscale.methods.single import Single as Single
    from thinkscale.methods.tool_call_best_of_n import ToolCallBestOfN as ToolCallBestOfN
    from thinkscale.methods.universal_self_consistency import UniversalSelfConsistency as UniversalSelfConsistency
    from thinkscale.recordings import replay_of as replay_of
    from thinkscale.registry import parse as parse
    from thinkscale.registry import spec as spec
    from thinkscale.scorers.entropy import Entropy as Entropy
    from thinkscale.scorers.fewest_hedges import FewestHedges as FewestHedges
    from thinkscale.scorers.group_confidence import GroupConfidence as GroupConfidence
    from thinkscale.scorers.length import Length as Length
    from thinkscale.scorers.markers import Markers as Markers
    from thinkscale.scorers.mean_logprob import MeanLogprob as MeanLogprob
    from thinkscale.scorers.outcome_reward import OutcomeReward as OutcomeReward
    from thinkscale.scorers.p_true import PTrue as PTrue
    from thinkscale.scorers.perplexity import Perplexity as Perplexity
    from thinkscale.scorers.process_reward import ProcessReward as ProcessReward
    from thinkscale.scorers.self_calibration import SelfCalibration as SelfCalibration
    from thinkscale.scorers.self_certainty import SelfCertainty as SelfCertainty
    from thinkscale.scorers.self_certainty_top_k import SelfCertaintyTopK as SelfCertaintyTopK
    from thinkscale.scorers.sum_logprob import SumLogprob as SumLogprob
    from thinkscale.scorers.verbalised_confidence import VerbalisedConfidence as VerbalisedConfidence
    from thinkscale.selection.best import Best as Best
    from thinkscale.selection.best_of_majority import BestOfMajority as BestOfMajority
    from thinkscale.selection.borda import Borda as Borda
    from thinkscale.selection.cisc import Cisc as Cisc
    from thinkscale.selection.confidence_filtered_vote import ConfidenceFilteredVote as ConfidenceFilteredVote
    from thinkscale.selection.majority import Majority as Majority
    from thinkscale.selection.majority_of_bests import MajorityOfBests as MajorityOfBests
    from thinkscale.selection.mean import Mean as Mean
    from thinkscale.selection.median import Median as Median
    from thinkscale.selection.minimum_bayes_risk import MinimumBayesRisk as MinimumBayesRisk
    from thinkscale.selection.perplexity_consistency import PerplexityConsistency as PerplexityConsistency
    from thinkscale.selection.pessimistic import Pessimistic as Pessimistic
    from thinkscale.selection.random import Random as Random
    from thinkscale.selection.rpc import Rpc as Rpc
    from thinkscale.selection.shortest import Shortest as Shortest
    from thinkscale.selection.soft_self_consistency import SoftSelfConsistency as SoftSelfConsistency
    from thinkscale.selection.weighted_vote import WeightedVote as WeightedVote
    from thinkscale.session import Session as Session
    from thinkscale.settings import Settings as Settings
    from thinkscale.stopping.adaptive_consistency import AdaptiveConsistency as AdaptiveConsistency
    from thinkscale.stopping.ahead_by_k import AheadByK as AheadByK
    from thinkscale.stopping.best_of_infinity import BestOfInfinity as BestOfInfinity
    from thinkscale.stopping.confidence_mass import ConfidenceMass as ConfidenceMass
    from thinkscale.stopping.decided_majority import DecidedMajority as DecidedMajority
    from thinkscale.stopping.early_exit import EarlyExit as EarlyExit
    from thinkscale.stopping.esc import Esc as Esc
    from thinkscale.stopping.fixed import Fixed as Fixed
    from thinkscale.stopping.majority_share import MajorityShare as MajorityShare
    from thinkscale.stopping.soft_adaptive import SoftAdaptive as SoftAdaptive
    from thinkscale.store import Store as Store
    from thinkscale.types import Outcome as Outcome
    from thinkscale.types import Problem as Problem
    from thinkscale.types import Trace as Trace

_HOMES = {
    "AdaptiveConsistency": "stopping.adaptive_consistency",
    "AheadByK": "stopping.ahead_by_k",
    "Atts": "methods.atts",
    "Best": "selection.best",
    "BestOfInfinity": "stopping.best_of_infinity",
    "BestOfMajority": "selection.best_of_majority",
    "BestOfN": "methods.best_of_n",
    "Borda": "selection.borda",
    "Budget": "budget",
    "BudgetForcing": "methods.budget_forcing",
    "Cascade": "methods.cascade",
    "Cisc": "selection.cisc",
    "ConfidenceFilteredVote": "selection.confidence_filtered_vote",
    "ConfidenceMass": "stopping.confidence_mass",
    "DecidedMajority": "stopping.decided_majority",
    "DecodingEnsemble": "methods.decoding_ensemble",
    "DeepconfOnline": "methods.deepconf_online",
    "Deepprune": "methods.deepprune",
    "EarlyExit": "stopping.early_exit",
    "Ensemble": "methods.ensemble",
    "Entropy": "scorers.entropy",
    "Esc": "stopping.esc",
    "FewestHedges": "scorers.fewest_hedges",
    "Fixed": "stopping.fixed",
    "GroupConfidence": "scorers.group_confidence",
    "HttpReward": "engines.http_reward",
    "Length": "scorers.length",
    "Majority": "selection.majority",
    "MajorityOfBests": "selection.majority_of_bests",
    "MajorityShare": "stopping.majority_share",
    "Markers": "scorers.markers",
    "Mean": "selection.mean",
    "MeanLogprob": "scorers.mean_logprob",
    "Median": "selection.median",
    "MinimumBayesRisk": "selection.minimum_bayes_risk",
    "On": "methods.on",
    "Outcome": "types",
    "OutcomeReward": "scorers.outcome_reward",
    "PTrue": "scorers.p_true",
    "Perplexity": "scorers.perplexity",
    "PerplexityConsistency": "selection.perplexity_consistency",
    "Pessimistic": "selection.pessimistic",
    "Pool": "engines.pool",
    "Problem": "types",
    "ProcessReward": "scorers.process_reward",
    "Random": "selection.random",
    "Replay": "engines.replay",
    "Rpc": "selection.rpc",
    "Scripted": "engines.scripted",
    "SelfCalibration": "scorers.self_calibration",
    "SelfCertainty": "scorers.self_certainty",
    "SelfCertaintyTopK": "scorers.self_certainty_top_k",
    "SelfConsistency": "methods.self_consistency",
    "SemanticConsistency": "methods.semantic_consistency",
    "Session": "session",
    "Settings": "settings",
    "Shortest": "selection.shortest",
    "Single": "methods.single",
    "SoftAdaptive": "stopping.soft_adaptive",
    "SoftSelfConsistency": "selection.soft_self_consistency",
    "Store": "store",
    "SumLogprob": "scorers.sum_logprob",
    "Tabular": "engines.tabular",
    "ThinkscaleError": "errors",
    "ToolCallBestOfN": "methods.tool_call_best_of_n",
    "Trace": "types",
    "UniversalSelfConsistency": "methods.universal_self_consistency",
    "VerbalisedConfidence": "scorers.verbalised_confidence",
    "WeightedVote": "selection.weighted_vote",
    "aask": "api",
    "ask": "api",
    "parse": "registry",
    "replay_of": "recordings",
    "run": "api",
    "solve": "api",
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
