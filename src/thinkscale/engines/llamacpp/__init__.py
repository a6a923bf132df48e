"""The embedded engine: `LlamaCpp` runs a GGUF model inside this process. See `engine.py`."""

from thinkscale.engines.llamacpp.engine import LlamaCpp

__all__ = ["LlamaCpp"]
