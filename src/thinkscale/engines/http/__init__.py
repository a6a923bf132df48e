"""Servers that speak OpenAI's languages. Nothing outside imports more than `Http`, and nothing here knows methods."""

from thinkscale.engines.http.engine import Http as Http

__all__ = ["Http"]
