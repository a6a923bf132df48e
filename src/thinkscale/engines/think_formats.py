"""How model families mark their thinking: data, and look-ups by chat template and by name. It knows no engine."""

from __future__ import annotations

from dataclasses import dataclass

from thinkscale.engines.protocol import ThinkFormat

PLAIN = ThinkFormat(open="", close="\nFinal Answer:", ends=(), answer_prefix="")
"""For models without markers: thinking is what comes before the words `Final Answer:`."""

THINK_TAGS = ThinkFormat(open="<think>\n", close="\n</think>\n\n", ends=("</think>",), answer_prefix="\nFinal Answer:")
"""Qwen3, DeepSeek-R1 and their many descendants."""

OPENED_TAGS = ThinkFormat(open="", close="\n</think>\n\n", ends=("</think>",), answer_prefix="\nFinal Answer:")
"""The same where the chat template itself opens the thinking."""

S1 = ThinkFormat(
    open="<|im_start|>think\n",
    close="\n<|im_start|>answer\n",
    ends=("<|im_start|>answer", "<|im_start|>"),
    answer_prefix="\nFinal Answer:",
)
"""s1 and s1.1 (Muennighoff et al. 2025): thinking and answer are turns of their own."""

HARMONY = ThinkFormat(
    open="<|channel|>analysis<|message|>",
    close="<|end|><|start|>assistant<|channel|>final<|message|>",
    ends=("<|end|>", "<|channel|>final"),
    answer_prefix="\nFinal Answer:",
)
"""Channels in one assistant message, as gpt-oss writes them."""

MISTRAL = ThinkFormat(open="[THINK]", close="[/THINK]", ends=("[/THINK]",), answer_prefix="\nFinal Answer:")
"""Magistral's bracketed markers."""

SEED = ThinkFormat(
    open="<seed:think>\n", close="\n</seed:think>\n", ends=("</seed:think>",), answer_prefix="\nFinal Answer:"
)
"""Seed-OSS."""


@dataclass(frozen=True, slots=True)
class Family:
    """One row of the table: the format of every template that contains all of `marks`."""

    name: str
    marks: tuple[str, ...]
    format: ThinkFormat


FAMILIES = (
    Family("harmony", ("<|channel|>", "analysis"), HARMONY),
    Family("s1", ("<|im_start|>think",), S1),
    Family("seed", ("<seed:think>",), SEED),
    Family("magistral", ("[THINK]",), MISTRAL),
    Family("qwen3, deepseek-r1", ("<think>",), THINK_TAGS),
    Family("deepseek-r1", ("</think>",), THINK_TAGS),
)
"""Looked through from the top: the more particular marks come first."""


def think_format_for(template: str, prompt: str = "") -> ThinkFormat | None:
    """The thinking markers of the family a chat template belongs to; `None` when it has none.

    `prompt` is a rendered prompt that waits for the assistant, if one is at hand: when it already ends in the opening
    marker, the format's `open` is empty, because the template wrote it.
    """
    found = next((f.format for f in FAMILIES if all(mark in template for mark in f.marks)), None)
    if found is THINK_TAGS and prompt.rstrip().endswith("<think>"):
        return OPENED_TAGS
    return found


NAMED = (
    ("gpt-oss", HARMONY),
    ("seed-oss", SEED),
    ("magistral", MISTRAL),
    ("simplescaling/s1", S1),
    ("deepseek-r1", OPENED_TAGS),
    ("r1-distill", OPENED_TAGS),
    ("qwq", OPENED_TAGS),
    ("qwen3", THINK_TAGS),
)
"""Families by what the names of their models contain, for servers that do not show the chat template."""


def think_format_in(text: str, known: ThinkFormat | None) -> ThinkFormat:
    """The thinking markers of a text by a model whose format is `known`, or of none.

    A model of no known family thinks where its text begins with the usual marker, under which engines also write what a
    server told as thinking in a field of its own.
    """
    if known is not None:
        return known
    return THINK_TAGS if text.lstrip().startswith(THINK_TAGS.open.strip()) else PLAIN


def divided(text: str, think: ThinkFormat | None, *, ended: bool = True) -> tuple[str, str]:
    """Thinking and answer of a text; thinking that was begun and not ended is all there is.

    Args:
        text: as the model wrote it.
        think: its thinking markers, if they are known.
        ended: whether the model ended the turn.
    """
    marks = think_format_in(text, think)
    if not marks.ends:
        return "", text
    begun = marks.open.strip()
    if marks.close.strip() not in text and text.lstrip().startswith(begun) and marks.unclosed(text, ended=ended):
        return text.lstrip().removeprefix(begun).strip(), ""
    return marks.split(text)


def think_format_of(model: str) -> ThinkFormat | None:
    """The thinking markers of a model by its name; `None` when it belongs to no known family."""
    name = model.lower()
    return next((found for mark, found in NAMED if mark in name), None)
