"""Reward configurations: YAML files, presets, and the rewards they name.

The schema is strict: whatever is not understood is an error that names its place in the file.
Import strings run code of the module they name, so a configuration is trusted as a program is.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from turnwise import registry
from turnwise.errors import ConfigError, attribute_to, did_you_mean
from turnwise.protocols import Reward, RewardSpec
from turnwise.records import Json
from turnwise.rewards.compose import Composite, WeightedReward
from turnwise.rewards.options import OptionError, number, show
from turnwise.rewards.validity import is_ours

SCHEMA_VERSION = 1
DEFAULT_PRESET = "default"
_TOP_KEYS = ("version", "description", "rewards")
_REWARD_KEYS = ("name", "use", "weight", "options")
_SUFFIXES = (".yaml", ".yml", ".json")


class PlacedError(ConfigError):
    """Something in a configuration is wrong.

    Attributes:
        place: Where in it, such as ``"rewards[2].options.penalty"``.
    """

    def __init__(self, source: str, place: str, problem: str) -> None:
        super().__init__(f"{source}: {place}: {problem}")
        self.place = place


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice instead of keeping the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


def preset_names() -> tuple[str, ...]:
    """Return the names of the built-in configurations, sorted."""
    folder = resources.files("turnwise.rewards") / "presets"
    return tuple(sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def read_config(config: str | Path | Mapping[str, Json] | None) -> tuple[str, Mapping[str, Json]]:
    """Find and parse a configuration.

    Args:
        config: As in :func:`turnwise.rewards.load_rewards`.

    Returns:
        What to call it in messages, and its content.

    Raises:
        ConfigError: There is no such preset or file, or it is no YAML mapping.
    """
    if config is None:
        config = DEFAULT_PRESET
    if isinstance(config, Mapping):
        return "config", config
    if not isinstance(config, (str, Path)):
        raise ConfigError(
            f"rewards are a preset name, the path of a YAML file or a mapping, got {type(config).__name__}"
        )
    presets = preset_names()
    if isinstance(config, str) and config in presets:
        file = resources.files("turnwise.rewards") / "presets" / f"{config}.yaml"
        source, text = f"preset {config!r}", file.read_text(encoding="utf-8")
    else:
        source, text = _read_file(config, presets)
    return source, _parse(source, text)


def _read_file(config: str | Path, presets: Iterable[str]) -> tuple[str, str]:
    path = Path(config).expanduser()
    looks_like_a_name = isinstance(config, str) and path.suffix not in _SUFFIXES and len(path.parts) == 1
    if looks_like_a_name and not path.exists():
        known = did_you_mean(str(config), presets)
        raise ConfigError(f"no reward preset is named {config!r}.{known} Or give the path of a YAML file")
    try:
        return str(config), path.read_text(encoding="utf-8")
    except FileNotFoundError:
        beside = [p.name for p in path.parent.iterdir() if p.suffix in _SUFFIXES] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, beside) if beside else f" Or use a preset: {', '.join(presets)}."
        raise ConfigError(f"no reward configuration at {str(config)!r}: there is no such file.{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the reward configuration {str(config)!r}: {error}") from error


def _parse(source: str, text: str) -> Mapping[str, Json]:
    try:
        data = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, Mapping):
        raise ConfigError(f"{source}: must be a mapping with 'version' and 'rewards', got {show(data)}")
    return data


def build_rewards(source: str, data: Mapping[str, Json]) -> tuple[WeightedReward, ...]:
    """Make the rewards of a configuration.

    Args:
        source: What to call the configuration in messages.
        data: Its content.

    Raises:
        ConfigError: Something in it is wrong; the message has its place and near misses.
    """
    _check_keys(source, "", data, _TOP_KEYS)
    version = data.get("version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        got = "there is none" if "version" not in data else f"got {show(version)}"
        raise PlacedError(
            source, "version", f"must be {SCHEMA_VERSION}, {got}: put 'version: {SCHEMA_VERSION}' at the top"
        )
    if "rewards" not in data:
        raise ConfigError(f"{source}: needs 'rewards': a list of rewards")
    return _build_list(source, "rewards", data["rewards"])


def _check_keys(source: str, place: str, mapping: Mapping[Any, Any], known: tuple[str, ...]) -> None:
    for key in mapping:
        if key not in known:
            where = f"{place}.{key}" if place else str(key)
            raise PlacedError(source, where, f"unknown key.{did_you_mean(str(key), known)}")


def _build_list(source: str, place: str, entries: object) -> tuple[WeightedReward, ...]:
    if not isinstance(entries, (list, tuple)):
        raise PlacedError(source, place, f"must be a list of rewards, got {show(entries)}")
    if not entries:
        raise PlacedError(source, place, "is empty: name at least one reward")
    return tuple(_build_one(source, f"{place}[{i}]", entry) for i, entry in enumerate(entries))


def _build_one(source: str, place: str, entry: object) -> WeightedReward:
    if isinstance(entry, str):
        raise PlacedError(source, place, f"must be a mapping: write '- name: {entry}'")
    if not isinstance(entry, Mapping):
        raise PlacedError(source, place, f"must be a mapping with 'name', got {show(entry)}")
    _check_keys(source, place, entry, _REWARD_KEYS)
    use = entry.get("use", entry.get("name"))
    for key, value in (("name", entry.get("name", use)), ("use", use)):
        if not isinstance(value, str) or not value:
            raise PlacedError(source, f"{place}.{key}", f"must be the name of a reward, got {show(value)}")
    try:
        weight = number("weight", entry.get("weight", 1.0))
    except OptionError as error:
        raise PlacedError(source, f"{place}.{error.option}", f"{error.problem}") from None
    reward = _build_reward(source, place, use, entry.get("options"), key="use" if "use" in entry else "name")
    # An import string says what a reward is, not what to call it.
    name = "" if ":" in entry.get("name", "") else entry.get("name", "")
    # Our own rewards describe themselves by their options, defaults included; others need not.
    given = None if is_ours(reward) else dict(entry.get("options") or {})
    return WeightedReward(reward, weight, name, use, given)


def _build_reward(source: str, place: str, use: str, options: object, *, key: str) -> Reward:
    try:
        kind = registry.load_entry_point(use) if ":" in use else registry.rewards.load(use)
    except ConfigError as error:
        raise PlacedError(source, f"{place}.{key}", f"{error}") from error
    if not callable(kind):
        raise PlacedError(source, f"{place}.{key}", f"{use!r} is no class but {show(kind)}")
    options = {} if options is None else options
    if not isinstance(options, Mapping):
        raise PlacedError(source, f"{place}.options", f"must be a mapping of option names, got {show(options)}")
    _check_options(source, place, use, kind, options)
    try:
        with attribute_to("config", f"making {use!r}"):
            reward = _make(source, f"{place}.options", kind, options)
    except PlacedError:
        raise
    except OptionError as error:
        raise PlacedError(source, f"{place}.options.{error.option}", error.problem) from None
    except ConfigError as error:
        raise PlacedError(source, f"{place}.options", str(error)) from error
    _check_protocol(source, f"{place}.{key}", use, reward)
    return reward


def _make(source: str, place: str, kind: Any, options: Mapping[str, Json]) -> Reward:
    if isinstance(kind, type) and issubclass(kind, Composite):
        return kind.from_config(options, lambda entries, inside: _build_list(source, f"{place}.{inside}", entries))
    made: Reward = kind(**options)
    return made


def options_of(kind: Any) -> dict[str, inspect.Parameter] | None:
    """Return the options a reward class takes; None if it takes any or does not say."""
    try:
        parameters = inspect.signature(kind).parameters
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return None
    return {name: p for name, p in parameters.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}


def _check_options(source: str, place: str, use: str, kind: Any, options: Mapping[Any, Any]) -> None:
    known = options_of(kind)
    if known is None:
        return
    for key in options:
        if key not in known:
            takes = did_you_mean(str(key), known) if known else " It takes none."
            raise PlacedError(source, f"{place}.options.{key}", f"reward {use!r} has no such option.{takes}")
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in options:
            raise PlacedError(source, f"{place}.options", f"reward {use!r} needs the option {name!r}")


def _check_protocol(source: str, place: str, use: str, reward: object) -> None:
    if not isinstance(reward, Reward):
        missing = [name for name in ("name", "spec", "score", "describe") if not hasattr(reward, name)]
        raise PlacedError(source, place, f"{use!r} is no reward: it lacks {', '.join(missing)}")
    spec = reward.spec
    if not isinstance(spec, RewardSpec) or not spec.low <= spec.high:
        raise PlacedError(source, place, f"{use!r} needs a 'spec' with low <= high, got {show(spec)}")
