import importlib.util
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def loaded(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("way", "work"), loaded("session").WAYS.items())
async def test_every_way_that_the_session_benchmark_times_works(way, work):
    assert await work(3)


async def test_the_store_benchmark_works(tmp_path):
    store = loaded("store")
    for way in (store.recorded, store.waits):
        kept = store.Store(tmp_path / way.__name__ / "runs.db")
        assert all(figure > 0 for figure in (await way(kept, tmp_path / way.__name__, 32)).values())
        kept.close()
