"""The `http-reward` engine: reward models behind vLLM, SGLang and servers like them. See `engine.py`."""

from thinkscale.engines.http_reward.engine import HttpReward

__all__ = ["HttpReward"]
