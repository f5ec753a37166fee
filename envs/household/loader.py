"""Real ALFWorld games as a task set: one game, or a ``json_2.1.1``-style tree of them.

A game is a folder with ``game.tw-pddl``, or with ``initial_state.pddl`` and ``traj_data.json``. In the
second case the instruction is the first of the public templates of its task type, filled in from
``traj_data.json``; for task types without a template it is the first annotator's description.

Listing a tree opens no PDDL: of each ``game.tw-pddl`` only the last few kB are read, where the public
generator notes whether the game can be solved. Everything else happens when a task is asked for, so
one broken file costs its own task only.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

from turnwise.envs.household.gamefile import (
    GAME_FILE,
    PDDL_FILE,
    TRAJECTORY_FILE,
    file_stamp,
    known_unsolvable,
    noted_task_type,
    read_game,
)
from turnwise.envs.household.problem import Problem
from turnwise.envs.household.tasktypes import goal_spec
from turnwise.errors import ConfigError, did_you_mean, unknown_name
from turnwise.records import Task
from turnwise.tasks import SPLIT_ALIASES, canonical_split

SKIPPED = ("movable", "Sliced")

_MAX_DEPTH = 8
_MAX_VERSIONS = 16


class GameFiles:
    """The games found under a path, as a task set; each is read when it is asked for."""

    def __init__(self, root: Path, games: dict[str, Path], *, split: str) -> None:
        """Hold the games.

        Args:
            root: What the user gave.
            games: Task id to the game's file (``game.tw-pddl`` or a ``.pddl``).
            split: Canonical name of the split they stand for.
        """
        self.root = root
        self._games = games
        self._ids = tuple(games)
        self._split = split
        # Per task what was read, with the stamp of its files: a file that changes is read again.
        self._tasks: dict[str, tuple[object, Task]] = {}
        self._latest: tuple[str, Problem] | None = None

    @property
    def split(self) -> str:
        """The split's canonical name."""
        return self._split

    def ids(self) -> Sequence[str]:
        """All task ids, sorted: the folders of the games relative to the path."""
        return self._ids

    def __len__(self) -> int:
        """Number of games."""
        return len(self._ids)

    def get(self, task_id: str) -> Task:
        """Read a game's file and return its task.

        Raises:
            UnknownNameError: No game has this id.
            ConfigError: The game's files cannot be read, or hold no solvable ALFRED game.
        """
        path = self._path(task_id)
        stamp = file_stamp(path)
        known = self._tasks.get(task_id)
        if known is not None and known[0] == stamp:
            return known[1]
        problem, digest = read_game(path)
        spec = goal_spec(problem.goal)
        task = Task(
            id=task_id,
            split=self._split,
            instruction=problem.instruction,
            type=spec.task_type if spec else noted_task_type(path),
            data={"game": path.relative_to(self.root.parent).as_posix(), "digest": digest},
        )
        self._tasks[task_id] = (stamp, task)
        self._latest = (digest, problem)
        return task

    def problem(self, task: Task) -> Problem:
        """Return the game of one of these tasks.

        Raises:
            UnknownNameError: No game has the task's id.
            ConfigError: The game's files cannot be read.
        """
        latest = self._latest
        if latest is not None and latest[0] == task.data.get("digest"):
            self._latest = None
            return latest[1]
        return read_game(self._path(task.id))[0]

    def _path(self, task_id: str) -> Path:
        try:
            return self._games[task_id]
        except KeyError:
            raise unknown_name("task", task_id, self._ids) from None


# -- listing ---------------------------------------------------------------------------------------

# Hundreds of environments over one tree share its listing for as long as one of them lives.
_shared: weakref.WeakValueDictionary[tuple[str, str], GameFiles] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def load_games(data: str | os.PathLike[str], split: str) -> GameFiles:
    """List the games under a path.

    Args:
        data: A game file, a game's folder, or a tree of them. If the tree has folders named like
            splits (``train``, ``valid_seen``, ``valid_unseen``), only those of ``split`` count;
            otherwise all its games stand for any split. Paths with ``movable`` or ``Sliced`` in
            them and games marked unsolvable are left out of a tree, as ALFWorld does.
        split: ``train``, ``val_seen``, ``val_unseen`` or one of their usual aliases.

    Raises:
        UnknownNameError: Nobody calls a split that.
        ConfigError: There are no games; the message says what was looked for.
    """
    name = canonical_split(split)
    root = Path(data).expanduser().absolute()
    with _lock:
        found = _shared.get((str(root), name))
        if found is None:
            found = GameFiles(root, _find_games(root, name), split=name)
            _shared[str(root), name] = found
    return found


