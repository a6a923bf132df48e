"""What the dialects hear in the replies of servers, played to the end and added up here."""

from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest

from thinkscale.engines.dialects.chat import Chat
from thinkscale.engines.dialects.completions import Completions
from thinkscale.engines.dialects.responses import Responses
from thinkscale.engines.protocol import Request
from thinkscale.engines.sse import Events
from thinkscale.types import Finish, Message, Origin, Sampling, Segment, Usage

HERE = Path(__file__).parent
REQUEST = Request(messages=(Message("user", "What is 2+2?"),))


@dataclass
class Heard:
    """One choice, added up."""

    text: str = ""
    thought: str = ""
    sampled: int = 0
    total: int | None = None
    ids: tuple = ()
    chosen: tuple = ()
    top: tuple = ()
    calls: dict = field(default_factory=dict)
    finish: Finish | None = None
    stop_string: str | None = None


def add(choices, news):
    for piece in news.pieces:
        heard = choices.setdefault(piece.index, Heard())
        assert heard.finish is None, "something was said after the end of a choice"
        heard.text += piece.text
        heard.thought += piece.thought
        heard.sampled += piece.sampled or 0
        heard.total = heard.total if piece.total is None else piece.total
        heard.ids += piece.token_ids
        if piece.logprobs:
            heard.chosen += piece.logprobs.chosen
            heard.top += piece.logprobs.top
        for call in piece.calls:
            name, arguments = heard.calls.get(call["index"], ("", ""))
            function = call["function"]
            heard.calls[call["index"]] = (name + (function.get("name") or ""), arguments + function["arguments"])
        heard.finish, heard.stop_string = piece.finish, piece.stop_string
    return choices


def played(data, dialect):
    events = Events()
    choices, bills, errors = {}, [], []
    for payload in [*events.feed(data), *events.end()]:
        if payload == b"[DONE]":
            continue
        news = dialect.news(orjson.loads(payload))
        add(choices, news)
        bills += [news.usage] if news.usage else []
        errors += [news.error] if news.error else []
    return choices, bills, errors


def file(name):
    return (HERE / name).read_bytes()


def whole(name, dialect, request=REQUEST):
    news = dialect.whole(orjson.loads(file(name)), request)
    return add({}, news), news.usage, news.error


def test_vllm_two_choices_count_think_and_stop_each_for_itself():
    choices, bills, errors = played(file("vllm_chat.sse"), Chat())
    assert choices[0] == Heard(
        text="It is 4",
        thought="Add é",
        sampled=8,
        total=8,
        ids=(30, 31, 32, 40, 41, 42, 43, 44),
        finish=Finish.stop,
        stop_string="\n\n",
    )
    assert choices[1] == Heard(
        text="Four 🎉!", thought="Two and two.", sampled=7, total=7, ids=tuple(range(17, 24)), finish=Finish.length
    )
    assert bills[-1] == Usage(input_tokens=21, cached_tokens=16, output_tokens=15, reasoning_tokens=4)
    assert [bill.output_tokens for bill in bills[:-1]] == [8, 7]
    assert not errors


def test_vllm_in_one_piece():
    choices, usage, _ = whole("vllm_chat.json", Chat())
    assert choices[0].text == "It is 4"
    assert choices[0].thought == "Add é"
    assert choices[0].ids == (30, 31, 32, 40, 41, 42, 43, 44)
    assert (choices[0].finish, choices[0].stop_string) == (Finish.stop, "\n\n")
    assert choices[1].calls == {0: ("now", "{}")}
    assert choices[1].finish is Finish.eos
    assert usage == Usage(input_tokens=21, output_tokens=10)


def test_vllm_ids_in_place_of_tokens_are_read():
    choices, bills, _ = played(file("vllm_chat_logprobs.sse"), Chat())
    assert choices[0].text == "Hi."
    assert choices[0].chosen == (-0.25, -0.5, -0.125)
    assert choices[0].top == (((13, -0.25), (7, -1.75)), ((9, -0.25), (2, -0.5)), ((0, -0.125), (5, -9999.0)))
    assert choices[0].sampled == 3 == bills[0].output_tokens
    assert choices[0].finish is Finish.eos


def test_fragments_of_tool_calls_keep_their_index():
    choices, _, _ = played(file("vllm_chat_tools.sse"), Chat())
    assert choices[0].calls == {0: ("add", '{"a": 2, "b": 2}'), 1: ("now", "{}")}
    assert choices[0].finish is Finish.eos


