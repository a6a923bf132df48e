"""How fast the embedded engine decodes, against the bare runtime and against asking one draw at a time.

    python benchmarks/decode.py [--model path.gguf] [--draws 16] [--tokens 256] [--repeats 3] [--json]

Three routes draw the same number of tokens of one prompt, each in a process of its own, in alternating repeats:

1. `bare`: a batched loop on the same runtime and binding with the runtime's own samplers; nothing of thinkscale.
2. `engine`: `LlamaCpp` through `complete()`.
3. `serial`: the runtime's own high-level call, one draw after another, with its prompt cache.

Ends of generation are banned in all three, so each draw has exactly the tokens asked for. Medians are compared.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes as c
import json
import multiprocessing
import os
import statistics
import time
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from thinkscale.engines.llamacpp import LlamaCpp
from thinkscale.engines.llamacpp.binding import library
from thinkscale.engines.llamacpp.runtime import Context, Weights
from thinkscale.engines.protocol import Request, complete
from thinkscale.engines.weights import default_weights
from thinkscale.types import Message, Sampling

STORY = (
    "A baker makes 12 loaves of bread every morning. On Monday she sells 7 loaves before noon and 3 after noon. On"
    " Tuesday she makes twice as many loaves, sells half of them to a school, and gives 2 to a neighbour who helped her"
    " carry flour. On Wednesday it rains all day, so only 5 people come to the shop, and each of them buys exactly one"
    " loaf. The baker keeps every loaf that is not sold and feeds the old ones to her hens on Thursday. How many loaves"
    " do the hens get? Think step by step and write every step on a line of its own before you give the answer."
)
TEMPERATURE = 0.8


class Bare:
    """The batched loop, with one chain of the runtime's samplers and one stream of cells per draw."""

    def __init__(self, weights: Weights, draws: int, length: int, threads: int) -> None:
        self.weights, self.draws = weights, draws
        self.lib = library()
        for name, result, arguments in (
            ("llama_sampler_chain_init", c.c_void_p, [c.c_bool]),
            ("llama_sampler_chain_add", None, [c.c_void_p, c.c_void_p]),
            ("llama_sampler_init_logit_bias", c.c_void_p, [c.c_int32, c.c_int32, c.c_void_p]),
            ("llama_sampler_init_temp", c.c_void_p, [c.c_float]),
            ("llama_sampler_init_dist", c.c_void_p, [c.c_uint32]),
            ("llama_sampler_sample", c.c_int32, [c.c_void_p, c.c_void_p, c.c_int32]),
        ):
            function = getattr(self.lib, name)
            function.restype, function.argtypes = result, arguments
        self.context = Context(weights, cells=draws * length, sequences=draws, threads=threads, unified=False)

    def chain(self, seed: int) -> int:
        class Bias(c.Structure):
            _fields_ = (("token", c.c_int32), ("bias", c.c_float))

        ends = self.weights.ends.tolist()
        biases = (Bias * len(ends))(*((token, float("-inf")) for token in ends))
        made = self.lib.llama_sampler_chain_init(True)
        bias = self.lib.llama_sampler_init_logit_bias(self.weights.vocab_size, len(ends), biases)
        for sampler in (bias, self.lib.llama_sampler_init_temp(TEMPERATURE), self.lib.llama_sampler_init_dist(seed)):
            self.lib.llama_sampler_chain_add(made, sampler)
        return int(made)

    def run(self, prompt: list[int], tokens: int) -> None:
        context, n, at = self.context, self.draws, len(prompt)
        for sequence in range(n):
            context.forget(sequence)
        chains = [self.chain(seed) for seed in range(n)]
        assert context.decode(prompt, range(at), [0] * at, [0] * (at - 1) + [1]) == 0
        for sequence in range(1, n):
            context.share(0, sequence, at)
        sample, handle = self.lib.llama_sampler_sample, context._handle
        last = [sample(chain, handle, at - 1) for chain in chains]
        for step in range(tokens - 1):
            assert context.decode(last, [at + step] * n, range(n), [1] * n) == 0
            last = [sample(chain, handle, row) for row, chain in enumerate(chains)]
        for chain in chains:
            self.lib.llama_sampler_free(chain)


