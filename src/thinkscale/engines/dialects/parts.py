"""What the replies have in common: choices, usage, log-probabilities, endings and complaints."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from sys import intern
from typing import cast

from thinkscale.engines import guard
from thinkscale.engines.dialects import Json, News, Piece
from thinkscale.types import Finish, Logprobs, LogprobSpace, Usage

Choice = Mapping[str, object]
_Likely = tuple[int, float, str]
"""Id, log-probability and spelling of a token."""
_NOTHING = News()
_ENDS = {"stop": Finish.eos, "tool_calls": Finish.eos, "length": Finish.length}
_WORDS = (
    # Somebody else than the model ended the text, so it is no answer to count.
    (
        re.compile(r"filter|safety|recitation|blocklist|prohibited|spii|moderat|sensitive|policy|refusal", re.I),
        Finish.error,
    ),
    (re.compile(r"error|fail|malformed", re.I), Finish.error),
    (re.compile(r"abort|cancel|interrupt", re.I), Finish.aborted),
    # The server saw the text run in circles and cut it, as a cap would have, or had no room or no time for more.
    (
        re.compile(
            r"length|max|truncat|limit|incomplete|repetition|context|window|insufficient|resource|exceed|budget|time.?d?.?out",
            re.I,
        ),
        Finish.length,
    ),
)
"""What a reason means by the words in it, the first that fits."""


def news_of(event: Json, hear: Callable[[Piece, Choice], None]) -> News:
    """What a chunk or a whole reply with `choices` says; events of another kind say nothing.

    `hear` takes over the text, which each endpoint puts elsewhere.
    """
    choices = event.get("choices")
    if not isinstance(choices, list) or not choices:
        error, usage = complaint(event), usage_of(event.get("usage"))
        return _NOTHING if error is None and usage is None else News(usage=usage, error=error)
    if "error" in event and (error := complaint(event)) is not None:
        return News(error=error)
    pieces = [_piece(choice, hear) for choice in choices if isinstance(choice, dict)]
    if len(pieces) > 1 and len({piece.index for piece in pieces}) == 1:
        # Choices that all have the same number, or none, are numbered by their order.
        for at, piece in enumerate(pieces):
            piece.index = at
    told, timings = event.get("usage"), event.get("timings")
    if told is None and timings is None:
        return News(pieces)
    if len(pieces) == 1:
        pieces[0].total = count(told, "completion_tokens") or count(timings, "predicted_n")
    usage = usage_of(told) or timed(timings)
    if usage is not None and all(piece.finish is None for piece in pieces):
        return News(pieces, prompt=Usage(input_tokens=usage.input_tokens, cached_tokens=usage.cached_tokens))
    return News(pieces, usage)


def _piece(choice: Choice, hear: Callable[[Piece, Choice], None]) -> Piece:
    piece = Piece(_index(choice.get("index")))
    hear(piece, choice)
    if len(choice) == 3 and choice.get("finish_reason", piece) is None:
        return piece  # an index, some text and nothing else: what nearly every chunk is
    if choice.get("finish_reason"):
        piece.finish, piece.stop_string = ending(choice)
    if ids := choice.get("token_ids") or choice.get("response_token_ids"):
        piece.token_ids = token_ids(ids)
        piece.sampled = len(piece.token_ids) or None
    if (told := choice.get("logprobs")) is not None:
        piece.logprobs = legacy_logprobs(told)
        if piece.logprobs is not None and piece.sampled is None:
            piece.sampled = len(piece.logprobs.chosen)
    return piece


def _index(told: object) -> int:
    """The number of a choice; 0 where it is none."""
    return guard.tokens_of(int(told) if isinstance(told, str) and told.isdecimal() else told) or 0


def count(told: object, name: str) -> int | None:
    """A number of tokens; a zero only fills a form."""
    return (guard.tokens_of(told.get(name)) or None) if isinstance(told, dict) else None


def usage_of(told: object) -> Usage | None:
    """What a usage object says, by the names of chat or of responses; zeros that only fill a form say nothing.

    The total tells of thinking that some servers count beside the text instead of with it.
    """
    if not isinstance(told, dict):
        return None
    prompt = guard.tokens_of(told.get("prompt_tokens", told.get("input_tokens")))
    output = guard.tokens_of(told.get("completion_tokens", told.get("output_tokens"))) or 0
    if not prompt and not output:
        return None
    of_prompt = told.get("prompt_tokens_details") or told.get("input_tokens_details")
    of_output = told.get("completion_tokens_details") or told.get("output_tokens_details") or told
    thought = guard.tokens_of(of_output.get("reasoning_tokens")) if isinstance(of_output, dict) else None
    beside = (guard.tokens_of(told.get("total_tokens")) or 0) - (prompt or 0) - output
    if prompt and beside > 0 and thought in (None, 0, beside):
        output, thought = output + beside, beside
    return Usage(
        input_tokens=prompt,
        cached_tokens=guard.tokens_of(of_prompt.get("cached_tokens")) if isinstance(of_prompt, dict) else None,
        output_tokens=output,
        reasoning_tokens=thought,
    )


def timed(timings: object) -> Usage | None:
    """What llama.cpp's `timings` say of one choice: tokens read, tokens found in the cache, tokens generated."""
    if not isinstance(timings, dict):
        return None
    read, cached = guard.tokens_of(timings.get("prompt_n")), guard.tokens_of(timings.get("cache_n"))
    return Usage(
        input_tokens=None if read is None else read + (cached or 0),
        cached_tokens=cached,
        output_tokens=guard.tokens_of(timings.get("predicted_n")) or 0,
    )


