"""The nouns: frozen records that every other module speaks in. They know nothing of engines, budgets or files.

Data flows one way: `Problem → Method → Session → Engine → Completion → Trace → Score → Ranking → Outcome`.
Usage numbers are inclusive buckets, not disjoint ones: `reasoning_tokens` is part of `output_tokens`, `cached_tokens`
is part of `input_tokens`. `None` means "the engine did not say" and is not 0.
"""

from thinkscale.types.outcomes import Outcome, Ranking, Stopped, Vote
from thinkscale.types.prompts import AnswerKind, LogprobSpace, Message, Problem, Sampling
from thinkscale.types.traces import Answer, Finish, Logprobs, Origin, Path, Score, Segment, Trace
from thinkscale.types.usage import Usage

__all__ = [
    "Answer",
    "AnswerKind",
    "Finish",
    "LogprobSpace",
    "Logprobs",
    "Message",
    "Origin",
    "Outcome",
    "Path",
    "Problem",
    "Ranking",
    "Sampling",
    "Score",
    "Segment",
    "Stopped",
    "Trace",
    "Usage",
    "Vote",
]
