"""One real call of LangChain, LiteLLM and lm-eval against a gateway.

python recipes/gateway_clients/clients.py http://127.0.0.1:8080/v1
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from importlib.metadata import version

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # otherwise it asks the internet for prices
os.environ["OPENAI_API_KEY"] = "none"

import litellm
from langchain_openai import ChatOpenAI
from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalChatCompletion

VOTE = "mock+self-consistency(n=5, stop=fixed)"
QUESTION = "What is 40 + 2?"


def langchain(url: str) -> str:
    """Whole, in a stream, and asynchronously."""
    model = ChatOpenAI(model=VOTE, base_url=url, api_key="none", temperature=0.7)
    told = model.invoke(QUESTION)
    assert "answer is" in told.content
    assert told.usage_metadata["output_tokens"] == 25
    assert "answer is" in "".join(chunk.content for chunk in model.stream(QUESTION))
    assert "answer is" in asyncio.run(model.ainvoke(QUESTION)).content
    return f"{told.content.strip()!r}, usage {told.usage_metadata}"


def lite(url: str) -> str:
    """Whole and in a stream."""
    asked = {"model": f"openai/{VOTE}", "messages": [{"role": "user", "content": QUESTION}]}
    told = litellm.completion(**asked, api_base=url, api_key="none")
    assert told.usage.completion_tokens == 25
    stream = litellm.completion(**asked, api_base=url, api_key="none", stream=True)
    assert "answer is" in "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    return f"{told.choices[0].message.content.strip()!r}, {told.usage.completion_tokens} tokens"


def harness(url: str) -> str:
    """The model of `--model local-chat-completions`, asked as its tasks ask."""
    model = LocalChatCompletion(model=VOTE, base_url=f"{url}/chat/completions", num_concurrent=2, max_retries=1)
    settings = {"until": ["\n\n"], "max_gen_toks": 64, "temperature": 0.7}
    turns = [{"role": "user", "content": QUESTION}]
    asked = Instance("generate_until", {}, (model.apply_chat_template(turns), settings), 0)
    [text] = model.generate_until([asked])
    assert "answer is" in text
    return repr(text.strip())


CLIENTS: dict[str, Callable[[str], str]] = {"langchain-openai": langchain, "litellm": lite, "lm_eval": harness}

if __name__ == "__main__":
    for name, ask in CLIENTS.items():
        print(f"{name} {version(name)}: {ask(sys.argv[1])}", flush=True)
