from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkscale.engines.dialects import News, Piece
from thinkscale.engines.dialects.chat import Chat
from thinkscale.engines.dialects.completions import Completions
from thinkscale.engines.dialects.words import Word, Words
from thinkscale.engines.sse import Events

WIRE = Path(__file__).parents[2] / "wire"
TIMED = (
    b'{"choices":[{"finish_reason":null,"index":0,"delta":{"content":" so"}}],"created":1790000000,"id":"c",'
    b'"model":"m","object":"chat.completion.chunk","timings":{"cache_n":4,"prompt_n":12,"prompt_ms":8.25,'
    b'"prompt_per_token_ms":0.6875,"prompt_per_second":1454.5,"predicted_n":3,"predicted_ms":1e1,"predicted_per_token_ms":3.33,'
    b'"predicted_per_second":300.3}}'
)


def learned_from(dialect, events):
    """What was learned from the first event of those that can be learned from."""
    for event in events:
        if event[:1] == b"{" and event[-1:] == b"}":
            words = Words(dialect)
            words.learn(event, dialect.news(orjson.loads(event)))
            if isinstance(words.read(event), Word):
                return words, event
    return None


def known():
    """An event of every recorded reply that has one that says nothing but a piece of text."""
    yield pytest.param(Chat(), TIMED, id="llamacpp timed")
    for path in sorted(WIRE.glob("*_chat*.sse")) + sorted(WIRE.glob("*_completion.sse")):
        dialect = Completions() if "completion" in path.name else Chat()
        events = Events()
        if found := learned_from(dialect, events.feed(path.read_bytes()) + events.end()):
            yield pytest.param(dialect, found[1], id=path.stem)


KNOWN = [*known()]


def told(word, news):
    """What a word says, as a dialect would, where the prompt is that of some news."""
    if isinstance(word, Piece):
        return News([word], prompt=news.prompt)
    said = {"thought" if word.thought else "text": word.text}
    return News([Piece(word.index, total=word.total, **said)], prompt=news.prompt)


def parsed(dialect, event):
    """What the dialect says of an event, `None` where it is no JSON."""
    try:
        said = orjson.loads(event)
    except orjson.JSONDecodeError:
        return None
    return dialect.news(said) if isinstance(said, dict) else None


def test_there_are_servers_of_every_kind_to_learn_from():
    assert {p.id.split("_")[0].split()[0] for p in KNOWN} >= {"llamacpp", "ollama", "sglang", "vllm"}


@pytest.mark.parametrize(("dialect", "event"), KNOWN)
@given(index=st.integers(0, 9999), text=st.text(), total=st.integers(1, 10**6))
def test_an_event_that_is_like_one_that_was_learned_means_what_the_dialect_says(dialect, event, index, text, total):
    def varied(value):
        if isinstance(value, dict):
            return {name: replaced(name, old) for name, old in value.items()}
        return [varied(old) for old in value] if isinstance(value, list) else value

    def replaced(name, old):
        if name in ("content", "text", "reasoning", "reasoning_content") and old:
            return text
        if name in ("id", "obfuscation"):
            return f"other-{index}"
        counts = dict.fromkeys(("completion_tokens", "predicted_n", "created", "total_tokens"), total)
        numbers = {"index": index, "prompt_tokens": index, "prompt_n": index, **counts}
        return numbers.get(name, varied(old))

    plain = orjson.dumps(orjson.loads(event))
    words, _ = learned_from(dialect, [plain])
    other = orjson.dumps(varied(orjson.loads(event)))
    news = parsed(dialect, other)
    assert told(words.read(other), news) == news


@pytest.mark.parametrize(("dialect", "event"), KNOWN)
@given(data=st.data())
def test_an_event_that_was_altered_is_read_as_the_dialect_reads_it_or_left_to_it(dialect, event, data):
    words, _ = learned_from(dialect, [event])
    at = data.draw(st.integers(0, len(event)))
    end = data.draw(st.integers(at, min(len(event), at + 8)))
    odd = st.sampled_from([b'"', b"\\", b'\\"', b"0", b"00", b"12345", b"-1", b".5", b"{}", b",", b"null", b"\xff"])
    altered = event[:at] + data.draw(st.one_of(st.binary(max_size=6), odd)) + event[end:]
    if word := words.read(altered):
        news = parsed(dialect, altered)
        assert told(word, news) == replace(news, pieces=[replace(p) for p in news.pieces])


def test_what_cannot_be_learned_from_is_not_tried_for_ever():
    words = Words(Chat())
    for i in range(50):
        event = b'{"choices":[{"delta":{"content":"a"},"index":0}],"n":%d}' % i
        words.learn(event, Chat().news(orjson.loads(event)))
    assert words.read(b'{"choices":[{"delta":{"content":"a"},"index":0}],"n":49}') is None
    assert words.read(b'{"choices":[{"delta":{"content":"b"},"index":1}],"n":15}')


def test_ends_and_beginnings_are_known_as_well():
    words = Words(Chat())
    first = b'{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}'
    last = b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop","stop_reason":"###"}]}'
    for event in (first, last):
        words.learn(event, Chat().news(orjson.loads(event)))
    for event in (first, last):
        other = event.replace(b'"index":0', b'"index":12')
        assert told(words.read(other), News()) == Chat().news(orjson.loads(other))
    assert words.read(last.replace(b"###", b"END")) is None


def test_thinking_and_answer_are_known_side_by_side():
    words = Words(Chat())
    for name in ("content", "reasoning"):
        event = orjson.dumps({"choices": [{"index": 0, "delta": {name: "x"}}]})
        words.learn(event, Chat().news(orjson.loads(event)))
    thought = words.read(b'{"choices":[{"index":3,"delta":{"reasoning":"hm"}}]}')
    answer = words.read(b'{"choices":[{"index":4,"delta":{"content":"4"}}]}')
    assert (thought.index, thought.text, thought.thought) == (3, "hm", True)
    assert (answer.index, answer.text, answer.thought) == (4, "4", False)
