"""Nothing heavy is imported before a local model is used."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
import turnwise.agents
from turnwise.agents.likelihood import EndpointLogProbs, TransformersLogProbs
from turnwise.rewards.gain.model import ModelBeliefs
TransformersLogProbs("/nowhere", contexts="plain"), EndpointLogProbs("http://x", model="m")
print([m for m in ("torch", "transformers", "httpx", "turnwise.agents.likelihood.passes") if m in sys.modules])
"""


def test_no_torch_before_it_is_needed() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
