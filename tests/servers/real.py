"""A real server in a process of its own: llama.cpp's, as the runtime's package brings it, on the embedded weights."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOADING = 300.0
"""Seconds that loading the weights may take on a busy machine."""


@contextmanager
def real_server(weights: Path, slots: int = 4, context: int = 1024) -> Iterator[str]:
    """Run the server; gives its address without a path. It ends with the context, or with this process.

    Args:
        weights: a GGUF file.
        slots: sequences at once.
        context: tokens per slot.
    """
    command = (sys.executable, __file__, str(weights), str(slots), str(context))
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    # Threads that spin at every barrier slow one another down on a machine that does other things as well.
    environment = {"GOMP_SPINCOUNT": "5000"} | os.environ
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=null, env=environment) as process:
        try:
            yield _address(process)
        finally:
            process.kill()


def _address(process: subprocess.Popen[bytes]) -> str:
    """What the server prints once it listens."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as waiting:
        waiting.register(process.stdout, selectors.EVENT_READ)
        assert waiting.select(LOADING), f"the server did not listen within {LOADING:g} s"
    line = process.stdout.readline().decode().strip()
    assert line, f"the server ended with status {process.wait()} before it listened"
    return line


def serve(weights: str, slots: int, context: int) -> None:
    """Listen until standard input ends."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = weights
    params.n_parallel, params.n_ctx, params.warmup = slots, slots * context, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.endpoint_slots = params.endpoint_metrics = params.endpoint_props = True
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)  # noqa: T201 — how the parent learns it
    sys.stdin.read()
    # The runtime's threads need not be waited for.
    os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