@pytest.mark.parametrize(
    ("name", "code"), [("vllm_chat_broken.sse", 500), ("sglang_chat_broken.sse", 503)], ids=["vllm", "sglang"]
)
def test_a_failure_on_the_way_is_told_in_the_servers_words(name, code):
    choices, _, errors = played(file(name), Chat())
    assert choices[0].finish is None
    assert [error["code"] for error in errors] == [code]
    assert errors[0]["message"]


def test_a_complaint_without_an_error_around_it_is_one():
    _, usage, error = whole("sglang_error.json", Chat())
    assert usage is None
    assert "longer than the model's context length" in error["message"]


def test_sglang_ends_come_last_and_keep_the_counts():
    choices, bills, _ = played(file("sglang_chat.sse"), Chat())
    assert choices[0] == Heard(text="It is 4", thought="Hm, 2+2", total=7, finish=Finish.stop, stop_string="###")
    assert choices[1] == Heard(text="Four ☃", total=2, finish=Finish.eos)
    assert bills == [Usage(input_tokens=14, cached_tokens=8, output_tokens=9, reasoning_tokens=3)]


def test_llamacpp_timings_count_each_choice():
    choices, bills, _ = played(file("llamacpp_chat_n2.sse"), Chat())
    assert set(choices) == {0, 1}
    assert [choices[i].total for i in (0, 1)] == [6, 6]
    assert all(c.finish is Finish.length and c.text for c in choices.values())
    assert [bill.output_tokens for bill in bills] == [6, 6]
    assert {bill.input_tokens for bill in bills} == {37}


def test_llamacpp_bills_each_choice_when_asked_for_bills():
    choices, bills, _ = played(file("llamacpp_chat_n2_billed.sse"), Chat())
    assert set(choices) == {0, 1}
    assert [(bill.input_tokens, bill.output_tokens) for bill in bills] == [(37, 4), (37, 4)]


def test_llamacpp_logprobs_have_ids_and_the_count_is_in_the_timings():
    choices, bills, _ = played(file("llamacpp_chat_logprobs.sse"), Chat())
    assert choices[0].total == 4 == bills[0].output_tokens
    assert len(choices[0].chosen) == choices[0].sampled < 4, "an emoji of several tokens has one entry"
    assert all(token >= 0 for position in choices[0].top for token, _ in position)
    assert all(list(p) == sorted(p, key=lambda pair: -pair[1]) for p in choices[0].top)


def test_llamacpp_continues_a_turn_and_the_given_part_is_not_repeated():
    prefix = (Segment(text="The answer is", origin=Origin.injected),)
    request = Request(messages=REQUEST.messages, prefix=prefix)
    streamed, _, _ = played(file("llamacpp_chat_continued.sse"), Chat())
    at_once, usage, _ = whole("llamacpp_chat_continued.json", Chat(), request)
    assert streamed[0].text == at_once[0].text == " 4."
    assert streamed[0].total == at_once[0].total == usage.output_tokens == 4


def test_llamacpp_plain_completions_have_logprobs_in_the_form_of_chat():
    choices, bills, _ = played(file("llamacpp_completion.sse"), Completions())
    assert choices[0].text
    assert len(choices[0].chosen) == 3 == bills[-1].output_tokens
    assert choices[0].finish is Finish.length


def test_llamacpp_responses():
    choices, bills, _ = played(file("llamacpp_responses.sse"), Responses())
    assert choices[0].text.encode().decode()
    assert choices[0].finish is Finish.eos
    assert choices[0].total == bills[-1].output_tokens == 16
    at_once, usage, _ = whole("llamacpp_responses.json", Responses())
    assert at_once[0].text.startswith("🌟 Hi")
    assert (usage.input_tokens, usage.cached_tokens, usage.output_tokens) == (32, 26, 13)


def test_ollama_thinks_in_a_field_of_its_own_and_bills_at_the_end():
    choices, bills, _ = played(file("ollama_chat.sse"), Chat())
    assert choices == {0: Heard(text="4 🦙", thought="Add them.", finish=Finish.eos)}
    assert bills == [Usage(input_tokens=15, output_tokens=7)]