def ending(choice: Mapping[str, object]) -> tuple[Finish | None, str | None]:
    """Why a choice ended, and the stop string that fired where the server says which."""
    reason = choice.get("finish_reason")
    if not reason:  # some servers write an empty word as long as there is more to come
        return None, None
    fired = choice.get("stop_reason") or choice.get("matched_stop")
    if reason == "stop" and isinstance(fired, str):
        return Finish.stop, fired
    return finish_of(reason), None


def finish_of(reason: object) -> Finish:
    """Why a text ended, from a server's word for it; a word without a meaning of its own is the end of the turn."""
    word = str(reason)
    return _ENDS.get(word) or next((finish for known, finish in _WORDS if known.search(word)), Finish.eos)


def complaint(event: Json) -> Json | None:
    """The server's complaint, where an event is one: an `error`, or an object that is one itself."""
    error = event.get("error")
    if isinstance(error, dict):
        return error
    if error:
        return {"message": error}
    if event.get("object") == "error" or event.get("type") == "error":
        return event
    return None


def token_logprobs(told: object) -> Logprobs | None:
    """Log-probabilities as chat completions write them: one entry per token, as `content` and, if refused, `refusal`.

    Ids that the server does not tell are -1.
    """
    if isinstance(told, dict):
        told = [*(told.get("content") or ()), *(told.get("refusal") or ())]
    if not isinstance(told, list) or not told:
        return None
    entries = [entry for entry in told if isinstance(entry, dict) and entry.get("logprob") is not None]
    best = [_best(entry.get("top_logprobs") or ()) for entry in entries]
    return _signals([_spelling(e) for e in entries], [guard.sampled(e["logprob"]) for e in entries], best)


def legacy_logprobs(told: object) -> Logprobs | None:
    """Log-probabilities as plain completions write them, a list for each property of the tokens, or as chat does."""
    if not isinstance(told, dict) or not isinstance(told.get("token_logprobs"), list):
        return token_logprobs(told)
    pairs = [(i, p) for i, p in enumerate(told["token_logprobs"]) if p is not None]
    likeliest, tokens = told.get("top_logprobs") or [], told.get("tokens") or []
    if not pairs:
        return None
    best = [_ranked(likeliest[i]) if i < len(likeliest) else [] for i, _ in pairs]
    return _signals(
        [tokens[i] if i < len(tokens) else None for i, _ in pairs], [guard.sampled(p) for _, p in pairs], best
    )


def token_ids(told: object) -> tuple[int, ...]:
    """Ids of tokens, if they are there."""
    return tuple(told) if isinstance(told, list) and all(isinstance(t, int) for t in told) else ()


def _signals(tokens: Sequence[object], chosen: Sequence[float], best: Sequence[Sequence[_Likely]]) -> Logprobs:
    """One record of some tokens. Spellings are shared objects: there are many tokens and few different ones."""
    ranked = any(best)
    spelled = all(isinstance(token, str) and not token.startswith("token_id:") for token in tokens)
    return Logprobs(
        space=LogprobSpace.raw,
        chosen=tuple(chosen),
        top=tuple([tuple([(i, p) for i, p, _ in row]) for row in best]) if ranked else (),
        texts=tuple([intern(str(token)) for token in tokens]) if spelled else (),
        top_texts=tuple([tuple([intern(text) for _, _, text in row]) for row in best]) if ranked and spelled else (),
    )


def _best(entries: Sequence[Mapping[str, object]]) -> list[_Likely]:
    told = [e for e in entries if isinstance(e, dict) and e.get("logprob") is not None]
    likely = [(_id(e), guard.logprob(e["logprob"]), str(_spelling(e))) for e in told]
    return sorted(likely, key=lambda entry: -entry[1])


def _spelling(entry: Mapping[str, object]) -> object:
    r"""The token's text; one that is part of a character is spelled by its bytes, such as `\xf0\x9f`."""
    token, told = entry.get("token"), entry.get("bytes")
    if not told or not isinstance(token, str) or not ("\ufffd" in token or "\\x" in token):
        return token
    return bytes(cast(list[int], told)).decode("utf-8", "backslashreplace")


def _ranked(entry: object) -> list[_Likely]:
    if not isinstance(entry, dict):
        return []
    return _best([{"token": token, "logprob": logprob} for token, logprob in entry.items()])


def _id(entry: Mapping[str, object]) -> int:
    known, token = entry.get("id"), entry.get("token")
    if isinstance(known, int):
        return known
    if isinstance(token, str) and token.startswith("token_id:") and token[9:].isdecimal():
        return int(token[9:])
    return -1