def _find_games(root: Path, split: str) -> dict[str, Path]:
    try:
        if root.is_file():
            return {_single_id(root): _game_in_file(root)}
        if not root.is_dir():
            raise ConfigError(f"data path {str(root)!r} does not exist.{_siblings(root)}")
        names = {entry.name for entry in os.scandir(root)}
        game = _game_in_folder(root, names)
        if game is not None:
            return {root.name: game}
        return _find_in_tree(root, split)
    except OSError as error:
        raise ConfigError(f"cannot list {str(root)!r}: {error}. Check the path and its permissions") from error


def _single_id(path: Path) -> str:
    return path.parent.name if path.name in (GAME_FILE, PDDL_FILE) and path.parent.name else path.stem


def _game_in_file(path: Path) -> Path:
    if path.suffix not in (".tw-pddl", ".pddl"):
        raise ConfigError(f"{str(path)!r} is no game: expected a {GAME_FILE}, an {PDDL_FILE}, or a folder with games")
    return path


def _game_in_folder(folder: Path, names: set[str]) -> Path | None:
    """Return the game file of a folder with these entries, or None if it is not a game's folder."""
    if GAME_FILE in names:
        return folder / GAME_FILE
    if PDDL_FILE in names and TRAJECTORY_FILE in names:
        return folder / PDDL_FILE
    return None


def _find_in_tree(root: Path, split: str) -> dict[str, Path]:
    folders = _split_folders(root)
    games: dict[str, Path] = {}
    left_out = 0
    for start in folders.get(split, [] if folders else [root]):
        for path in _walk(start, _MAX_DEPTH):
            task_id = path.parent.relative_to(root).as_posix()
            if any(word in task_id for word in SKIPPED) or known_unsolvable(path):
                left_out += 1
            else:
                games[task_id] = path
    if not games:
        raise ConfigError(_nothing_found(root, split, folders, left_out))
    return dict(sorted(games.items()))


def _split_folders(root: Path) -> dict[str, list[Path]]:
    """Canonical split to its folders, looked for in the tree's root and then one level below."""
    children = sorted(Path(entry.path) for entry in os.scandir(root) if entry.is_dir())
    here = _named_like_splits(children)
    if here:
        return here
    if len(children) > _MAX_VERSIONS:
        return {}
    below = {
        child: _named_like_splits(sorted(Path(e.path) for e in os.scandir(child) if e.is_dir())) for child in children
    }
    versions = [child for child, found in below.items() if found]
    if len(versions) > 1:
        raise ConfigError(f"{str(root)!r} holds several data sets, pass one of them: {[str(v) for v in versions]}")
    return below[versions[0]] if versions else {}


def _named_like_splits(folders: list[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for folder in folders:
        if folder.name in SPLIT_ALIASES:
            found.setdefault(SPLIT_ALIASES[folder.name], []).append(folder)
    return found


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the game files under a folder, following symbolic links that do not lead back up."""
    entries = list(os.scandir(folder))
    game = _game_in_folder(folder, {entry.name for entry in entries})
    if game is not None:
        yield game
    elif depth:
        for entry in entries:
            if entry.is_dir() and not (entry.is_symlink() and _leads_up(folder, entry.path)):
                yield from _walk(folder / entry.name, depth - 1)


def _leads_up(folder: Path, link: str) -> bool:
    here = folder.resolve()
    return Path(link).resolve() in (here, *here.parents)


def _nothing_found(root: Path, split: str, folders: dict[str, list[Path]], left_out: int) -> str:
    if folders and split not in folders:
        return f"{str(root)!r} has no folder for the split {split!r}, only for {sorted(folders)}: pick one of these"
    skipped = f" ({left_out} left out as movable, Sliced or unsolvable)" if left_out else ""
    return (
        f"no games for split {split!r} under {str(root)!r}{skipped}: expected folders with {GAME_FILE}, or with "
        f"{PDDL_FILE} and {TRAJECTORY_FILE} (`alfworld-download` fetches them)"
    )


def _siblings(path: Path) -> str:
    parent = path.parent
    names = [entry.name for entry in os.scandir(parent)] if parent.is_dir() else []
    return did_you_mean(path.name, names) if names else f" Neither does its parent {str(parent)!r}."
