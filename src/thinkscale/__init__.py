"""thinkscale: test-time scaling for language models."""
