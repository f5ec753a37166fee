"""Errors: who is blamed, what the message says, and that they survive a trip between processes."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from turnwise.errors import (
    BOUNDARIES,
    ConfigError,
    EnvError,
    EpisodeOverError,
    JudgeError,
    MissingExtraError,
    PolicyError,
    SandboxError,
    TransportError,
    TurnwiseError,
    UnknownNameError,
    attribute_to,
    did_you_mean,
    unknown_name,
)

BY_BOUNDARY = {
    "env": EnvError,
    "sandbox": SandboxError,
    "policy": PolicyError,
    "judge": JudgeError,
    "transport": TransportError,
    "config": ConfigError,
}


def fail(boundary: Any, error: BaseException, doing: str = "") -> None:
    with attribute_to(boundary, doing):
        raise error


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_plain_errors_get_the_boundary_and_keep_their_cause(boundary: Any) -> None:
    cause = KeyError("mug 1")
    with pytest.raises(BY_BOUNDARY[boundary], match=r"KeyError during env.step at turn 3: 'mug 1'") as caught:
        fail(boundary, cause, "env.step at turn 3")
    assert caught.value.__cause__ is cause
    assert caught.value.boundary == boundary
    assert caught.value.kind == "exception"


def test_without_a_doing_the_message_is_the_error() -> None:
    with pytest.raises(EnvError, match=r"^ValueError: bad$"):
        fail("env", ValueError("bad"))


def test_the_innermost_attribution_wins() -> None:
    with pytest.raises(SandboxError), attribute_to("env"), attribute_to("policy"):
        fail("sandbox", OSError("container is gone"))


def test_a_turnwise_error_passes_unchanged() -> None:
    error = JudgeError("no verdict", kind="hang")
    with pytest.raises(JudgeError) as caught:
        fail("env", error)
    assert caught.value is error
    assert caught.value.kind == "hang"


def test_memory_errors_are_told_apart() -> None:
    with pytest.raises(EnvError) as caught:
        fail("env", MemoryError())
    assert caught.value.kind == "memory"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_requests_to_stop_pass_through(error: BaseException) -> None:
    with pytest.raises(type(error)):
        fail("env", error)


def test_nothing_is_raised_where_nothing_fails() -> None:
    with attribute_to("env"):
        pass


def test_bad_input_can_be_caught_as_python_would_call_it() -> None:
    assert issubclass(ConfigError, ValueError)
    assert issubclass(UnknownNameError, KeyError)
    assert issubclass(MissingExtraError, ImportError)
    assert all(issubclass(kind, TurnwiseError) for kind in BY_BOUNDARY.values())


def test_a_missing_extra_names_its_install_command() -> None:
    error = MissingExtraError("ray", "ray")
    assert "'ray'" in str(error)
    assert "pip install 'turnwise[ray]'" in str(error)
    assert error.boundary == "config"


@pytest.mark.parametrize(
    "error",
    [
        EnvError("hung", kind="hang"),
        SandboxError("gone"),
        ConfigError("bad"),
        UnknownNameError("unknown environment"),
        MissingExtraError("torch", "torch"),
        EpisodeOverError("over"),
    ],
)
def test_errors_survive_pickling(error: TurnwiseError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.kind == error.kind
    assert vars(again) == vars(error)


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        (
            "turnwise/houshold-v0",
            ["turnwise/Household-v0", "acme/Kitchen-v0"],
            " Did you mean 'turnwise/Household-v0'?",
        ),
        ("HOUSEHOLD", ["Household"], " Did you mean 'Household'?"),
        ("task1", ["task2", "task3", "task4", "task5"], " Did you mean 'task5' or 'task4' or 'task3'?"),
        ("tran", ["train", "trail", "val"], " Did you mean 'train' or 'trail'?"),
        ("zzz", ["b", "a"], " Known: 'a', 'b'."),
        ("zzz", [], " None are known."),
        ("zzz", [f"n{i:02}" for i in range(20)], "'n11', ..."),
    ],
)
def test_near_misses(name: str, known: list[str], hint: str) -> None:
    assert hint in did_you_mean(name, known)


def test_near_misses_are_limited() -> None:
    assert did_you_mean("task1", [f"task{i}" for i in range(2, 9)], limit=2).count("task") == 2


def test_an_unknown_name_reads_as_a_sentence() -> None:
    assert str(unknown_name("split", "tran", ["train"])) == "unknown split 'tran'. Did you mean 'train'?"
