"""How probable a model finds an answer: log-probabilities from a local model or from an endpoint.

Nothing here imports torch before a local model is used.
"""

from turnwise.agents.likelihood.chat import ChatContexts, RecordedContexts
from turnwise.agents.likelihood.endpoint import EndpointLogProbs
from turnwise.agents.likelihood.local import TransformersLogProbs

__all__ = ["ChatContexts", "EndpointLogProbs", "RecordedContexts", "TransformersLogProbs"]
