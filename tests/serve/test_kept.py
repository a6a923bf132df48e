"""The shelf of responses: what is kept of whom when not all can be."""

import time

import pytest

from serve.orders import menu, request
from thinkscale.errors import ServeError
from thinkscale.serve.records import Api
from thinkscale.serve.responses import Kept, Shelf
from thinkscale.serve.runs import Running


def response(id, key, size=1):
    running = Running(menu().order(request(Api.responses, background=True)), "", size)
    running.ended = time.monotonic()
    return Kept(id=id, key=key, created=0, running=running)


def kept(shelf, key, ids):
    found = []
    for id in ids:
        try:
            found.append(shelf.get(id, key).id)
        except ServeError:
            continue
    return found


@pytest.mark.parametrize(("bound", "size"), [({"most": 4}, 1), ({"size": 40}, 10)])
def test_a_full_shelf_lets_go_of_the_oldest_of_the_key_that_takes_up_most(bound, size):
    shelf = Shelf(**bound)
    shelf.put(response("mine", "a", size))
    for i in range(9):
        shelf.put(response(f"{i}", "b", size))
    assert kept(shelf, "a", ["mine"]) == ["mine"]
    assert kept(shelf, "b", map(str, range(9))) == ["6", "7", "8"]
    shelf.put(response("second", "a", size))
    assert kept(shelf, "a", ["mine", "second"]) == ["mine", "second"]
    assert kept(shelf, "b", map(str, range(9))) == ["7", "8"]


def test_few_large_responses_count_as_many_small_ones():
    shelf = Shelf(most=100, size=100)
    shelf.put(response("vast", "a", 60))
    for i in range(5):
        shelf.put(response(f"{i}", "b", 10))
    assert kept(shelf, "a", ["vast"]) == []
    assert len(shelf) == 5
