"""Judges: by the rules of a world that knows its facts, or by a language model behind an endpoint."""

from turnwise.rewards.judges.choose import make_judge
from turnwise.rewards.judges.llm import LLMJudge
from turnwise.rewards.judges.rule import RuleJudge

__all__ = ["LLMJudge", "RuleJudge", "make_judge"]
