"""Our worlds need no adapter for Gymnasium: one at a time, and several side by side.

    python examples/gymnasium_vector.py

Actions and observations are text. ``SyncVectorEnv`` steps in this process, ``AsyncVectorEnv`` in one
process per environment. Needs: pip install turnwise
"""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

import turnwise  # noqa: F401 - makes the worlds known to gymnasium.make

ENV_ID = "turnwise/Household-v0"


def play_one(actions: list[str]) -> float:
    """Play plain Gymnasium, and return the sum of the world's own rewards."""
    env = gymnasium.make(ENV_ID, max_turns=len(actions))
    observation, info = env.reset(seed=7)
    total = 0.0
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        total += float(reward)
        if terminated or truncated:
            break
    print(f"{info['task_id']}: {observation!r}")
    env.close()
    return total


def play_side_by_side(kind: type[SyncVectorEnv] | type[AsyncVectorEnv], count: int = 3, turns: int = 4) -> Any:
    """Play ``count`` environments side by side, and return what each saw on each turn."""
    # Shared memory holds numbers only; text goes through pipes.
    options: dict[str, Any] = {"shared_memory": False} if kind is AsyncVectorEnv else {}
    envs = kind(
        [lambda: gymnasium.make(ENV_ID, max_turns=10)] * count, autoreset_mode=AutoresetMode.NEXT_STEP, **options
    )
    observations, infos = envs.reset(seed=[1, 2, 3][:count])
    seen = [tuple(observations)]
    for turn in range(turns):
        actions = tuple("look" if turn % 2 == 0 else "inventory" for _ in range(count))
        observations, _, _, _, infos = envs.step(actions)
        seen.append(tuple(observations))
    print(f"{kind.__name__}: {count} environments, {turns} turns, tasks {list(infos['task_id'])}")
    envs.close()
    return seen


def main() -> None:
    """Show all three."""
    play_one(["look", "inventory"])
    if play_side_by_side(SyncVectorEnv) != play_side_by_side(AsyncVectorEnv):
        raise SystemExit("the two vector environments played different episodes")


if __name__ == "__main__":
    main()
