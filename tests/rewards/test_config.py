"""YAML configurations: what they build, and what each mistake says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from turnwise.errors import ConfigError
from turnwise.rewards import Gated, list_rewards, load_rewards, preset_names

Episode = Any

CUSTOM = """
from turnwise.protocols import RewardSpec
from turnwise.records import RewardValue

class Brevity:
    def __init__(self, *, limit: int, strict: bool = False):
        if limit < 1:
            raise ValueError("limit is too small")
        self.name, self.limit, self.strict = "brevity", limit, strict
        self.spec = RewardSpec(low=0.0, high=1.0, placement="turn", source="acme", summary="Short messages.")
    def score(self, trajectory):
        return tuple(RewardValue(value=float(len(t.action_text) <= self.limit)) for t in trajectory.turns)
    def describe(self):
        return {"reward": "brevity", "at most": self.limit}  # not its options

class NoReward:
    name = "half"

class Inverted(Brevity):
    def __init__(self):
        super().__init__(limit=1)
        self.spec = RewardSpec(low=1.0, high=0.0, placement="turn", source="acme", summary="")
"""


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "acme_rules.py").write_text(CUSTOM)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "acme_rules", raising=False)
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "rewards.yaml"
    path.write_text(text)
    return path


def test_a_file_builds_a_tree(tmp_path: Path, episode: Episode) -> None:
    path = write(
        tmp_path,
        """
        version: 1
        description: two formats, one sum
        rewards:
          - name: format
            weight: 0
          - name: strict_format
            use: format
            weight: 0.5
            options: {good: 0, bad: -1}
          - name: manners
            use: sum
            weight: 2
            options:
              rewards:
                - {name: valid_action, weight: 0.1}
                - {name: turn_cost, options: {cost: 0.05}}
        """,
    )
    tree = load_rewards(path)
    assert tree.names == ("format", "strict_format", "manners", "reward")
    attached = tree.attach(episode(2))
    assert attached.rewards["reward"].value == pytest.approx(2 * 2 * (0.1 - 0.05))
    assert attached.rewards["reward"].evidence["parts"] == {"strict_format": 0.0, "manners": pytest.approx(0.2)}
    assert load_rewards(str(path)).describe() == tree.describe()


def test_every_preset_loads_and_the_default_is_the_gated_one() -> None:
    assert preset_names() == ("default", "direct", "gate_negative", "gated")
    assert load_rewards().describe() == load_rewards("default").describe()
    modes = {name: load_rewards(name).rewards[-1].reward for name in preset_names()}
    assert {name: (r.mode, r.gate_negative) for name, r in modes.items() if isinstance(r, Gated)} == {
        "default": ("gated", False),
        "direct": ("direct", False),
        "gate_negative": ("gated", True),
        "gated": ("gated", False),
    }


def test_the_preset_spells_out_what_gated_does_without_options() -> None:
    assert load_rewards("gated").rewards[0].reward.describe() == Gated().describe()


def test_gates_come_from_yaml(episode: Episode) -> None:
    config = {
        "version": 1,
        "rewards": [
            {
                "name": "gated",
                "options": {
                    "priorities": [
                        {
                            "rewards": [{"name": "outcome_level", "options": {"levels": {"lost": -1, "won": 1}}}],
                            "threshold": "lost",
                            "comparison": ">",
                        },
                        {"rewards": [{"name": "valid_action"}], "threshold": 2},
                        {"rewards": [{"name": "format"}, {"name": "turn_cost"}]},
                    ]
                },
            }
        ],
    }
    tree = load_rewards(config)
    won = tree.attach(episode(2, levels=("lost", "won"), level="won"))
    assert won.rewards["gated"].value == pytest.approx(1 + 2 + 2 - 0.02)
    lost = tree.attach(episode(2, levels=("lost", "won"), level="lost"))
    assert lost.rewards["gated"].value == pytest.approx(-1 - 0.02)
    assert [gate["passed"] for gate in lost.rewards["gated"].evidence["gates"]] == [False, True]


def test_third_party_rewards_come_by_import_string(acme: Path, episode: Episode) -> None:
    config = {
        "version": 1,
        "rewards": [
            {"name": "acme_rules:Brevity", "options": {"limit": 3}},
            {"name": "short", "use": "acme_rules:Brevity", "options": {"limit": 100}},
        ],
    }
    tree = load_rewards(config)
    assert tree.names == ("brevity", "short", "reward")
    assert tree.attach(episode(2)).rewards["reward"].value == 2.0
    assert load_rewards(tree.describe()).describe() == tree.describe()


def test_third_party_rewards_come_by_entry_point(acme: Path) -> None:
    info = acme / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[turnwise.rewards]\nbrevity = acme_rules:Brevity\nbroken = nowhere:X\n")
    script = (
        "from turnwise.rewards import load_rewards, list_rewards\n"
        "c = {'version': 1, 'rewards': [{'name': 'brevity', 'options': {'limit': 9}}]}\n"
        "print(load_rewards(c).names)\n"
        "found = {r.name: r for r in list_rewards()}\n"
        "print(found['brevity'].options, found['broken'].error)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(acme)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "('brevity', 'reward')" in done.stdout
    assert "{'limit': 'required', 'strict': 'False'}" in done.stdout
    assert "cannot import 'nowhere:X'" in done.stdout


HEAD = "version: 1\nrewards:\n"
GATED = HEAD + "  - name: gated\n    options:\n      priorities:\n"
BAD = {
    "no version": ("rewards: [{name: format}]", r"version: must be 1, there is none: put 'version: 1'"),
    "other version": ("version: 2\nrewards: [{name: format}]", r"version: must be 1, got 2"),
    "text version": ("version: '1'\nrewards: [{name: format}]", r"version: must be 1, got '1'"),
    "no rewards": ("version: 1", r"needs 'rewards'"),
    "empty rewards": ("version: 1\nrewards: []", r"rewards: is empty"),
    "rewards no list": ("version: 1\nrewards: {format: 1}", r"rewards: must be a list of rewards"),
    "misspelt top key": ("version: 1\nreward: []", r"reward: unknown key\. Did you mean 'rewards'"),
    "bare name": (HEAD + "  - format", r"rewards\[0\]: must be a mapping: write '- name: format'"),
    "misspelt reward": (
        HEAD + "  - name: formt",
        r"rewards\[0\]\.name: unknown reward 'formt'\. Did you mean 'format'",
    ),
    "misspelt use": (HEAD + "  - {name: x, use: gatd}", r"rewards\[0\]\.use: unknown reward 'gatd'.*'gated'"),
    "no name": (HEAD + "  - weight: 1", r"rewards\[0\]\.name: must be the name of a reward, got None"),
    "name is a number": (HEAD + "  - name: 3", r"rewards\[0\]\.name: must be the name of a reward, got 3"),
    "misspelt key": (
        HEAD + "  - {name: format, wieght: 1}",
        r"rewards\[0\]\.wieght: unknown key\. Did you mean 'weight'",
    ),
    "misspelt option": (
        HEAD + "  - name: outcome\n  - name: repeat_penalty\n    options: {penelty: 1}",
        r"rewards\[1\]\.options\.penelty: reward 'repeat_penalty' has no such option\. Did you mean 'penalty'",
    ),
    "option of wrong type": (
        HEAD + "  - {name: turn_cost, options: {cost: cheap}}",
        r"rewards\[0\]\.options\.cost: must be a number, got the text 'cheap'",
    ),
    "number that YAML reads as text": (
        HEAD + "  - {name: format, weight: 1e-3}",
        r"rewards\[0\]\.weight: must be a number, got the text '1e-3': write 0\.001$",
    ),
    "weight not finite": (HEAD + "  - {name: format, weight: .nan}", r"rewards\[0\]\.weight: must be finite, got nan"),
    "weight infinite": (HEAD + "  - {name: format, weight: -.inf}", r"rewards\[0\]\.weight: must be finite, got -inf"),
    "weight is a bool": (HEAD + "  - {name: format, weight: yes}", r"rewards\[0\]\.weight: must be a number, got True"),
    "options no mapping": (HEAD + "  - {name: format, options: [1]}", r"rewards\[0\]\.options: must be a mapping"),
    "duplicate reward": (
        HEAD + "  - name: format\n  - name: format",
        r"rewards\[1\]: the name 'format' is taken by rewards\[0\]: give this one another name .*'use: format'",
    ),
    "reserved name": (HEAD + "  - {name: reward, use: format}", r"rewards\[0\]: the name 'reward' is that of the"),
    "nothing to train on": (HEAD + "  - {name: format, weight: 0}", r"rewards: nothing has a weight other than 0"),
    "key twice": (HEAD + "  - {name: format, weight: 1, weight: 2}", r"the key 'weight' is there twice.*line 3"),
    "no YAML": ("version: 1\nrewards: [", r"not readable as YAML: .*line 2"),
    "object tag": ("version: !!python/object/apply:os.system [ls]", r"not readable as YAML"),
    "no mapping": ("- format", r"must be a mapping with 'version' and 'rewards'"),
    "empty file": ("", r"must be a mapping with 'version' and 'rewards', got None"),
    "unknown module": (HEAD + "  - name: nowhere.at:All", r"rewards\[0\]\.name: cannot import 'nowhere.at:All'"),
    "unknown class": (HEAD + "  - name: acme_rules:Brevty", r"module 'acme_rules' has no 'Brevty'"),
    "no reward class": (
        HEAD + "  - name: acme_rules:NoReward",
        r"rewards\[0\]\.name: 'acme_rules:NoReward' is no reward: it lacks spec, score, describe",
    ),
    "inverted range": (HEAD + "  - name: acme_rules:Inverted", r"needs a 'spec' with low <= high"),
    "missing option": (
        HEAD + "  - name: acme_rules:Brevity",
        r"rewards\[0\]\.options: .* needs the option 'limit'",
    ),
    "constructor raises": (
        HEAD + "  - {name: acme_rules:Brevity, options: {limit: 0}}",
        r"rewards\[0\]\.options: ValueError during making 'acme_rules:Brevity': limit is too small",
    ),
    "priorities no list": (
        HEAD + "  - {name: gated, options: {priorities: 3}}",
        r"rewards\[0\]\.options\.priorities: must be a list, highest priority first, got 3",
    ),
    "misspelt threshold": (
        GATED + "        - {rewards: [{name: outcome}], treshold: 1}",
        r"rewards\[0\]\.options\.priorities\[0\]\.treshold: unknown key\. Did you mean 'threshold'",
    ),
    "mistake inside a gate": (
        GATED + "        - rewards:\n            - {name: format, options: {god: 1}}",
        r"rewards\[0\]\.options\.priorities\[0\]\.rewards\[0\]\.options\.god: .* Did you mean 'good'",
    ),
    "comparison alone": (
        GATED + "        - {rewards: [{name: outcome}], comparison: '>'}",
        r"priorities\[0\]\.comparison: needs a 'threshold' beside it",
    ),
    "unknown comparison": (
        GATED + "        - {rewards: [{name: outcome}], threshold: 1, comparison: '=='}",
        r"priorities\[0\]\.comparison: must be '>=' or '>', got '=='",
    ),
    "unknown level": (
        GATED + "        - {rewards: [{name: outcome_level, options: {levels: {a: 0, bee: 1}}}], threshold: be}",
        r"priorities\[0\]\.threshold: unknown level 'be'\. Did you mean 'bee'",
    ),
    "threshold not finite": (
        GATED + "        - {rewards: [{name: outcome}], threshold: .inf}",
        r"priorities\[0\]\.threshold: must be finite, got inf",
    ),
    "levels that fall": (
        HEAD + "  - {name: outcome_level, options: {levels: {a: 1, b: 0}}}",
        r"rewards\[0\]\.options\.levels: must increase from worst to best, got a=1, b=0",
    ),
    "sum of nothing": (HEAD + "  - {name: sum}", r"rewards\[0\]\.options: reward 'sum' needs the option 'rewards'"),
    "mistake inside a sum": (
        HEAD + "  - {name: sum, options: {rewards: [{name: format}, {name: format}]}}",
        r"rewards\[0\]\.options\.rewards\[1\]: the name 'format' is taken by rewards\[0\]",
    ),
}


@pytest.mark.parametrize("mistake", BAD)
def test_every_mistake_names_its_place_and_its_cure(mistake: str, acme: Path) -> None:
    text, message = BAD[mistake]
    path = write(acme, text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_rewards(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).count(str(path)) == 1


def test_missing_files_and_presets_name_near_misses(tmp_path: Path) -> None:
    write(tmp_path, "version: 1")
    with pytest.raises(ConfigError, match=r"there is no such file\. Did you mean 'rewards.yaml'"):
        load_rewards(tmp_path / "reward.yaml")
    with pytest.raises(ConfigError, match=r"no such file.* Or use a preset: default"):
        load_rewards("no/where.yaml")
    with pytest.raises(ConfigError, match=r"no reward preset is named 'gatd'\. Did you mean 'gated'"):
        load_rewards("gatd")
    with pytest.raises(ConfigError, match="cannot read"):
        load_rewards(tmp_path)
    with pytest.raises(ConfigError, match="got int"):
        load_rewards(3)  # type: ignore[arg-type]


def test_the_list_of_rewards_has_range_placement_source_and_options() -> None:
    infos = {info.name: info for info in list_rewards()}
    assert {"outcome", "outcome_level", "format", "valid_action", "progress"} <= set(infos)
    assert {"repeat_penalty", "turn_cost", "gated", "sum"} <= set(infos)
    for info in infos.values():
        assert info.error is None
        assert info.summary
        assert info.source
        assert info.placement in ("turn", "last_turn")
    assert infos["gated"].source.startswith("G-RA, arXiv 2508.10548")
    assert "secondary" in infos["gated"].source
    assert infos["repeat_penalty"].options == {"penalty": "1.0", "window": "5"}
    assert infos["sum"].to_dict()["low"] is None
    assert infos["progress"].to_dict()["low"] == -1.0
