"""The `transformers-reward` engine: reward models inside this process. See `engine.py`."""

from thinkscale.engines.transformers_reward.engine import TransformersReward

__all__ = ["TransformersReward"]
