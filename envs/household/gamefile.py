"""One real ALFWorld game on disk: ``game.tw-pddl``, or ``initial_state.pddl`` and ``traj_data.json``."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from turnwise.envs.household.instructions import TEMPLATES
from turnwise.envs.household.pddl import parse_problem
from turnwise.envs.household.problem import Problem, read_dialect, read_instruction
from turnwise.errors import ConfigError

GAME_FILE = "game.tw-pddl"
PDDL_FILE = "initial_state.pddl"
TRAJECTORY_FILE = "traj_data.json"

_MAX_BYTES = 32_000_000
_TAIL_BYTES = 8_192
_UNSOLVABLE = re.compile(rb'"solvable"\s*:\s*false')


def file_stamp(path: Path) -> object:
    """Return what changes when a game's files do.

    Raises:
        ConfigError: They cannot be found.
    """
    try:
        stats = [path.stat()]
        if path.suffix == ".pddl":
            stats.append((path.parent / TRAJECTORY_FILE).stat())
    except OSError as error:
        raise ConfigError(f"cannot read the game {str(path)!r}: {error}") from error
    return tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)


def read_game(path: Path) -> tuple[Problem, str]:
    """Read a game.

    Args:
        path: A ``game.tw-pddl``, or a ``.pddl`` with ``traj_data.json`` beside it.

    Returns:
        The game, and a digest of what it was made from.

    Raises:
        ConfigError: The files cannot be read, or hold no solvable ALFRED game; the message names them.
    """
    try:
        if path.suffix == ".pddl":
            return _read_bare(path)
        raw = _read_bytes(path)
        return _parse_game_file(raw, path), _digest(raw)
    except ConfigError as error:
        raise ConfigError(f"cannot play the game {str(path)!r}: {error}") from error


def _parse_game_file(raw: bytes, path: Path) -> Problem:
    game = _read_json(raw, path)
    for key in ("grammar", "pddl_problem"):
        if not isinstance(game.get(key), str):
            raise ConfigError(f"its key {key!r} is missing or no text: is this a game.tw-pddl of ALFWorld?")
    if game.get("solvable") is False:
        raise ConfigError("it is marked as unsolvable: pick another one")
    grammar = game["grammar"]
    return parse_problem(game["pddl_problem"], instruction=read_instruction(grammar), dialect=read_dialect(grammar))


def _read_bare(path: Path) -> tuple[Problem, str]:
    trajectory_path = path.parent / TRAJECTORY_FILE
    raw, trajectory = _read_bytes(path), _read_bytes(trajectory_path)
    instruction = _instruction(_read_json(trajectory, trajectory_path))
    return parse_problem(_decode(raw, path), instruction=instruction), _digest(raw + b"\0" + instruction.encode())


def _instruction(trajectory: dict[str, Any]) -> str:
    """Word the task of a ``traj_data.json``: the first template of its type, else the first annotation."""
    parameters = trajectory.get("pddl_params")
    templates = TEMPLATES.get(str(trajectory.get("task_type")))
    if templates and isinstance(parameters, dict) and not parameters.get("object_sliced"):
        words = {
            slot: str(parameters.get(key, "")).lower()
            for slot, key in (("o", "object_target"), ("r", "parent_target"), ("l", "toggle_target"))
        }
        return templates[0].format(**words)
    try:
        return str(trajectory["turk_annotations"]["anns"][0]["task_desc"]).strip().rstrip(".")
    except (KeyError, IndexError, TypeError):
        raise ConfigError(
            f"{TRAJECTORY_FILE} words no task: it needs 'task_type' with 'pddl_params', or 'turk_annotations'"
        ) from None


def noted_task_type(path: Path) -> str:
    """Return the task type that a game's ``traj_data.json`` gives, or "" without such a file."""
    trajectory = path.parent / TRAJECTORY_FILE
    if not trajectory.is_file():
        return ""
    return str(_read_json(_read_bytes(trajectory), trajectory).get("task_type", ""))


def _read_bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path.name} is larger than {_MAX_BYTES} bytes: is it a game's file?")
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path.name} cannot be read: {error}") from error


def _decode(raw: bytes, path: Path) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path.name} is no UTF-8 text ({error}): is it damaged?") from error


def _read_json(raw: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_decode(raw, path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ConfigError(f"{path.name} is no valid JSON ({error}): is it cut short? Fetch it again") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path.name} must hold a JSON object, got {type(value).__name__}")
    return value


def _digest(raw: bytes) -> str:
    return hashlib.blake2b(raw, digest_size=16).hexdigest()


def known_unsolvable(path: Path) -> bool:
    """Whether the end of a game file says so. Files that cannot be read are reported when asked for."""
    if path.name != GAME_FILE:
        return False
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            return _UNSOLVABLE.search(file.read()) is not None
    except OSError:
        return False
