"""The scenes in use: a bounded memory that all environments of a process share."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from turnwise.envs.household.problem import Problem
from turnwise.envs.household.scene import Scene


class SceneCache:
    """Scenes by a key of their content; the least recently used ones are forgotten."""

    def __init__(self, max_scenes: int) -> None:
        """Remember at most ``max_scenes``. Games keep their own scene alive, whatever is forgotten."""
        self.max_scenes = max_scenes
        self._scenes: OrderedDict[str, Scene] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str, build: Callable[[], Problem]) -> Scene:
        """Return the scene of a key, building it from its problem when it is not remembered.

        Args:
            key: Stands for the whole content of the problem, such as a digest.
            build: Returns the problem; called at most once.

        Raises:
            ConfigError: The problem cannot be read, or is no ALFRED game.
        """
        with self._lock:
            scene = self._scenes.get(key)
            if scene is not None:
                self._scenes.move_to_end(key)
                return scene
        scene = Scene(build())
        with self._lock:
            scene = self._scenes.setdefault(key, scene)
            self._scenes.move_to_end(key)
            while len(self._scenes) > self.max_scenes:
                self._scenes.popitem(last=False)
        return scene

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._scenes.clear()

    def __len__(self) -> int:
        """Number of scenes remembered."""
        return len(self._scenes)


SCENES = SceneCache(max_scenes=256)
