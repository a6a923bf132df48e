"""The part of a text in which an answer may stand: after the thinking, before the next turn.

It knows the marks of thinking and of turns, as the model families write them; it does not know answers.
"""

from __future__ import annotations

import re

_THINKING = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"),
    ("<|im_start|>think", "<|im_start|>answer"),
    ("<|channel|>analysis", "<|channel|>final"),
)
_MARKED = re.compile(
    r"<(?:\||/?(?:think|thought|reasoning|seed:)|/s>|end_of_turn|start_of_turn|eos|s>)|\[/?(?:THINK|INST)\]|◁"
)
_TURN_ENDS = re.compile(
    r"<\|(?:im_end|eot_id|eom_id|endoftext|end_of_text|end|return|user|im_start)\|>|</s>|<end_of_turn>|<eos>|\[/?INST\]"
    r"|<\|start_header_id\|>"
)
_TURN_STARTS = re.compile(
    r"(?:\s|<\|im_start\|>(?:assistant|answer)|<\|start_header_id\|>assistant<\|end_header_id\|>|<\|message\|>"
    r"|<\|assistant\|>|<s>|<start_of_turn>model)+"
)


def spoken(text: str, size: int) -> slice:
    """Where the last `size` characters that were said aloud stand; an unclosed thought is not said."""
    start, end = 0, len(text)
    if ("<" in text or "T]" in text or "K]" in text or "◁" in text) and _MARKED.search(text):
        aloud = _after_thinking(text)
        start, end = aloud.start, aloud.stop
        if m := _TURN_STARTS.match(text, start, end):
            start = m.end()
        m = _TURN_ENDS.search(text, max(start, end - 4 * size), end)
        if m and m.start() > start:
            end = m.start()
    return slice(max(start, end - size), end)


def _after_thinking(text: str) -> slice:
    start, end = 0, len(text)
    for _, closed in _THINKING:
        if closed in text:
            start = max(start, text.rfind(closed) + len(closed))
    for opened, _ in _THINKING:
        at = text.find(opened, start)
        if at >= 0:
            end = min(end, at)
    return slice(start, end)
