import importlib.util
import random
import sys
from pathlib import Path

import pytest

from thinkscale.bench.clock import Attempts, Law
from thinkscale.pace import Pace, Wave
from thinkscale.stopping.ahead_by_k import AheadByK

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def loaded(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("way", "work"), loaded("session").WAYS.items())
async def test_every_way_that_the_session_benchmark_times_works(way, work):
    assert await work(3)


def in_steps(rule, traces, sizes, places):
    """Tokens paid and steps taken when every attempt that has a place writes one token a step: one step at a time."""
    seen, paid, steps, first = [], 0, 0, 0
    for size in sizes:
        wave, waiting, running = Wave(range(first, first + size)), list(range(first, first + size)), {}
        first += size
        while True:
            while waiting and len(running) < places:
                running[waiting.pop(0)] = 0
            for i in [i for i, wrote in running.items() if wrote == traces.tokens[i]]:
                del running[i]
                wave.ended(i, traces.tokens[i])
            for i in wave.due():
                seen.append(traces.traces[i])
                if rule(seen):
                    return paid, steps
            if not waiting and not running:
                break
            while waiting and len(running) < places:
                running[waiting.pop(0)] = 0
            steps += bool(running)
            paid += len(running)
            running = {i: wrote + 1 for i, wrote in running.items()}
            for i, wrote in running.items():
                wave.written(i, wrote)
    return paid, steps


def test_what_a_run_at_equal_speed_pays_is_what_it_pays_step_by_step():
    paces, chance = loaded("paces"), random.Random(1)
    for _ in range(500):
        n, places = chance.randint(1, 9), chance.randint(1, 9)
        lengths = [chance.randint(1, 8) for _ in range(n)]
        attempts = Attempts.told([chance.choice("aaab") for _ in range(n)], lengths)
        rule, pace = AheadByK(k=chance.randint(1, 4)), chance.choice(list(Pace))
        law = Law(rule, n=n, pace=pace)
        found = paces.lived(law, attempts, range(n), places)
        sizes = law.run(attempts).sizes
        assert (found.paid, found.steps) == in_steps(rule, attempts, sizes, places)


def test_a_live_run_at_equal_speed_needs_pays_and_takes_what_the_table_says():
    paces, chance = loaded("paces"), random.Random(2)
    for _ in range(150):
        n, known = chance.randint(4, 9), chance.choice((None, 2, 3))
        attempts = Attempts.told([chance.choice("aaab") for _ in range(n)], [chance.randint(1, 8) for _ in range(n)])
        law = Law(AheadByK(k=chance.randint(1, 3)), n=n, pace=chance.choice(list(Pace)), places=known)
        order, places = chance.sample(range(n), n), known or chance.choice((2, 9))
        said, found = paces.lived(law, attempts, order, places), paces.live(law, attempts, order, places, step=1)
        assert (found.needed, found.paid, found.steps) == (said.needed, said.paid, said.steps)


def test_paces_save_what_the_table_says_on_the_recorded_lengths():
    lines = {(x.n, x.places, x.pace): x for x in loaded("paces").table(AheadByK(k=4), orders=5)}
    assert lines[16, "all", "thrift"].needed < lines[16, "all", "steady"].needed < lines[16, "all", "swift"].needed
    assert lines[40, "all", "thrift"].needed < 0.36
    assert lines[40, "all", "steady"].time < 1.6
    assert lines[40, "8 places", "steady"].paid < 0.4
    assert lines[40, "8 places", "steady"].time < 1 < lines[40, "all", "thrift"].time
    assert all(x.paid <= 1.02 * x.needed for x in lines.values() if x.places != "queue")


async def test_the_store_benchmark_works(tmp_path):
    store = loaded("store")
    for way in (store.recorded, store.waits):
        kept = store.Store(tmp_path / way.__name__ / "runs.db")
        assert all(figure > 0 for figure in (await way(kept, tmp_path / way.__name__, 32)).values())
        kept.close()
