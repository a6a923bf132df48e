import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.orders import FIVE, FOUR, menu, ran, request
from serve.shapes import frames, valid
from thinkscale.engines.scripted import Line
from thinkscale.engines.think_formats import HARMONY, MISTRAL, OPENED_TAGS, THINK_TAGS
from thinkscale.errors import ServeError
from thinkscale.serve.live import LiveText
from thinkscale.serve.records import Api
from thinkscale.serve.replies import reply
from thinkscale.serve.streams import stream
from thinkscale.session import Event
from thinkscale.types import Finish, Trace

THOUGHT = "<think>\nTwo and two.\n</think>\n\nThe answer is 4."
CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
SCHEMAS = {Api.chat: "CreateChatCompletionStreamResponse", Api.completions: "CreateCompletionResponse"}


def streamed(asked, script=(FOUR,), think=None, names=("reasoning_content", "reasoning"), lost=0):
    """The events of a stream, whose first `lost` events of the run were not heard."""
    order = menu(script, think=think).order(asked)
    outcome, events = ran(order)
    sent = stream(order, id="x-1", created=1700000000, names=names)
    chunks = [*sent.begin(), *itertools.chain(*(list(sent.news(event)) for event in events[lost:])), *sent.end(outcome)]
    told, done = frames(chunks)
    assert done == (asked.api in SCHEMAS)
    for chunk in told if done else ():
        valid(chunk, SCHEMAS[asked.api])
    return told, reply(order, outcome, id="x-1", created=1700000000)


def joined(told, field, at=0):
    choices = [c for chunk in told for c in chunk["choices"] if c["index"] == at]
    return "".join(c["delta"].get(field) or "" for c in choices)


def paced(text):
    return Line(says=text, pace=0.0)


