"""turnwise: a gym for LLM agents that act over many turns, with rewards on every turn."""

from turnwise.errors import (
    Boundary,
    ConfigError,
    EnvError,
    JudgeError,
    MissingExtraError,
    PolicyError,
    SandboxError,
    TransportError,
    TurnwiseError,
    attribute_to,
)
from turnwise.records import (
    Action,
    Ending,
    Failure,
    Outcome,
    RewardValue,
    Task,
    TokenSequence,
    Trajectory,
    Turn,
    TurnTokens,
)
from turnwise.registry import make_task_set, register_all_envs, register_env, register_reward

__version__ = "0.1.0"

register_all_envs()

__all__ = [
    "Action",
    "Boundary",
    "ConfigError",
    "Ending",
    "EnvError",
    "Failure",
    "JudgeError",
    "MissingExtraError",
    "Outcome",
    "PolicyError",
    "RewardValue",
    "SandboxError",
    "Task",
    "TokenSequence",
    "Trajectory",
    "TransportError",
    "Turn",
    "TurnTokens",
    "TurnwiseError",
    "__version__",
    "attribute_to",
    "make_task_set",
    "register_env",
    "register_reward",
]
