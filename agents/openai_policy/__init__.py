"""An agent behind an OpenAI-compatible chat endpoint: vLLM, SGLang, llama.cpp, ``transformers serve``, hosted ones.

The library ``openai`` is imported when the first request is sent, not before.
"""

from turnwise.agents.openai_policy.policy import OpenAIPolicy

__all__ = ["OpenAIPolicy"]
