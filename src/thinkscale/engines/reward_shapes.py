"""How families of reward models want their input and where their verdict stands, as data: for models in this process
and behind a server alike. It runs nothing and asks nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What of a model's output is the reward."""

    score = "score"
    """The one number of a sequence-classification head: a logit, unbounded."""
    label = "label"
    """The probability of the last label of a token-classification head, in [0, 1]."""
    word = "word"
    """P(good) / (P(good) + P(bad)) of two next tokens of a language model, in [0, 1]."""


class Layout(StrEnum):
    """How an answer is put before the model."""

    prefixes = "prefixes"
    """One chat per step, which ends after that step; read at its end."""
    marked_chat = "marked-chat"
    """One chat, with a mark after every step of the assistant's turn; read at the marks."""
    marked_text = "marked-text"
    """Question and answer without a chat template, one step a line, with a mark after every step; read at the marks."""
    turns = "turns"
    """One chat per step: every step is a turn of the user that the assistant met with `good`; read where it answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardShape:
    """How one family of reward models reads and judges."""

    verdict: Verdict
    layout: Layout
    mark: str = ""
    """What is written after every step; its last token is the one that is read."""
    good: str = "+"
    """What a language model says of a good step; the last token counts."""
    bad: str = "-"
    system: str = ""
    """Put before the messages where they have no system message of their own."""
    suits: tuple[str, ...] = ()
    """Ends of architectures, or parts of model names in lower case, that this shape is for."""


SHAPES: dict[str, RewardShape] = {
    "math-shepherd": RewardShape(
        verdict=Verdict.word, layout=Layout.marked_text, mark=" ки", suits=("math-shepherd", "math_shepherd")
    ),
    "rlhflow": RewardShape(
        verdict=Verdict.word, layout=Layout.turns, suits=("rlhflow", "-prm-deepseek", "-prm-mistral")
    ),
    "qwen-prm": RewardShape(
        verdict=Verdict.label,
        layout=Layout.marked_chat,
        mark="<extra_0>",
        system="Please reason step by step, and put your final answer within \\boxed{}.",
        suits=("qwen2.5-math-prm", "ForTokenClassification", "ForProcessRewardModel"),
    ),
    "outcome": RewardShape(
        verdict=Verdict.score, layout=Layout.prefixes, suits=("ForSequenceClassification", "ForRewardModel")
    ),
}
"""Math-Shepherd (Wang et al. 2024), RLHFlow's PRMs (Xiong et al. 2024), Qwen2.5-Math-PRM (Zhang et al. 2025), and
rewards of whole answers. Looked through from the top: names come before architectures."""


def shape_of(name: str, architecture: str = "") -> RewardShape | None:
    """The shape of a reward model, by its name and then by its architecture; `None` where neither says."""
    lower = name.lower()
    for shape in SHAPES.values():
        if any(part in lower or architecture.endswith(part) for part in shape.suits):
            return shape
    return None
