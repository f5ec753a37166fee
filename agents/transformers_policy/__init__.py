"""A Hugging Face causal language model as a policy: tokens in, tokens out, many episodes in one batch.

Nothing here imports torch or transformers before the model is loaded.
"""

from turnwise.agents.transformers_policy.policy import TransformersPolicy

__all__ = ["TransformersPolicy"]
