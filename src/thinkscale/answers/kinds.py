"""Which kind of answer a question asks for, and which kind one answer looks like."""

from __future__ import annotations

from collections.abc import Sequence

from thinkscale.answers.choices import has_options
from thinkscale.types import AnswerKind


def kind_of(question: str, answers: Sequence[str] = ()) -> AnswerKind:
    """The kind that `auto` stands for; `math` where neither the question nor the answers say."""
    return AnswerKind.choice if has_options(question) else AnswerKind.math