def test_a_single_answer_comes_word_by_word():
    told, whole = streamed(request(stream=True), [paced(FOUR)])
    assert told[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert len([c for c in told if c["choices"][0]["delta"].get("content")]) == 9
    assert joined(told, "content") == whole["choices"][0]["message"]["content"]
    assert told[-1]["choices"][0]["finish_reason"] == "stop"
    assert told[-1]["thinkscale"]["method"] == "single"
    assert {chunk["id"] for chunk in told} == {"x-1"}


def test_every_choice_is_streamed_under_its_number():
    told, _ = streamed(request(stream=True, n=2), [paced(FOUR), paced(FIVE)])
    assert (joined(told, "content", 0), joined(told, "content", 1)) == (FOUR, FIVE)
    assert [c["choices"][0]["index"] for c in told if c["choices"][0]["finish_reason"]] == [0, 1]


@pytest.mark.parametrize("api", SCHEMAS)
def test_a_choice_that_breaks_off_ends_like_one_that_was_cut_short(api):
    order = menu([paced(FOUR)] * 2).order(request(api, stream=True, n=2))
    outcome, events = ran(order)
    lost = replace(outcome.traces[1], finish=Finish.error, error="gone")
    sent = stream(order, id="x-1", created=1700000000)
    chunks = [*sent.begin(), *itertools.chain(*(list(sent.news(event)) for event in events))]
    told, _ = frames([*chunks, *sent.end(replace(outcome, traces=(outcome.traces[0], lost)))])
    ends = [(c["choices"][0]["index"], c["choices"][0]["finish_reason"]) for c in told]
    assert [end for end in ends if end[1]] == [(1, "length"), (0, "stop")]
    assert "thinkscale" in told[-1]


def test_a_vote_tells_how_it_stands_and_then_the_answer():
    told, _ = streamed(request(model="fast", stream=True), [FOUR, FIVE, FOUR, FOUR])
    progress = joined(told, "reasoning")
    assert progress == joined(told, "reasoning_content")
    assert progress.splitlines()[0] == "Sample 1: 4."
    assert progress.splitlines()[-1] == "Sample 4: 4. Votes: 4 ×3, 5 ×1."
    assert joined(told, "content") == FOUR


def test_progress_can_be_left_out_or_have_one_name():
    told, _ = streamed(request(model="fast", stream=True), [FOUR] * 4, names=())
    assert not joined(told, "reasoning")
    told, _ = streamed(request(model="fast", stream=True), [FOUR] * 4, names=("reasoning",))
    assert joined(told, "reasoning")
    assert not joined(told, "reasoning_content")


def test_usage_comes_last_when_asked_for():
    options = {"include_usage": True}
    told, whole = streamed(request(stream=True, stream_options=options))
    assert (told[-1]["choices"], told[-1]["usage"]) == ([], whole["usage"])
    told, _ = streamed(request(stream=True))
    assert "usage" not in told[-1]


def test_thinking_is_told_apart_while_it_comes():
    told, whole = streamed(request(stream=True), [paced(THOUGHT)], THINK_TAGS)
    assert joined(told, "reasoning") == "Two and two."
    assert joined(told, "content") == whole["choices"][0]["message"]["content"] == "The answer is 4."


def test_calls_of_tools_come_whole():
    told, _ = streamed(request(stream=True), [Line(says="Let me add.", calls=(CALL,))])
    [calls] = [c["choices"][0]["delta"]["tool_calls"] for c in told if "tool_calls" in c["choices"][0]["delta"]]
    assert calls == [{**CALL, "type": "function"}]
    assert told[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_log_probabilities_come_with_the_text():
    told, _ = streamed(request(stream=True, logprobs=True), [paced("4 ok")])
    [chunk] = [c["choices"][0] for c in told if c["choices"][0]["delta"].get("content")]
    assert [token["token"] for token in chunk["logprobs"]["content"]] == ["4", " ok"]


def test_what_was_not_heard_comes_at_the_end():
    told, _ = streamed(request(stream=True), [paced(FOUR)], lost=3)
    assert joined(told, "content") == FOUR


def test_completions_stream_their_text():
    told, _ = streamed(request(Api.completions, stream=True, n=2), [paced(THOUGHT), paced(FIVE)], THINK_TAGS)
    texts = ["".join(c["choices"][0]["text"] for c in told if c["choices"][0]["index"] == at) for at in (0, 1)]
    assert texts == [THOUGHT, FIVE]
    told, _ = streamed(request(Api.completions, stream=True, model="fast"), [FOUR] * 4)
    assert [c["choices"][0]["text"] for c in told] == [FOUR, ""]


@pytest.mark.parametrize("model", ["small", "fast"])
def test_a_response_is_told_event_by_event(model):
    line = Line(says=THOUGHT, calls=(CALL,), pace=0.0)
    told, whole = streamed(request(Api.responses, stream=True, model=model), [line] * 4, THINK_TAGS)
    assert [e["sequence_number"] for e in told] == list(range(len(told)))
    kinds = [kind for kind, _ in itertools.groupby(e["type"].removeprefix("response.") for e in told)]
    opening, closing = ["output_item.added", "content_part.added"], ["content_part.done", "output_item.done"]
    assert kinds == [
        *("created", "in_progress"),
        *(*opening, "reasoning_text.delta", "reasoning_text.done", *closing),
        *(*opening, "output_text.delta", "output_text.done", *closing),
        *("output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"),
        "completed",
    ]
    deltas = "".join(e["delta"] for e in told if e["type"] == "response.output_text.delta")
    assert deltas == "The answer is 4."
    last = told[-1]["response"]
    assert last["output"] == [e["item"] for e in told if e["type"] == "response.output_item.done"]
    assert [i["type"] for i in last["output"]] == ["reasoning", "message", "function_call"]
    assert last["usage"]["total_tokens"] == whole["usage"]["total_tokens"]


def test_an_empty_answer_is_still_a_message():
    told, _ = streamed(request(Api.responses, stream=True), [Line(says="")])
    assert told[-1]["response"]["output"][0]["content"][0]["text"] == ""


def test_a_stream_that_fails_says_so_in_the_shape_of_its_endpoint():
    failed = ServeError("gone", status=502, type="server_error", code="upstream_error")
    for api in Api:
        sent = stream(menu().order(request(api, stream=True)), id="x", created=1)
        told, _ = frames([*sent.begin(), *sent.fail(failed)])
        if api is Api.responses:
            assert (told[-1]["type"], told[-1]["response"]["error"]["message"]) == ("response.failed", "gone")
        else:
            assert valid(told[-1], "ErrorResponse")["error"]["code"] == "upstream_error"


FORMATS = (None, THINK_TAGS, OPENED_TAGS, HARMONY, MISTRAL)


@given(
    st.sampled_from(FORMATS), st.sampled_from(["", " Hm, <th", "a\n\nb "]), st.text("ab <>/\n", max_size=9), st.data()
)
def test_text_is_told_apart_the_same_however_it_is_cut(think, thought, answer, data):
    whole = think.joined(thought, answer) if think else answer
    parts, at = [], 0
    while at < len(whole):
        step = data.draw(st.integers(1, 7))
        parts.append((at, whole[at : at + step]))
        at += step
    live = LiveText(think)
    for place, part in parts:
        live.heard(Event(path=(0,), role="main", text=part, at=place))
    seen_thought, seen = live.sent(0)
    expected = think.split(whole) if think and think.close.strip() in whole else ("", whole)
    if think and think.close.strip() not in whole and (not think.open.strip() or whole.lstrip().startswith("<")):
        return  # what may yet be thinking, and is known at the end
    assert seen.rstrip() == expected[1].rstrip()
    assert seen_thought.strip() == expected[0]


def test_a_call_that_is_made_again_is_not_said_twice():
    live = LiveText(None)
    for at, text in ((0, "The "), (4, "ans"), (0, "The "), (4, "answer"), (10, " is 4")):
        live.heard(Event(path=(0,), role="main", text=text, at=at))
    assert live.sent(0) == ("", "The answer is 4")


def test_what_another_call_adds_comes_at_the_end():
    live = LiveText(None)
    live.heard(Event(path=(0,), role="main", text="The", at=0))
    live.heard(Event(path=(0,), role="main", trace=Trace(prompt=())))
    assert live.heard(Event(path=(0,), role="main", text="Final answer", at=0)) == (0, "", "")
