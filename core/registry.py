"""What there is, by name: worlds and rewards, ours and third parties', as import strings.

Nothing is imported until it is used. Third parties either call :func:`register_env` and
:func:`register_reward`, or declare entry points in the groups ``turnwise.envs`` and
``turnwise.rewards`` (entry point name = id, value = import string of the class).
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import gymnasium

from turnwise.errors import ConfigError, MissingExtraError, unknown_name

if TYPE_CHECKING:
    from turnwise.env import TurnEnv
    from turnwise.protocols import TaskSet

BUILTIN_ENVS = {
    "turnwise/Household-v0": "turnwise.envs.household:HouseholdEnv",
    "turnwise/SearchQA-v0": "turnwise.envs.searchqa:SearchQAEnv",
    "turnwise/WebShop-v0": "turnwise.envs.webshop:WebShopEnv",
    "turnwise/WebShopBrowser-v0": "turnwise.envs.webshop_browser:WebShopBrowserEnv",
}
BUILTIN_REWARDS = {
    "outcome": "turnwise.rewards.outcome:Outcome",
    "outcome_level": "turnwise.rewards.outcome:OutcomeLevel",
    "format": "turnwise.rewards.format:Format",
    "valid_action": "turnwise.rewards.valid_action:ValidAction",
    "progress": "turnwise.rewards.progress:Progress",
    "repeat_penalty": "turnwise.rewards.repeat_penalty:RepeatPenalty",
    "turn_cost": "turnwise.rewards.turn_cost:TurnCost",
    "gated": "turnwise.rewards.gated:Gated",
    "information_gain": "turnwise.rewards.information_gain:InformationGain",
    "citation_rubric": "turnwise.rewards.citation_rubric:CitationRubric",
    "retrieval_recall": "turnwise.rewards.retrieval_recall:RetrievalRecall",
    "redundant_search": "turnwise.rewards.redundant_search:RedundantSearch",
    "search_r2": "turnwise.rewards.useful_search:SearchR2",
    "reseek_judge": "turnwise.rewards.useful_search:ReSeekJudge",
    "shop_milestones": "turnwise.rewards.shopping.milestones:ShopMilestones",
    "shop_purchase": "turnwise.rewards.shopping.purchase:ShopPurchase",
    "shop_efficiency": "turnwise.rewards.shopping.efficiency:ShopEfficiency",
    "shop_gated": "turnwise.rewards.shopping.conditional:ShopGated",
    "shop_r1": "turnwise.rewards.shopping.shop_r1:ShopR1",
    "sum": "turnwise.rewards.compose:WeightedSum",
}
# Modules of our extras, so that a missing one is named together with its install command.
_EXTRAS = {
    "ray": "ray",
    "torch": "torch",
    "transformers": "torch",
    "fastapi": "serve",
    "uvicorn": "serve",
    "playwright": "browser",
    "PIL": "browser",
    "jinja2": "browser",
    "docker": "docker",
    "httpx": "llm",
    "openai": "llm",
    "bm25s": "search",
    "tantivy": "search",
    "spacy": "nouns",
}


_ENV_ID = re.compile(r"([\w:-]+/)?[\w:.-]+-v\d+")


def _warn(message: str) -> None:
    warnings.warn(f"turnwise plugins: {message}", RuntimeWarning, stacklevel=2)


class Registry:
    """Names of one kind of thing, each with the import string of its class."""

    def __init__(self, kind: str, builtin: dict[str, str], group: str) -> None:
        """Create a registry of ``kind`` with ``builtin`` names and an entry point ``group``."""
        self.kind = kind
        self._entries = dict(builtin)
        self._group = group
        self._plugins_read = False

    def _read_plugins(self) -> None:
        if self._plugins_read:
            return
        self._plugins_read = True
        for point in entry_points(group=self._group):
            known = self._entries.setdefault(point.name, point.value)
            if known != point.value:
                # Raising here would let one installed package break every program that imports turnwise.
                _warn(f"{self.kind} {point.name!r} of entry point {point.value!r} is left out: {known!r} has the name")

    def register(self, name: str, entry_point: str) -> None:
        """Add a name. Registering the same import string again is fine, another one is an error.

        Raises:
            ConfigError: The import string is malformed, or the name is taken.
        """
        if entry_point.count(":") != 1:
            raise ConfigError(f"an entry point is 'module:Class', got {entry_point!r} for {self.kind} {name!r}")
        self._read_plugins()
        known = self._entries.setdefault(name, entry_point)
        if known != entry_point:
            raise ConfigError(f"{self.kind} {name!r} is taken by {known}: register yours under another name or version")

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        self._read_plugins()
        return tuple(sorted(self._entries))

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.names())

    def entry_point(self, name: str) -> str:
        """Return the import string behind a name.

        Raises:
            UnknownNameError: Nothing is registered under it; the message lists near misses.
        """
        self._read_plugins()
        try:
            return self._entries[name]
        except KeyError:
            raise unknown_name(self.kind, name, self._entries) from None

    def load(self, name: str) -> Any:
        """Import and return the class behind a name.

        Raises:
            UnknownNameError: Nothing is registered under it.
            MissingExtraError: It needs an optional dependency; the message holds the command.
            ConfigError: The import string points nowhere.
        """
        return load_entry_point(self.entry_point(name))


def load_entry_point(entry_point: str) -> Any:
    """Import ``"module:attribute"``.

    Raises:
        MissingExtraError: The module needs one of our extras.
        ConfigError: The module or the attribute does not exist, or the module cannot be imported.
    """
    module_name, _, attribute = entry_point.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"an entry point is 'module:Class', got {entry_point!r}")
    try:
        module = importlib.import_module(module_name)
    except MissingExtraError:
        raise
    except ImportError as error:
        top = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
        if top in _EXTRAS:
            raise MissingExtraError(top, _EXTRAS[top]) from error
        raise ConfigError(f"cannot import {entry_point!r}: {error}") from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        raise ConfigError(f"module {module_name!r} has no {attribute!r} (entry point {entry_point!r})") from error


envs = Registry("environment", BUILTIN_ENVS, "turnwise.envs")
rewards = Registry("reward", BUILTIN_REWARDS, "turnwise.rewards")


def register_env(env_id: str, entry_point: str) -> None:
    """Register a world for ``gymnasium.make`` and for rollouts.

    Args:
        env_id: Namespaced and versioned id, such as ``"acme/Kitchen-v0"``.
        entry_point: Import string of a :class:`~turnwise.env.TurnEnv` subclass.

    Raises:
        ConfigError: The id is malformed or has no version, or is taken by another class.
    """
    if not _ENV_ID.fullmatch(env_id):
        raise ConfigError(f"an environment id ends in a version, such as 'acme/Kitchen-v0': got {env_id!r}")
    envs.register(env_id, entry_point)
    if env_id not in gymnasium.registry:
        # The passive checker and order enforcement repeat what TurnEnv does itself, at a cost per step.
        gymnasium.register(id=env_id, entry_point=entry_point, order_enforce=False, disable_env_checker=True)


def register_reward(name: str, entry_point: str) -> None:
    """Register a reward under a name for YAML configurations.

    Args:
        name: Lower-case name with underscores.
        entry_point: Import string of a class that keeps the Reward protocol.
    """
    rewards.register(name, entry_point)


def register_all_envs() -> None:
    """Make every known world visible to ``gymnasium.make``; called once by ``import turnwise``."""
    for env_id in envs:
        try:
            register_env(env_id, envs.entry_point(env_id))
        except ConfigError as error:  # of a plugin: it must not break every program that imports turnwise
            _warn(f"left out: {error}")


def env_class(env_id: str) -> type[TurnEnv[Any]]:
    """Return the class of a registered world.

    Raises:
        UnknownNameError: No such world; the message lists near misses.
    """
    loaded: type[TurnEnv[Any]] = envs.load(env_id)
    return loaded


def make_task_set(env_id: str, *, data: str | None = None, split: str = "train") -> TaskSet:
    """Return the tasks of a world's split.

    Args:
        env_id: Registered environment id.
        data: None for the embedded tasks, or a path to a public data set.
        split: Name of the split.

    Raises:
        UnknownNameError: Unknown environment or split.
        ConfigError: The data cannot be read.
    """
    return env_class(env_id).make_task_set(data=data, split=split)
