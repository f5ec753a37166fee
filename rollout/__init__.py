"""Running episodes: the engine, the store, and the command line."""

from turnwise.rollout.engine.run import Rollout
from turnwise.rollout.engine.wire import Deadlines
from turnwise.rollout.policy import PolicyPool
from turnwise.rollout.summary import RunSummary

__all__ = ["Deadlines", "PolicyPool", "Rollout", "RunSummary"]
