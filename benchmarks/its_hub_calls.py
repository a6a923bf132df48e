"""Calls of its_hub's self-consistency, for `benchmarks/over_http.py`; runs on the interpreter of its_hub's environment.

Every line of standard input names a URL, a number of callers and a number of calls; the reply is a line of JSON with
the seconds of every call, of all together, and of processor time.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from its_hub import OpenAICompatibleLanguageModel, SelfConsistency
from its_hub.core.algorithms.self_consistency import create_regex_projection_function

BUDGET = 16
QUESTION = "What is 17 + 25?"


async def main() -> None:
    models: dict[str, OpenAICompatibleLanguageModel] = {}
    vote = SelfConsistency(create_regex_projection_function([r"answer is (\d+)"]))
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        url, callers, calls = line.split()
        if url not in models:
            models[url] = OpenAICompatibleLanguageModel(url, "none", "mock")
        seconds: list[float] = []

        async def caller(count: int, model: OpenAICompatibleLanguageModel, seconds: list[float]) -> None:
            for _ in range(count):
                start = time.perf_counter()
                await vote.ainfer(model, QUESTION, BUDGET)
                seconds.append(time.perf_counter() - start)

        start, cpu = time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(int(callers)):
                tasks.create_task(caller(int(calls) // int(callers), models[url], seconds))
        spent = {"all": time.perf_counter() - start, "cpu": time.process_time() - cpu}
        print(json.dumps({"each": seconds} | spent), flush=True)
    for model in models.values():
        await model.close()


asyncio.run(main())
