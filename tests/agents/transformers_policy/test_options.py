"""Options and specifications; nothing is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from turnwise.agents.transformers_policy import TransformersPolicy
from turnwise.agents.transformers_policy.options import PolicyOptions
from turnwise.errors import ConfigError, UnknownNameError
from turnwise.policy import ScoringPolicy

NOTHING_LOADED = """
import sys
from turnwise.agents.registry import has_policy, make_policy
policy = make_policy(sys.argv[1])
assert has_policy(sys.argv[1])
print(policy.version, [m for m in ("torch", "transformers") if m in sys.modules])
"""

NOT_INSTALLED = """
import asyncio, sys
sys.modules["torch"] = None
from turnwise.agents.transformers_policy import TransformersPolicy
asyncio.run(TransformersPolicy(".").prepare())
"""


def test_a_specification_loads_nothing(tmp_path: Path) -> None:
    spec = f"transformers:{tmp_path}?version=v7"
    done = subprocess.run(
        [sys.executable, "-c", NOTHING_LOADED, spec], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "v7 []"


def test_a_missing_extra_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NOT_INSTALLED], capture_output=True, text=True, check=False, timeout=60
    )
    assert "MissingExtraError" in done.stderr
    assert "pip install 'turnwise[torch]'" in done.stderr


def test_it_is_a_scoring_policy(tmp_path: Path) -> None:
    assert isinstance(TransformersPolicy(str(tmp_path)), ScoringPolicy)


def test_the_canonical_specification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    policy = TransformersPolicy.from_spec("model?top_k=5&temperature=0.70&tokenizer=./model&tools=no&max_tokens=512")
    where = tmp_path / "model"
    assert policy.spec == f"transformers:{where}?temperature=0.7&tokenizer={where}&tools=false&top_k=5"
    again = TransformersPolicy.from_spec(policy.spec.removeprefix("transformers:"))
    assert again.spec == policy.spec
    by_hand = TransformersPolicy(str(where), temperature=0.7, top_k=5, tools=False, tokenizer=str(where))
    assert by_hand.spec == policy.spec


def test_hub_names_stay_as_they_are() -> None:
    assert TransformersPolicy.from_spec("owner/some-model_1.5B").spec == "transformers:owner/some-model_1.5B"


@pytest.mark.parametrize("rest", ["./nowhere", "/nowhere/at/all", "a/b/c", "~/nowhere-at-all", "../x", "owner/..", ""])
def test_neither_folder_nor_hub_name(rest: str) -> None:
    with pytest.raises(ConfigError):
        TransformersPolicy.from_spec(rest)


def test_remote_code_is_not_offered(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no option 'trust_remote_code'"):
        TransformersPolicy.from_spec(f"{tmp_path}?trust_remote_code=true")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 0.001),
        ("temperature", float("nan")),
        ("temperature", True),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("top_k", -1),
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("max_total_tokens", -1),
        ("max_batch", 0),
        ("max_batch_tokens", 0),
        ("cache_tokens", 0),
        ("tools", "yes"),
        ("cache", 1),
        ("stop", None),
        ("device", ""),
        ("version", 3),
    ],
)
def test_ranges(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        PolicyOptions(**{name: value})


def test_number_types_have_names() -> None:
    with pytest.raises(UnknownNameError, match="bfloat16"):
        PolicyOptions(dtype="bfloat")


def test_stops() -> None:
    assert PolicyOptions().stops == ("</tool_call>", "</search>", "</answer>")
    assert PolicyOptions(stop="END,\n\n").stops == ("END", "\n\n")
    assert PolicyOptions(stop="").stops == ()


def test_a_model_object_needs_its_tokenizer() -> None:
    with pytest.raises(ConfigError, match="needs its tokenizer"):
        TransformersPolicy(object())
