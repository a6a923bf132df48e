"""When two calls of tools are one answer."""

import json

import pytest

from thinkscale.answers import called


def call(name, arguments):
    return {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}


def key(*calls, exclude=()):
    return called(calls, exclude).key


SAME = ('{"x": 1, "y": [2, null]}', ' {"y":[2.0,null],\n "x":1.0}', {"y": (2, None), "x": 1})


@pytest.mark.parametrize("other", SAME[1:])
def test_the_way_the_json_is_written_makes_no_difference(other):
    assert key(call("click", SAME[0])) == key(call("click", other))


@pytest.mark.parametrize(
    "other",
    [
        call("press", SAME[0]),
        call("click", '{"x": "1", "y": [2, null]}'),
        call("click", '{"x": 1, "y": [null, 2]}'),
        call("click", '{"x": 1}'),
    ],
)
def test_another_tool_type_order_or_number_of_values_is_another_call(other):
    assert key(call("click", SAME[0])) != key(other)


def test_the_identifier_of_a_call_is_no_part_of_it():
    assert key({**call("f", "{}"), "id": "a"}) == key({"function": {"name": "f", "arguments": ""}})


def test_calls_of_one_turn_count_in_their_order():
    first, second = call("a", "{}"), call("b", "{}")
    assert key(first, second) != key(second, first)
    assert key(first, second) != key(first)


def test_arguments_that_are_left_out_make_no_difference_and_stay_in_the_text():
    one, other = call("click", '{"x": 1, "why": "it is red"}'), call("click", '{"why": "big", "x": 1}')
    assert key(one) != key(other)
    assert key(one, exclude=["why"]) == key(other, exclude=["why"])
    assert json.loads(called([one], ["why"]).text) == [{"name": "click", "arguments": {"x": 1, "why": "it is red"}}]


@pytest.mark.parametrize(
    "broken",
    [call("f", '{"x": '), call("", "{}"), {"type": "function"}, {"function": "f"}, call("f", "[" * 100_000)],
    ids=["cut", "no name", "no function", "no mapping", "deep"],
)
def test_a_call_that_cannot_be_read_is_no_answer(broken):
    assert called([broken]) is None
    assert called([call("f", "{}"), broken]) is None


def test_no_calls_are_no_answer():
    assert called([]) is None


def test_a_list_of_arguments_is_compared_as_it_is():
    assert key(call("f", "[1, 2]"), exclude=["x"]) != key(call("f", "[2, 1]"), exclude=["x"])
