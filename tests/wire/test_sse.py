"""Events come out whole, whatever portions and line ends they come in."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkscale.engines import sse
from thinkscale.engines.sse import Events
from thinkscale.errors import EngineError

RECORDED = sorted(Path(__file__).parent.glob("*.sse"))
AWKWARD = (
    "\ufeffdata: first\n\n"
    ": keep-alive\n\n"
    "event: named\nid: 7\nretry: 100\ndata: second\n\n"
    "data:third\n\n\n\n"
    "data: two\ndata: lines é🎉\n\n"
    "data:  kept space\n: remark\n\n"
    "data\n\nfield without colon\n\n"
    "data: [DONE]\n\n"
).encode()
SAID = [b"first", b"second", b"third", "two\nlines é🎉".encode(), b" kept space", b"[DONE]"]


def payloads(portions):
    events = Events()
    return [p for portion in portions for p in events.feed(portion)] + events.end()


def ended(data, end):
    return data.replace(b"\n", end)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_a_stream_cut_anywhere_says_the_same(end):
    data = ended(AWKWARD, end)
    assert payloads([data]) == SAID
    assert payloads([data[i : i + 1] for i in range(len(data))]) == SAID
    for cut in range(len(data) + 1):
        assert payloads([data[:cut], data[cut:]]) == SAID, cut


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("path", RECORDED, ids=lambda p: p.stem)
def test_a_real_stream_cut_anywhere_says_the_same(path, end):
    whole = path.read_bytes()
    said = payloads([whole])
    assert said
    data = ended(whole, end)
    # An event that ends at the cut comes out then, so what is fed later starts afresh.
    for cut in range(0, len(data) + 1, 1 if end == b"\n" else 3):
        assert payloads([data[:cut], data[cut:]]) == said, cut


@given(st.lists(st.integers(0, len(AWKWARD) * 2), max_size=12), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_random_portions_say_the_same(cuts, end):
    data = ended(AWKWARD, end)
    at = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    assert payloads([data[a:b] for a, b in pairwise(at)]) == SAID


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n")), max_size=5), st.integers(1, 9))
def test_every_text_arrives_as_it_was_sent(texts, size):
    sent = [text.encode() for text in texts]
    data = b"".join(b"data: " + text + b"\n\n" for text in sent)
    assert payloads([data[i : i + size] for i in range(0, len(data), size)]) == [t for t in sent if t]


def test_events_come_out_as_soon_as_they_are_complete():
    events = Events()
    assert events.feed(b"data: a\r\n\r") == [b"a"]
    assert events.feed(b"\ndata: b\n\ndata: c") == [b"b"]
    assert events.feed(b"\n") == []
    assert events.feed(b"\n") == [b"c"]
    assert events.end() == []


def test_an_empty_portion_between_the_halves_of_a_line_end_changes_nothing():
    assert payloads([b"data: a\r", b"", b"\ndata: b\r\n\r\n"]) == [b"a\nb"]


def test_a_missing_blank_line_at_the_end_loses_nothing():
    events = Events()
    assert events.feed(b"data: a\n\ndata: b\n") == [b"a"]
    assert events.end() == [b"b"]
    assert events.end() == []


def test_comments_alone_say_nothing():
    assert payloads([b": ping\n\n" * 3]) == []


def test_an_event_without_end_is_given_up(monkeypatch):
    monkeypatch.setattr(sse, "LIMIT", 2**20)
    with pytest.raises(EngineError, match="one event of more than 1 MiB"):
        payloads([b"x" * 2**16] * 20)


def test_many_events_in_one_portion_are_not_one_large_event(monkeypatch):
    monkeypatch.setattr(sse, "LIMIT", 64)
    assert len(payloads([b"data: 0123456789\n\n" * 100])) == 100