def test_bills_of_zeros_say_nothing():
    choices, bills, _ = played(file("ollama_completion.sse"), Completions())
    assert choices == {0: Heard(text="4.", finish=Finish.length)}
    assert bills == [Usage(input_tokens=6, output_tokens=3)]


def test_openai_logprobs_and_bill():
    choices, bills, _ = played(file("openai_chat.sse"), Chat())
    assert choices[0].text == "Hello 👋"
    assert choices[0].chosen == (-0.125, -1.5)
    assert choices[0].top[0] == ((-1, -0.125), (-1, -2.5))
    assert choices[0].finish is Finish.eos
    assert bills == [Usage(input_tokens=19, cached_tokens=0, output_tokens=3, reasoning_tokens=0)]


def test_a_refusal_is_text_and_a_filtered_end_is_no_answer():
    choices, _, _ = played(file("openai_chat_refusal.sse"), Chat())
    assert choices == {0: Heard(text="I'm sorry, I can't.", finish=Finish.error)}


def test_vllm_plain_completions_out_of_order():
    choices, bills, _ = played(file("vllm_completion.sse"), Completions())
    assert choices[0].text == " four"
    assert choices[0].chosen == (-0.25, -0.5)
    assert choices[0].top == (((-1, -0.25), (-1, -1.5)), ((-1, -0.5),))
    assert choices[1].top == (((-1, -0.25), (-1, -1.5)), ((-1, -0.25), (-1, -2.5)))
    assert choices[0].ids == (50, 2)
    assert choices[0].finish is Finish.eos
    assert (choices[1].text, choices[1].total, choices[1].finish) == (" five or", 2, Finish.length)
    assert bills[-1].output_tokens == 4


@pytest.mark.parametrize("server", ["vllm", "sglang"])
def test_the_likelihood_of_a_continuation_is_that_of_its_tokens(server):
    request = Request(
        messages=(Message("user", "The answer is"),), continuation=" 4.", sampling=Sampling(logprobs=0), seeds=(0, 1)
    )
    choices, usage, _ = whole(f"{server}_completion_echo.json", Completions(), request)
    expected = Heard(text=" 4.", chosen=(-1.25, -0.75), finish=Finish.length)
    assert choices == {0: expected, 1: expected}
    assert usage.output_tokens == 0


def test_a_token_across_the_boundary_belongs_to_the_continuation():
    request = Request(messages=(Message("user", "The answer is "),), continuation="4.")
    choices, _, _ = whole("vllm_completion_echo.json", Completions(), request)
    assert choices[0].chosen == (-1.25, -0.75)


RESPONSE = Heard(
    text="It is 4 ✅",
    thought="Adding.",
    sampled=2,
    total=29,
    chosen=(-0.25, -0.75),
    top=(((-1, -0.25),), ((-1, -0.5), (-1, -0.75))),
    calls={2: ("add", '{"a":2}')},
    finish=Finish.eos,
)
BILL = Usage(input_tokens=31, cached_tokens=16, output_tokens=29, reasoning_tokens=12)


def test_responses_say_the_same_streamed_and_in_one_piece():
    assert played(file("responses.sse"), Responses()) == ({0: RESPONSE}, [BILL], [])
    assert whole("responses.json", Responses()) == ({0: RESPONSE}, BILL, None)


def test_a_response_that_met_its_cap_ended_by_length():
    choices, bills, _ = played(file("responses_incomplete.sse"), Responses())
    assert choices == {0: Heard(text="It", thought="Long", total=16, finish=Finish.length)}
    assert bills[0].output_tokens == 16


def test_a_failed_response_is_told_in_the_servers_words():
    choices, _, errors = played(file("responses_failed.sse"), Responses())
    assert choices == {}
    assert [error["code"] for error in errors] == ["server_error"]


@pytest.mark.parametrize("name", sorted(p.name for p in HERE.glob("*.sse")))
def test_line_ends_keep_alives_and_a_missing_end_change_nothing(name):
    dialect = Responses() if "responses" in name else Completions() if "completion" in name else Chat()
    data = file(name)
    expected = played(data, dialect)
    assert expected[0] or expected[2]
    assert played(data.replace(b"\n", b"\r\n"), dialect) == expected
    assert played(data.replace(b"\n\n", b"\n\n: keep-alive\n\n"), dialect) == expected
    assert played(data.removesuffix(b"data: [DONE]\n\n"), dialect) == expected
    assert played(data.rstrip(b"\n"), dialect) == expected
