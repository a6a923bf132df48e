"""Confidence in words (Lin et al. 2022): the model is asked how sure it is, from 0 to 100."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from thinkscale.budget import Cost
from thinkscale.needs import IN_A_QUESTION, Needs, Sign
from thinkscale.prompts import ask
from thinkscale.registry import at_least, spec
from thinkscale.scorers import UNJUDGED, shown
from thinkscale.session import Session
from thinkscale.types import Finish, Problem, Score, Trace

_OUT_OF = r"\s*(?:/|out of)\s*"
_NUMBER = re.compile(rf"(?<![\w.])(-?(?:\d+(?:\.\d+)?|\.\d+))(?![\w.]*\d)(?:\s*(%)|{_OUT_OF}(\d+))?")
_UNFINISHED = re.compile(rf"(?:[\d.]+{_OUT_OF})?[\d.]*\Z")


@spec
class VerbalisedConfidence:
    """The last number of the reply to "how sure are you?", from 0 to 100; equal attempts are asked about once.

    `7 out of 10` and `.7` are read as what they say.

    Expect overconfidence: as a way to select it is far below a plain vote in every published comparison.
    """

    max_tokens: int = 64
    """Cap of one reply."""

    needs: ClassVar = Needs(gives={"verbalised-confidence": Sign.not_negative}, loses=IN_A_QUESTION)

    def __post_init__(self) -> None:
        at_least(1, max_tokens=self.max_tokens)

    async def score(self, problem: Problem, traces: Sequence[Trace], llm: Session) -> list[Score]:
        """One score per trace, in [0, 1]; minus infinity where there is nothing to judge or no number in the reply."""
        texts = [shown(t, llm.capabilities.think).text for t in traces]
        in_order = sorted(zip(traces, texts, strict=True), key=lambda it: it[0].path)
        different = [text for text in dict.fromkeys(text for _, text in in_order) if text]
        asked = [ask("verbalised_confidence", question=problem.question, attempt=text) for text in different]
        replies = await llm.each(asked, final=False, max_tokens=self.max_tokens, temperature=0.0)
        failed = next((reply.error for group in replies for reply in group if reply.finish is Finish.error), None)
        if failed:
            llm.warn(f"an answer could not be judged: {failed}")
        heard = {
            text: _confidence(reply, llm) for text, group in zip(different, replies, strict=True) for reply in group
        }
        return [Score(value=heard.get(text, UNJUDGED), kind="verbalised-confidence") for text in texts]

    def ceiling(self, cap: int) -> Cost:
        """Of one trace: a reply."""
        return Cost(tokens=self.max_tokens, calls=1)


def _confidence(reply: Trace, llm: Session) -> float:
    """The last number of a reply, as a share; a number in which the reply was cut off is none."""
    text = llm.think.split(reply.text)[1]
    if not reply.finish.ended:
        text = _UNFINISHED.sub("", text)
    shares = [_share(*found.groups()) for found in _NUMBER.finditer(text)]
    return shares[-1] if shares and 0 <= shares[-1] <= 1 else UNJUDGED


def _share(number: str, unit: str | None, whole: str | None) -> float:
    """A number as a share: of what it is said to be out of, of 1 where it is a decimal up to 1, else of 100."""
    if whole is not None:
        return float(number) / float(whole) if float(whole) else UNJUDGED
    of_one = unit is None and "." in number and abs(float(number)) <= 1
    return float(number) if of_one else float(number) / 100
