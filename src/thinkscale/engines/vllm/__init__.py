"""The engine for graphics processors: `Vllm` runs a model by vLLM inside this process. See `engine.py`."""

from thinkscale.engines.vllm.engine import Vllm

__all__ = ["Vllm"]
