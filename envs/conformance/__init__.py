"""``turnwise check``: whether an environment keeps the contract that every world is held to."""

from turnwise.envs.conformance.check import RULES, check
from turnwise.envs.conformance.report import Finding, Report
from turnwise.envs.conformance.rule import Broken, Rule, rule
from turnwise.envs.conformance.subject import Subject

__all__ = ["RULES", "Broken", "Finding", "Report", "Rule", "Subject", "check", "rule"]
