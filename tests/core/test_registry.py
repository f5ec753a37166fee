"""The registry: names, import strings, plugins by entry point, and what goes wrong with each."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium
import pytest

import turnwise
from turnwise import registry
from turnwise.errors import ConfigError, MissingExtraError, UnknownNameError
from turnwise.registry import Registry, env_class, load_entry_point, make_task_set, register_env, register_reward

KITCHEN = """
from turnwise.actions import ActionGrammar, ActionSpec
from turnwise.env import StepResult, TurnEnv
from turnwise.records import Task
from turnwise.tasks import ListTaskSet


class KitchenEnv(TurnEnv[str]):
    grammar = ActionGrammar((ActionSpec(name="wait", template="wait", description="Wait."),))

    @classmethod
    def make_task_set(cls, *, data=None, split="train"):
        return ListTaskSet([Task(id="egg", split=split, instruction="Boil an egg.")], split=split)

    def _begin(self, task):
        return StepResult(observation="A pan.")

    def _apply(self, action):
        return StepResult(observation="It boils.", reward=1.0, terminated=True, success=True, progress=1.0)


class Tidy:
    name = "tidy"
"""

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a fake distribution with a module and entry points into a folder on ``sys.path``."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made: set[str] = set()

    def make(module: str, *, envs: str = "", rewards: str = "", code: str = KITCHEN) -> Path:
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[turnwise.envs]\n{envs}\n\n[turnwise.rewards]\n{rewards}\n")
        made.add(module)
        return tmp_path

    yield make
    for module in made:
        sys.modules.pop(module, None)


@pytest.fixture
def own() -> Registry:
    return Registry("environment", {"acme/Kitchen-v0": "acme_kitchen:KitchenEnv"}, "turnwise.envs")


def run(path: Path, code: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path.insert(0, {str(path)!r})\n" + textwrap.dedent(code)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


# -- names -----------------------------------------------------------------------------------------


def test_names_are_sorted_and_iterable(own: Registry) -> None:
    own.register("acme/Attic-v0", "acme:Attic")
    assert own.names() == tuple(own) == tuple(sorted(own.names()))
    assert {"acme/Attic-v0", "acme/Kitchen-v0"} <= set(own)


def test_unknown_names_list_near_misses(own: Registry) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown environment 'acme/Kichen-v0'. Did you mean 'acme/Kitchen-v0'"):
        own.entry_point("acme/Kichen-v0")
    with pytest.raises(UnknownNameError, match="Household"):
        env_class("turnwise/Houshold-v0")
    with pytest.raises(UnknownNameError, match="Household"):
        make_task_set("turnwise/household-v0")


def test_the_same_import_string_may_be_registered_twice(own: Registry) -> None:
    own.register("acme/Kitchen-v0", "acme_kitchen:KitchenEnv")
    with pytest.raises(ConfigError, match="is taken by acme_kitchen:KitchenEnv"):
        own.register("acme/Kitchen-v0", "other:KitchenEnv")
    assert own.entry_point("acme/Kitchen-v0") == "acme_kitchen:KitchenEnv"


@pytest.mark.parametrize("entry_point", ["acme.kitchen", "acme:kitchen:KitchenEnv", ""])
def test_malformed_import_strings_are_refused(own: Registry, entry_point: str) -> None:
    with pytest.raises(ConfigError, match="'module:Class'"):
        own.register("acme/Other-v0", entry_point)
    assert "acme/Other-v0" not in own.names()


def test_builtin_worlds_are_known_to_gymnasium() -> None:
    assert "turnwise/Household-v0" in gymnasium.registry
    assert "turnwise/Household-v0" in registry.envs.names()


# -- loading ---------------------------------------------------------------------------------------


def test_loading_imports_the_class() -> None:
    assert load_entry_point("turnwise.records:Task") is turnwise.Task


@pytest.mark.parametrize(
    ("entry_point", "why"),
    [
        ("no_such_module_anywhere:X", "cannot import 'no_such_module_anywhere:X'"),
        ("turnwise.records:NoSuchRecord", "has no 'NoSuchRecord'"),
        ("turnwise.records:", "'module:Class'"),
        (":Task", "'module:Class'"),
        ("turnwise.records", "'module:Class'"),
    ],
)
def test_import_strings_that_point_nowhere(entry_point: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        load_entry_point(entry_point)


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("ray", "ray"),
        ("torch.nn", "torch"),
        ("transformers", "torch"),
        ("playwright.sync_api", "browser"),
        ("docker", "docker"),
        ("fastapi", "serve"),
    ],
)
def test_a_missing_extra_names_its_install_command(install: Install, module: str, extra: str) -> None:
    install("needs_extra", code=f"raise ModuleNotFoundError('No module named {module}', name={module!r})")
    with pytest.raises(MissingExtraError) as caught:
        load_entry_point("needs_extra:Thing")
    assert f"pip install 'turnwise[{extra}]'" in str(caught.value)


def test_a_missing_module_that_is_no_extra_is_named(install: Install) -> None:
    install("needs_other", code="import surely_not_installed_module")
    with pytest.raises(ConfigError, match="surely_not_installed_module") as caught:
        load_entry_point("needs_other:Thing")
    assert not isinstance(caught.value, MissingExtraError)


def test_an_import_that_fails_otherwise_is_a_clear_error(install: Install) -> None:
    install("wrong_version", code="from turnwise.records import Tsak")
    with pytest.raises(ConfigError, match=r"cannot import 'wrong_version:Thing'.*Tsak"):
        load_entry_point("wrong_version:Thing")


def test_an_extra_named_by_the_module_itself_passes(install: Install) -> None:
    install("says_itself", code="from turnwise.errors import MissingExtraError\nraise MissingExtraError('ray', 'ray')")
    with pytest.raises(MissingExtraError, match="turnwise\\[ray\\]"):
        load_entry_point("says_itself:Thing")


# -- registering -----------------------------------------------------------------------------------


@pytest.fixture
def forget_kitchens() -> Iterator[None]:
    yield
    for env_id in [name for name in gymnasium.registry if name.startswith("acme/")]:
        del gymnasium.registry[env_id]
    for table in (registry.envs, registry.rewards):
        for name in [name for name in table.names() if "acme" in name]:
            del table._entries[name]


@pytest.mark.usefixtures("forget_kitchens")
def test_a_registered_world_is_made_by_gymnasium(install: Install) -> None:
    install("acme_registered")
    register_env("acme/Registered-v3", "acme_registered:KitchenEnv")
    register_env("acme/Registered-v3", "acme_registered:KitchenEnv")
    env = gymnasium.make("acme/Registered-v3", max_turns=4)
    observation, info = env.reset(seed=0, options={"task_id": "egg"})
    assert (observation, info["task_id"]) == ("A pan.", "egg")
    assert env.unwrapped is env, "no wrapper repeats what TurnEnv does itself"
    assert env_class("acme/Registered-v3").__name__ == "KitchenEnv"
    assert make_task_set("acme/Registered-v3", split="val").ids() == ("egg",)


@pytest.mark.usefixtures("forget_kitchens")
@pytest.mark.parametrize("env_id", ["acme/Kitchen", "acme/Kitchen-v", "acme/Kitchen-vx", "", "a/b/c-v0", "a b-v0"])
def test_ids_without_a_version_are_refused(env_id: str) -> None:
    with pytest.raises(ConfigError, match="ends in a version"):
        register_env(env_id, "acme_kitchen:KitchenEnv")
    assert env_id not in registry.envs.names()


@pytest.mark.usefixtures("forget_kitchens")
def test_rewards_are_registered_by_name(install: Install) -> None:
    install("acme_rewards")
    register_reward("acme_tidy", "acme_rewards:Tidy")
    assert registry.rewards.load("acme_tidy").name == "tidy"


# -- plugins ---------------------------------------------------------------------------------------


def test_entry_points_add_names(install: Install) -> None:
    install("acme_plugin", envs="acme/Plugin-v0 = acme_plugin:KitchenEnv", rewards="tidy = acme_plugin:Tidy")
    assert Registry("environment", {}, "turnwise.envs").load("acme/Plugin-v0").__name__ == "KitchenEnv"
    assert Registry("reward", {}, "turnwise.rewards").load("tidy").name == "tidy"
    assert Registry("reward", {}, "turnwise.rewards").names() == ("tidy",)


def test_a_plugin_cannot_take_a_builtin_name(install: Install) -> None:
    install("acme_thief", envs="turnwise/House-v0 = acme_thief:KitchenEnv")
    own = Registry("environment", {"turnwise/House-v0": "turnwise.records:Task"}, "turnwise.envs")
    with pytest.warns(
        RuntimeWarning, match=r"acme_thief:KitchenEnv.*is left out: 'turnwise.records:Task' has the name"
    ):
        assert own.entry_point("turnwise/House-v0") == "turnwise.records:Task"


def test_a_name_of_a_plugin_cannot_be_registered_again(install: Install) -> None:
    install("acme_first", envs="acme/First-v0 = acme_first:KitchenEnv")
    with pytest.raises(ConfigError, match="is taken by acme_first:KitchenEnv"):
        Registry("environment", {}, "turnwise.envs").register("acme/First-v0", "acme_second:KitchenEnv")


def test_plugins_are_looked_up_once(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(registry, "entry_points", lambda group: looked.append(group) or ())
    own = Registry("environment", {}, "turnwise.envs")
    assert own.names() == own.names() == ()
    assert looked == ["turnwise.envs"]


def test_an_installed_world_needs_no_user_code(install: Install) -> None:
    path = install("acme_far", envs="acme/Far-v0 = acme_far:KitchenEnv")
    done = run(
        path,
        """
        import gymnasium, turnwise, sys
        assert "acme_far" not in sys.modules, "plugins are imported when used"
        env = gymnasium.make("acme/Far-v0")
        print(env.reset(seed=0)[0])
        """,
    )
    assert done.stdout.strip() == "A pan.", done.stderr


def test_a_broken_plugin_does_not_break_the_import(install: Install) -> None:
    path = install("acme_bad", envs="acme/NoVersion = acme_bad:KitchenEnv\nacme/NoClass-v0 = acme_bad")
    done = run(
        path,
        """
        import gymnasium, turnwise
        from turnwise.registry import envs
        print("turnwise/Household-v0" in gymnasium.registry, "acme/NoVersion" in gymnasium.registry)
        try:
            envs.load("acme/NoClass-v0")
        except turnwise.ConfigError as error:
            print(error)
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True False", "an entry point is 'module:Class', got 'acme_bad'"]
    assert "acme/NoVersion" in done.stderr
    assert "acme_bad" in done.stderr
