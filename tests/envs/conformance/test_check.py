"""The check's own interface: what it takes, what it returns, how it reads."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from turnwise.envs.conformance import RULES, Broken, Finding, Report, Rule, Subject, check, rule
from turnwise.errors import ConfigError, UnknownNameError

GOOD = Finding(rule="tasks", title="Tasks load", ok=True, detail="6 tasks", seconds=0.25)
BAD = Finding(rule="close", title="Closes", ok=False, detail="[red]leaves 2 threads[/red]")


def report(*findings: Finding) -> Report:
    return Report(env="acme/Kitchen-v0", episodes=3, seed=7, findings=findings)


def subject_of_nothing() -> Any:
    return None


def test_a_report_is_ok_when_every_finding_is() -> None:
    assert report(GOOD).ok
    assert not report(GOOD, BAD).ok
    assert report(GOOD, BAD).failures() == (BAD,)
    assert report(GOOD, BAD).summary() == "acme/Kitchen-v0: 1 of 2 rules kept; broken: close"


def test_json_holds_everything() -> None:
    tree = json.loads(report(GOOD, BAD).to_json())
    assert (tree["env"], tree["ok"], tree["episodes"], tree["seed"]) == ("acme/Kitchen-v0", False, 3, 7)
    assert tree["findings"][0] == {
        "rule": "tasks",
        "title": "Tasks load",
        "ok": True,
        "detail": "6 tasks",
        "seconds": 0.25,
    }


def test_the_table_shows_details_as_they_are() -> None:
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=200).print(report(GOOD, BAD).table())
    text = out.getvalue()
    assert "[red]leaves 2 threads[/red]" in text
    assert "BROKEN" in text
    assert "0.25" in text


def test_findings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        GOOD.ok = False  # type: ignore[misc]


def test_a_rule_that_crashes_is_a_failed_finding() -> None:
    @rule("boom", "Never crashes", why="It is a rule.")
    def boom(subject: Subject) -> str:
        raise ZeroDivisionError("by\nzero \ud800\x1b[2J")

    finding = boom.apply(subject_of_nothing())
    assert not finding.ok
    assert finding.detail == "crashed with ZeroDivisionError: by zero \\ud800\\x1b[2J"
    json.loads(report(finding).to_json())


def test_a_broken_rule_gives_its_reason_and_a_kept_one_what_it_saw() -> None:
    def picky(subject: Subject) -> str:
        raise Broken("turn 3: no")

    broken = Rule("picky", "title", "why", picky).apply(subject_of_nothing())
    kept = Rule("easy", "title", "why", lambda subject: "all of it").apply(subject_of_nothing())
    assert (broken.ok, broken.detail) == (False, "turn 3: no")
    assert (kept.ok, kept.detail) == (True, "all of it")


def test_details_are_bounded() -> None:
    assert len(Rule("long", "t", "w", lambda subject: "x" * 10_000).apply(subject_of_nothing()).detail) < 1_000


def test_rules_have_ids_titles_and_reasons() -> None:
    assert len({entry.id for entry in RULES}) == len(RULES)
    for entry in RULES:
        assert entry.title
        assert entry.why.endswith(".")


def test_an_unknown_environment_is_the_callers_error() -> None:
    with pytest.raises(UnknownNameError, match="turnwise/Household-v0"):
        check("turnwise/Houshold-v0")


def test_an_unknown_rule_is_the_callers_error() -> None:
    with pytest.raises(UnknownNameError, match="expert-solves"):
        check(subject_of_nothing, rules=["expert-solve"])


@pytest.mark.parametrize("episodes", [0, -1, True, 2.5])
def test_episodes_must_be_a_positive_whole_number(episodes: Any) -> None:
    with pytest.raises(ConfigError, match="episodes"):
        check(subject_of_nothing, episodes=episodes)


def test_something_that_is_no_factory_is_refused() -> None:
    with pytest.raises(ConfigError, match="factory"):
        check(3)  # type: ignore[arg-type]


def test_options_that_the_environment_refuses_are_the_callers_error() -> None:
    def make(**options: Any) -> Any:
        raise ConfigError(f"no such data: {options['data']}")

    with pytest.raises(ConfigError, match="no such data: /nowhere"):
        check(make, data="/nowhere")


def test_a_factory_that_crashes_or_makes_something_else_fails_every_rule() -> None:
    import gymnasium

    def crash(**options: Any) -> Any:
        raise RuntimeError("no kitchen today")

    def other(**options: Any) -> Any:
        return gymnasium.make("CartPole-v1").unwrapped

    crashed, alien = check(crash, episodes=1), check(other, episodes=1)
    assert len(crashed.failures()) == len(alien.failures()) == len(RULES)
    assert all("no kitchen today" in finding.detail for finding in crashed)
    assert all("TurnEnv" in finding.detail for finding in alien)


def test_importing_the_check_loads_neither_rich_nor_psutil() -> None:
    code = "import sys, turnwise.envs.conformance; print(sorted({'rich', 'psutil'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"
