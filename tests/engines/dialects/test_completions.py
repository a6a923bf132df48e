"""What goes out to `completions`, and the finer points of what comes back."""

import pytest

from thinkscale.engines.dialects import Habits
from thinkscale.engines.dialects.completions import Completions
from thinkscale.engines.dialects.parts import legacy_logprobs
from thinkscale.engines.protocol import Request
from thinkscale.errors import CapabilityError, EngineError
from thinkscale.types import Message, Origin, Sampling, Segment

ASK = (Message("user", "What is 2+2?"),)


def body(request, n=1, **habits):
    return Completions().body(request, "m", n, Habits(**habits))


def test_a_prompt_is_the_text_of_its_message_and_is_continued_exactly():
    prefix = (Segment(text=" It is", origin=Origin.injected), Segment(text=" 4", origin=Origin.sampled))
    sampling = Sampling(max_tokens=8, logprobs=0, temperature=0.0, stop=("\n",))
    request = Request(messages=ASK, prefix=prefix, sampling=sampling, seeds=(3, 4))
    habits = {"tells_stop": True, "cap": "max_completion_tokens", "always": {"return_token_ids": True}}
    assert body(request, 2, **habits) == {
        "model": "m",
        "prompt": "What is 2+2? It is 4",
        "stream": True,
        "seed": 3,
        "n": 2,
        "max_tokens": 8,
        "logprobs": 1,
        "temperature": 0.0,
        "stop": ["\n"],
        "return_token_ids": True,
    }


def test_several_messages_are_paragraphs():
    parts = ({"type": "text", "text": "What is "}, {"type": "text", "text": "2+2?"})
    request = Request(messages=(Message("system", "Be brief."), Message("user", parts)))
    assert body(request)["prompt"] == "Be brief.\n\nWhat is 2+2?"


def test_a_likelihood_is_asked_for_whole_and_without_sampling():
    sampling = Sampling(temperature=0.7, max_tokens=9, extra={"lora": "a"})
    request = Request(messages=ASK, continuation=" 4", sampling=sampling)
    assert body(request, always={"stream_options": {"include_usage": True}}) == {
        "model": "m",
        "prompt": "What is 2+2? 4",
        "max_tokens": 0,
        "echo": True,
        "logprobs": 1,
        "stream": False,
        "lora": "a",
    }


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (Request(messages=ASK, tools=({},)), "no tools"),
        (Request(messages=(Message("user", ({"type": "image_url"},)),)), "`image_url`"),
    ],
    ids=["tools", "images"],
)
def test_what_is_not_text_is_refused(request_, says):
    with pytest.raises(CapabilityError, match=says):
        body(request_)


@pytest.mark.parametrize("logprobs", [None, {}, {"tokens": []}])
def test_a_server_that_does_not_echo_is_told_apart(logprobs):
    reply = {"choices": [{"index": 0, "text": "4", "logprobs": logprobs, "finish_reason": "length"}]}
    with pytest.raises(EngineError, match="no log-probabilities of the text it was shown"):
        Completions().whole(reply, Request(messages=ASK, continuation="4"))


def test_tokens_generated_after_the_echo_are_no_part_of_the_likelihood():
    told = {"tokens": ["a", " b", " c", " d"], "token_logprobs": [None, -1.0, -2.0, -3.0], "top_logprobs": None}
    usage = {"prompt_tokens": 3, "completion_tokens": 1}
    reply = {"choices": [{"index": 0, "text": "a b c d", "logprobs": told}], "usage": usage}
    [piece] = Completions().whole(reply, Request(messages=(Message("user", "a"),), continuation=" b c")).pieces
    assert piece.logprobs.chosen == (-1.0, -2.0)
    assert (piece.text, piece.sampled) == (" b c", 0)


def test_a_likelihood_refused_on_the_way_is_the_servers_complaint():
    news = Completions().whole({"error": {"message": "no"}}, Request(messages=ASK, continuation="4"))
    assert news.error == {"message": "no"}


def test_tokens_are_spelled_where_the_server_spells_them():
    told = {"tokens": ["a", " b"], "token_logprobs": [None, -1.0], "top_logprobs": [None, {" c": -2.0, " b": -1.0}]}
    found = legacy_logprobs(told)
    assert (found.texts, found.top_texts) == ((" b",), ((" b", " c"),))
    assert legacy_logprobs({"token_logprobs": [-1.0]}).texts == ()
