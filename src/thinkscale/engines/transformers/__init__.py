"""The `transformers` engine: any causal language model of that library, inside this process. See `engine.py`."""

from thinkscale.engines.transformers.engine import Transformers
from thinkscale.engines.transformers.hooks import Pass

__all__ = ["Pass", "Transformers"]
