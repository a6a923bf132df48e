"""Every exception thinkscale raises, in one place.

    ThinkscaleError
    ├── SettingsError      a setting, flag or spec string that cannot be used
    │   └── SpecError      an unknown method, scorer, rule, field or model name
    ├── BudgetError        a budget that makes no sense (negative, not a number)
    ├── EngineError        a model or server could not do what was asked
    │   ├── CapabilityError    the engine lacks something the method needs
    │   ├── ContextError       the prompt does not fit the model's context
    │   └── ModelError         weights that are missing, damaged or not a model
    ├── ContractError      a component that returned what its kind does not return, or failed in a line of its own
    ├── ScorerError        a scorer could not judge a trace
    ├── StoreError         the run store cannot be opened, read or written
    ├── ServeError         a request to the gateway that is refused, with its HTTP status
    └── BenchError         recorded data or numbers that an estimator cannot use

One class stands for one boundary. A message says what was attempted, what was seen and what to do. A draw that fails
inside a run is not raised: it becomes a `Trace` with `finish=error`, because failures are data. What escapes is what
the caller must fix before anything can run.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence


class ThinkscaleError(Exception):
    """Anything thinkscale raises on purpose; catch this one to catch them all."""

    retryable: bool = False
    """Whether the same call may succeed if it is made again unchanged."""


class SettingsError(ThinkscaleError):
    """A setting, a flag or a configuration file that cannot be used."""


class SpecError(SettingsError):
    """A spec string that does not parse or names something unknown."""


class BudgetError(ThinkscaleError, ValueError):
    """A budget that is negative or not a number."""


class EngineError(ThinkscaleError):
    """A model or server failed to produce what was asked.

    `retryable` may be set per instance; `retry_after` is the wait in seconds that the other side asked for, if any;
    `status` is the HTTP status behind it, if there was one; `words` is what the other side said, as it said it.
    """

    def __init__(
        self, message: str, *, retryable: bool = False, retry_after: float | None = None, status: int | None = None
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after = retry_after
        self.status = status
        self.words = ""

    @property
    def overloaded(self) -> bool:
        """Whether the other side asked for less work at a time."""
        return self.status in (429, 503) or self.retry_after is not None


class CapabilityError(EngineError):
    """The engine lacks a capability that the method needs; raised before anything is spent."""


class ContextError(EngineError):
    """The prompt and the tokens asked for do not fit the model's context."""


class ModelError(EngineError):
    """Weights that are missing, truncated or in another format."""


class ContractError(ThinkscaleError):
    """A method, scorer, rule or policy does not keep its signature; the sentence names it and the line."""


class ScorerError(ThinkscaleError):
    """A scorer could not judge the traces it was given."""


class StoreError(ThinkscaleError):
    """The store of runs cannot be opened, read or written."""


class BenchError(ThinkscaleError, ValueError):
    """Recorded data that cannot be read, or numbers from which an estimate is not defined."""


class ServeError(ThinkscaleError):
    """A request to the gateway that is refused.

    `status` is the HTTP status, `type`, `param` and `code` are those of OpenAI's error object, and `retry_after` is the
    wait in seconds that is advised.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.type, self.param, self.code, self.retry_after = status, type, param, code, retry_after
        self.retryable = status in (429, 503) and type != "insufficient_quota"  # a day's budget does not come back soon


def first_failure(failure: BaseException) -> BaseException:
    """The first failure of a group of tasks: it is what ended the others."""
    return first_failure(failure.exceptions[0]) if isinstance(failure, BaseExceptionGroup) else failure


def nearest(name: str, known: Sequence[str] | dict[str, str]) -> str:
    """The tail of an error about an unknown name."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    if close:
        return f": did you mean {' or '.join(f'`{c}`' for c in close)}?"
    return f": choose one of {', '.join(f'`{k}`' for k in sorted(known))}"
