"""The reward oracle: a reward tree behind one interface, in process, over HTTP, and in each trainer's dialect."""

from turnwise.rollout.oracle.client import AsyncOracleClient, OracleClient
from turnwise.rollout.oracle.schema import (
    CreditSpec,
    GivenOutcome,
    Item,
    ItemResult,
    Message,
    ScoreReply,
    ScoreRequest,
    Tokens,
    TurnFacts,
    json_schema,
)
from turnwise.rollout.oracle.scorer import Oracle

__all__ = [
    "AsyncOracleClient",
    "CreditSpec",
    "GivenOutcome",
    "Item",
    "ItemResult",
    "Message",
    "Oracle",
    "OracleClient",
    "ScoreReply",
    "ScoreRequest",
    "Tokens",
    "TurnFacts",
    "json_schema",
]
