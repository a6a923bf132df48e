"""The gateway: an OpenAI-compatible server that puts every method behind the API that clients already speak."""
