"""Simple MCP Chat with a model on your own computer, in LM Studio.

LM Studio speaks OpenAI's language at an address of its own. So everything in chat.py works
unchanged, and this file only says what is different: where the model lives, what it is called, and
what we print about it.
"""

import os

import requests

from chapters.http_session import direct, reason_in, with_proxy
from chapters.outside import as_dict, as_list, loads, without_secrets
from chat import LLM, Problem, run


def lm_studio_from_env() -> LLM:
    """The model that .env names, or the one that LM Studio has. Raises Problem."""
    url = os.getenv("LMSTUDIO_BASE_URL") or "http://localhost:1234/v1"
    if "://" not in url:
        raise Problem("LMSTUDIO_BASE_URL must be a whole address, like http://localhost:1234/v1.")
    llm = LLM("", "lm-studio", url, "LM Studio MCP Chat", setting="LMSTUDIO_MODEL", connected=(
        f"Connected to LM Studio at {without_secrets(url)}\n"
        "Connected to {servers} MCP server(s) with {tools} total tools\n\n"
        "Note: Make sure you have a model loaded in LM Studio!\n"
        "For best results, use a model that supports function calling."), unreachable=(
        f"Could not connect to LM Studio at {without_secrets(url)}.\n"
        "Open LM Studio, load a model, and start its server (Developer, Start Server)."))
    try:  # it lists its models: {"data": [{"id": "qwen3-8b"}, ...]}
        answer = requests.get(f"{url.rstrip('/')}/models", timeout=5, proxies=direct(url))
        listed = as_dict(loads(answer.content))
    except OSError as error:  # (all that requests raises is one)
        raise Problem(with_proxy(f"{llm.unreachable}{reason_in(error)}", url)) from None
    except ValueError:
        listed = {}  # it's there, and that is all we need to know
    llm.model = os.getenv("LMSTUDIO_MODEL") or only_model(listed)
    return llm


def only_model(listed: dict) -> str:
    """The one model in LM Studio's list that can chat. With several, you have to choose.

    >>> only_model({"data": [{"id": "qwen3-8b"}, {"id": "text-embedding-nomic"}]})
    'qwen3-8b'
    """
    names = [str(model["id"]) for model in map(as_dict, as_list(listed.get("data")))
             if not str(model.get("id", "text-embedding-")).startswith("text-embedding-")]
    if len(names) > 1:
        raise Problem("LM Studio has several models. Choose one, and put it into .env:\n" +
                      "\n".join(f"  LMSTUDIO_MODEL={name}" for name in names))
    return names[0] if names else "local-model"


if __name__ == "__main__":
    run(lm_studio_from_env)