class Engine:
    """The engine, through the function that methods use."""

    def __init__(self, path: Path, threads: int) -> None:
        self.engine = LlamaCpp(model=path, threads=threads)

    def run(self, draws: int, tokens: int) -> None:
        sampling = Sampling(temperature=TEMPERATURE, max_tokens=tokens, min_tokens=tokens)
        request = Request(messages=(Message("user", STORY),), sampling=sampling, seeds=tuple(range(draws)))
        found = asyncio.run(complete(self.engine, request))
        assert [one.tokens for one in found] == [tokens] * draws, [one.finish for one in found]


class Serial:
    """The runtime's in-process server, one request at a time on one slot."""

    def __init__(self, path: Path, threads: int) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel, params.warmup = 2048, 1, False
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        self.server = xllamacpp.Server(params)

    def run(self, prompt: str, draws: int, tokens: int) -> None:
        for seed in range(draws):
            body = {"prompt": prompt, "max_tokens": tokens, "temperature": TEMPERATURE, "seed": seed}
            # The same plain temperature sampling as the others: the server's default chain cuts more away.
            body |= {"samplers": ["temperature"], "cache_prompt": True, "ignore_eos": True}
            done = self.server.handle_completions(body)
            assert done["usage"]["completion_tokens"] == tokens, done


def serve(route: str, path: Path, draws: int, tokens: int, threads: int, wire: Connection) -> None:
    """One route in a process of its own: for every message received, run once and send the seconds it took.

    Apart, because the thread pools of several routes in one process slow each other's barriers down.
    """
    if route == "serial":
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        serial = Serial(path, threads)
        run = partial(serial.run, wire.recv(), draws, tokens)
    else:
        engine = Engine(path, threads)
        prompt = engine.engine._model.prompts.encode(Request(messages=(Message("user", STORY),)))
        if route == "engine":
            run = partial(engine.run, draws, tokens)
            engine.run(1, 4)
            wire.send((len(prompt), engine.engine._model.speller.spell(prompt)))
        else:
            bare = Bare(engine.engine._model.weights, draws, len(prompt) + tokens, threads)
            run = partial(bare.run, prompt, tokens)
    wire.send("ready")
    while wire.recv():
        started = time.perf_counter()
        run()
        wire.send(time.perf_counter() - started)


def measure(path: Path, draws: int, tokens: int, threads: int, repeats: int) -> tuple[int, dict[str, list[float]]]:
    """Prompt length, and tokens per second of every repeat of every route."""
    context = multiprocessing.get_context("spawn")
    wires: dict[str, Connection] = {}
    prompt_tokens, prompt = 0, ""
    for route in ("engine", "bare", "serial"):
        wires[route], theirs = context.Pipe()
        context.Process(target=serve, args=(route, path, draws, tokens, threads, theirs), daemon=True).start()
        if route == "engine":
            prompt_tokens, prompt = wires[route].recv()
        if route == "serial":
            wires[route].send(prompt)
        assert wires[route].recv() == "ready"
    rates: dict[str, list[float]] = {route: [] for route in ("bare", "engine", "serial")}
    for _ in range(repeats):
        for route, seen in rates.items():
            wires[route].send(True)
            seen.append(draws * tokens / wires[route].recv())
    for wire in wires.values():
        wire.send(False)
    return prompt_tokens, rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=min(8, os.cpu_count() or 1))
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    chosen = parser.parse_args()
    path = chosen.model or default_weights()
    length, rates = measure(path, chosen.draws, chosen.tokens, chosen.threads, chosen.repeats)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    report = {
        "model": path.name,
        "prompt_tokens": length,
        "draws": chosen.draws,
        "tokens": chosen.tokens,
        "threads": chosen.threads,
        "tokens_per_second": {name: [round(v, 1) for v in values] for name, values in rates.items()},
        "median": {name: round(v, 1) for name, v in medians.items()},
        "engine_over_bare": round(medians["engine"] / medians["bare"], 3),
        "engine_over_serial": round(medians["engine"] / medians["serial"], 3),
    }
    if chosen.json:
        print(json.dumps(report))
        return
    print(f"{path.name}: {chosen.draws} draws x {chosen.tokens} tokens, prompt of {length}, {chosen.threads} threads")
    for name, values in rates.items():
        print(f"  {name:<8}{medians[name]:8.1f} tokens/s   ({', '.join(f'{v:.1f}' for v in values)})")
    print(f"  engine / bare {report['engine_over_bare']:.2f}   engine / serial {report['engine_over_serial']:.2f}")


if __name__ == "__main__":
    main()
