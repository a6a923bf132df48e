"""Whether a text says that it has no answer. "Cannot be determined" is an answer and stays one."""

from __future__ import annotations

import re

from thinkscale.answers.words import compiled, pattern

_UNWRAPPED = re.compile(r"\\(?:text|mathrm|textbf)\s?\{([^{}]*)\}")
_WHOLE = compiled(r"(?:sorry[,.]?\s+)?", "abstain", r"(?:\s(?!\d).{0,80})?")
_REFUSES = re.compile(pattern("refuse"), re.IGNORECASE)
_NOTHING = re.compile(r"[\s.?!…*_\-]*")


def is_abstention(text: str) -> bool:
    """Whether an answer clearly says that there is none."""
    if len(text) > 120:
        return False
    plain = _UNWRAPPED.sub(r"\1", text) if "\\" in text else text
    plain = plain.strip(" \t\r\n.!*$\"'()[]“”。！<>").replace("’", "'")
    return _NOTHING.fullmatch(plain) is not None or _WHOLE.fullmatch(plain) is not None


def refuses(body: str) -> bool:
    """Whether a text that points at no answer ends by saying that it has none."""
    return is_abstention(body.strip()) or _REFUSES.search(body.replace("’", "'"), max(0, len(body) - 200)) is not None
