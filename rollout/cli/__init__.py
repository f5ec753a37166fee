"""The command line: ``turnwise ...``."""

from turnwise.rollout.cli.app import app, main

__all__ = ["app", "main"]
