"""Search QA with citations: a fictional world of 20,000 documents, or public data sets."""

from turnwise.envs.searchqa.env import SearchQAEnv, SearchState

__all__ = ["SearchQAEnv", "SearchState"]
