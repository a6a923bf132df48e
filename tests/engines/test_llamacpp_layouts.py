"""The layouts of the embedded engine's cache: which one is chosen, when it changes, and that draws do not notice."""

import asyncio
import os
import tempfile
from array import array
from pathlib import Path

import pytest

from thinkscale.engines.llamacpp import LlamaCpp, layout
from thinkscale.engines.llamacpp.layout import Cache, Size, Work, layouts
from thinkscale.engines.llamacpp.streams import Streams
from thinkscale.engines.protocol import Abort, Request, complete
from thinkscale.engines.weights import default_weights
from thinkscale.types import Finish, Message, Sampling

GREEDY = Sampling(temperature=0.0, max_tokens=20)


@pytest.fixture(scope="module")
def weights():
    before = os.environ.get("THINKSCALE_HOME")
    os.environ.setdefault("THINKSCALE_HOME", str(Path(tempfile.gettempdir()) / "thinkscale-tests"))
    yield default_weights()
    if before is None:
        del os.environ["THINKSCALE_HOME"]


class FakeContext:
    """Keeps what each stream holds, as the runtime would."""

    def __init__(self):
        self.held = {}

    def share(self, source, target, length):
        self.held[target] = self.held[source][:length]

    def forget(self, stream):
        self.held.pop(stream, None)


def size(**fields):
    return Size(**{"cells": 18 * 1024, "threads": 2, "slots": 32, **fields})


def ask(text="Name three colours and say why you like them.", **fields):
    return Request(messages=(Message("user", text),), **fields)


def laid_out(engine):
    return engine._worker._scheduler._cache.layout


def test_the_default_size_allows_two_kinds_of_streams():
    assert [(one.unified, one.sequences, one.length) for one in layouts(size())] == [
        (False, 18, 1024),
        (False, 10, 1792),
        (True, 80, 18432),
    ]


@pytest.mark.parametrize("fields", [{"cells": 2048}, {"slots": 2}])
def test_small_engines_stay_unified(fields):
    (only,) = layouts(size(**fields))
    assert only.unified


@pytest.mark.parametrize("cells", [8192, 16384, 32768, 131072])
def test_no_layout_takes_more_than_the_size(cells):
    for one in layouts(size(cells=cells)):
        assert one.length * (1 if one.unified else one.sequences) <= cells


def test_it_changes_when_it_must_and_back_when_that_pays(monkeypatch):
    opened = []
    monkeypatch.setattr(
        layout,
        "Context",
        lambda _weights, **options: (
            opened.append(options)
            or type("C", (), {"cells": options["cells"], "close": lambda _: None, "forget": lambda *_: None})()
        ),
    )
    cache = Cache(None, size())
    short, long = Work(400, 16 * 256, 256), Work(5000, 4000, 4000)
    cache.arrange([short, long])
    assert cache.layout.unified, "one layout for all that waits"
    cache.arrange([short])
    assert not cache.layout.unified
    cache.arrange([short, long])
    assert not cache.layout.unified, "it stays while the first fits"
    cache.arrange([long, short])
    assert cache.layout.unified
    cache.account.grow(cache.account._open(None, 0, 5000), range(5000))
    cache.arrange([short])
    assert cache.layout.unified, "5,000 cached tokens are worth more than the faster steps"
    assert [options["unified"] for options in opened] == [True, False, True]


def test_running_strands_are_brought_side_by_side():
    context = FakeContext()
    account = Streams(context, 8, 1024)
    strands = [account._open(None, 0, stream) for stream in range(8)]
    for strand in strands:
        strand.tokens = array("i", [strand.id] * 3)
        context.held[strand.id] = list(strand.tokens)
    for strand in strands[1:4]:
        account.rest(strand)
    running = [strands[i] for i in (0, 4, 5, 7)]
    account.settle(running)
    ids = sorted(strand.id for strand in running)
    assert ids == list(range(ids[0], ids[0] + 4))
    assert len({strand.id for strand in account.strands}) == len(account.strands)
    for strand in account.strands:
        assert context.held[strand.id] == list(strand.tokens)
    assert account._free == set(range(8)) - {strand.id for strand in account.strands}


def test_room_for_granted_draws_is_kept():
    account = Streams(FakeContext(), 3, 1024)
    first = account.begin(None, 0, 10, 10)
    account.set_aside(10)
    assert account.make_room(10)
    account.set_aside(10)
    assert not account.make_room(10)
    assert account.begin(None, 0, 10, None) is None
    account.rest(first)
    assert not account.make_room(10, keep=first)
    assert account.make_room(10)
    assert not first.alive


@pytest.mark.model
async def test_sixteen_draws_of_a_shared_prompt_equal_single_ones_in_either_layout(weights, monkeypatch):
    found = {}
    for name, few in (("streams", 4), ("unified", 1000)):
        monkeypatch.setattr(layout, "_FEW", few)
        engine = LlamaCpp(model=weights)
        (alone,) = await complete(engine, ask(sampling=GREEDY))
        many = await complete(engine, ask(sampling=GREEDY, seeds=tuple(range(16))))
        assert laid_out(engine).unified is (name == "unified")
        assert {c.token_ids[:8] for c in many} == {alone.token_ids[:8]}
        assert many[0].usage.cached_tokens == engine.count(ask())
        found[name] = alone.token_ids[:8]
        await engine.aclose()
    assert found["streams"] == found["unified"]


@pytest.mark.model
async def test_draws_of_unequal_lengths_keep_their_texts_when_they_are_moved(weights, monkeypatch):
    engine, moves, move = LlamaCpp(model=weights), [], Streams._move

    def counted(self, strand, stream):
        moves.append(stream)
        move(self, strand, stream)

    monkeypatch.setattr(Streams, "_move", counted)
    limits = (40, 6, 30, 12, 24, 18)
    requests = [ask(sampling=Sampling(temperature=0.0, max_tokens=n)) for n in limits]
    together = await asyncio.gather(*(complete(engine, request) for request in requests))
    assert moves
    for (one,), n in zip(together, limits, strict=True):
        assert one.tokens == n
        assert together[0][0].token_ids[: min(n, 8)] == one.token_ids[: min(n, 8)]
    await engine.aclose()


@pytest.mark.model
async def test_a_long_request_changes_the_layout_and_short_ones_change_it_back(weights):
    engine = LlamaCpp(model=weights)
    (before,) = await complete(engine, ask(sampling=GREEDY))
    assert not laid_out(engine).unified
    abort = Abort()
    stream = engine.stream(ask(sampling=Sampling(temperature=0.0, max_tokens=3000, min_tokens=3000)), abort)
    text = (await anext(stream)).text
    assert laid_out(engine).unified
    short = asyncio.create_task(complete(engine, ask("Say hello.", sampling=Sampling(max_tokens=4))))
    assert (await short)[0].finish in (Finish.length, Finish.eos)
    await stream.aclose()
    assert before.text.startswith(text)
    many = ask(sampling=Sampling(temperature=0.0, max_tokens=256, stop=(" ",)), seeds=tuple(range(16)))
    assert {c.finish for c in await complete(engine, many)} == {Finish.stop}
    assert not laid_out(engine).unified
    (after,) = await complete(engine, ask(sampling=GREEDY))
    assert after.token_ids[:8] == before.token_ids[:8]
    await engine.aclose()
