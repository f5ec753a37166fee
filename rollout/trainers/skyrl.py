"""Our worlds as environments of SkyRL-Gym, with a reward on every turn.

SkyRL puts what ``step`` returns on the last token of its turn, so turn rewards survive as they are, as far
as they are known in time (the generator's ``step_wise_trajectories``, or an estimator that reads positions
such as GAE or REINFORCE++; its GRPO sums them). With ``custom_chat_template`` it keeps the last step's only.

Known in time is a reward that looks at the past only: it is paid on its turn. Whatever needs the future
(an outcome, a gate, a judge of the whole episode) is paid as one sum with the last step. So the sum of an
episode is always that of the reward tree; and where every reward of the tree looks at the past only, each
step pays exactly the tree's turn reward.

Register the world and write its data set::

    from turnwise.rollout.trainers import skyrl
    skyrl.register()                                       # env_class "turnwise"
    skyrl.write_dataset("train.parquet", env="turnwise/Household-v0", tasks="train")

The options of the world stand in each row, under ``turnwise``; ``environment.skyrl_gym.turnwise`` in
SkyRL's configuration overrides them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from turnwise.errors import ConfigError
from turnwise.protocols import Placement
from turnwise.records import Json, Trajectory
from turnwise.rewards.compose import WeightedReward, score_parts
from turnwise.rollout.trainers.install import trainer_module
from turnwise.rollout.trainers.rows import TOTAL
from turnwise.rollout.trainers.scores import problem_of, scores, world_of
from turnwise.rollout.trainers.stepping import DrivenEpisode, World
from turnwise.rollout.trainers.tables import write_rows

REQUIREMENT = "skyrl-gym>=0.4"
ENV_CLASS = "turnwise"
# Rewards of a turn that no later turn can change.
LOOK_BACK = ("format", "progress", "redundant_search", "repeat_penalty", "turn_cost", "valid_action")
_TURN: Placement = "turn"


def register(name: str = ENV_CLASS) -> None:
    """Make the worlds known to SkyRL-Gym under one name; again does nothing.

    Args:
        name: What rows name as their ``env_class``.

    Raises:
        MissingTrainerError: SkyRL-Gym is not installed.
        ConfigError: The name is another environment's.
    """
    registration = trainer_module("skyrl_gym.envs.registration", REQUIREMENT)
    entry_point = f"{__name__}:TurnwiseEnv"
    known = registration.registry.get(name)
    if known is None:
        registration.register(id=name, entry_point=entry_point)
    elif known.entry_point != entry_point:
        raise ConfigError(f"SkyRL-Gym knows {name!r} as {known.entry_point}: register under another name")


def write_dataset(
    out: str | Path,
    *,
    env: str = "turnwise/Household-v0",
    tasks: str | Sequence[str] | None = None,
    data: str | os.PathLike[str] | None = None,
    rewards: str | Path | Mapping[str, Json] | None = None,
    env_class: str = ENV_CLASS,
    **options: Json,
) -> int:
    """Write the tasks as a data set of SkyRL: one row per task. Hidden labels stay in the world.

    Args:
        out: A ``.parquet`` or ``.jsonl`` file.
        env: Id of a registered environment.
        tasks: ``"SPLIT"``, ``"SPLIT:N"``, ``"SPLIT:A-B"``, a list of task ids, or None for all.
        data: A public data set in its own format; None is the embedded task set.
        rewards: Reward configuration; None is the built-in set.
        env_class: The name given to :func:`register`.
        options: Further options of :class:`~turnwise.rollout.trainers.stepping.World`, such as ``max_turns``.

    Returns:
        The number of rows.

    Raises:
        ConfigError: An option is wrong.
    """
    where = None if data is None else str(Path(data).expanduser().absolute())
    config = str(Path(rewards).expanduser().absolute()) if isinstance(rewards, Path) else rewards
    given: dict[str, Any] = {"env": env, "tasks": tasks, "data": where, "rewards": config, **options}
    chosen = {key: value for key, value in given.items() if value is not None}
    world = world_of(chosen, agent="skyrl")
    # Rows of a list of tasks need its split only, which the world has worked out.
    chosen["tasks"] = str(world.spec.env_options.get("split", "train")) if world.spec.tasks_by_id else tasks
    # As text: a table would fill the gaps of nested options with nulls.
    options_text = json.dumps(chosen)
    episode = DrivenEpisode(world)
    rows = []
    for number, task_id in enumerate(world.tasks):
        observation = episode.begin(task_id)
        rows.append(
            {
                "data_source": env,
                "prompt": _opening(episode.system_prompt, observation),
                "env_class": env_class,
                "reward_spec": {"method": "rule", "ground_truth": ""},
                "extra_info": {"task_id": task_id, "index": number},
                "turnwise": options_text,
            }
        )
    episode.close()
    return write_rows(rows, out)


def _opening(system: str, observation: str) -> list[dict[str, str]]:
    head = [{"role": "system", "content": system}] if system else []
    return [*head, {"role": "user", "content": observation}]


class OnlineRewards:
    """Pays an episode's reward turn by turn, each part as soon as nothing can change it any more."""

    def __init__(self, world: World) -> None:
        """Pay the rewards of a world's tree."""
        self._parts: tuple[WeightedReward, ...] = tuple(
            part
            for part in world.rewards.rewards
            if part.weight != 0.0 and part.use in LOOK_BACK and part.reward.spec.placement == _TURN
        )
        self._paid = 0.0

    def begin(self) -> None:
        """Begin an episode: nothing has been paid."""
        self._paid = 0.0

    def now(self, played: Trajectory) -> float:
        """Return what the last turn of an episode that goes on earns already.

        Args:
            played: The turns so far.
        """
        vectors = score_parts(self._parts, played)
        values = ((part.weight, vectors[part.name][-1].value) for part in self._parts)
        # An invalid value makes the whole episode invalid in the end; until then nothing is paid for it.
        earned = sum(weight * value for weight, value in values if value is not None)
        self._paid += earned
        return earned

    def rest(self, total: float) -> float:
        """Return what the last step pays: the whole less what has been paid."""
        return total - self._paid


def _options(env_config: Any, extras: Mapping[str, Any]) -> tuple[dict[str, Json], float | None]:
    """Return the world's options, and the reward of an episode that has none."""
    chosen = {**_mapping(extras.get("turnwise")), **_mapping(env_config)}
    fallback = chosen.pop("fallback", None)
    if fallback is not None and (isinstance(fallback, bool) or not isinstance(fallback, (int, float))):
        raise ConfigError(f"fallback is a number or None, got {fallback!r}")
    return chosen, None if fallback is None else float(fallback)


def _mapping(value: Any) -> dict[str, Any]:
    """Return a row's JSON or struct, or a mapping of SkyRL's configuration, without what is not set."""
    if value is None:
        return {}
    if isinstance(value, str):
        value = json.loads(value)
    if not hasattr(value, "items"):
        raise ConfigError(f"the world's options are a mapping, got {type(value).__name__}")
    return {str(key): item for key, item in value.items() if item is not None}


def _task_id(extras: Mapping[str, Any]) -> str:
    task_id = extras.get("task_id") or _mapping(extras.get("extra_info")).get("task_id")
    if not isinstance(task_id, str):
        raise ConfigError(
            f"a row names its task under extra_info.task_id, got the columns {sorted(extras)}: use write_dataset()"
        )
    return task_id


def _cap(extras: Mapping[str, Any]) -> int | None:
    """Return SkyRL's own limit on turns (``generator.max_turns``), which it leaves to the environment to keep."""
    cap = extras.get("max_turns")
    if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or cap < 1):
        raise ConfigError(f"max_turns is a whole number of at least 1 or None, got {cap!r}")
    return cap


def _make_class() -> Any:
    base: Any = trainer_module("skyrl_gym.envs.base_text_env", REQUIREMENT)

    class TurnwiseEnv(base.BaseTextEnv):  # type: ignore[misc]
        """A world as SkyRL-Gym takes it; the row names the task.

        An episode that failed or whose reward is invalid has no number that SkyRL could mask: its last
        step raises, unless the option ``fallback`` gives a reward, counted in the metric ``valid``.
        """

        def __init__(self, env_config: Any = None, extras: Mapping[str, Any] | None = None) -> None:
            """Take a row; the world is made once per process."""
            super().__init__()
            row = extras or {}
            options, self._fallback = _options(env_config, row)
            self._world = world_of(options, agent="skyrl")
            self._task = _task_id(row)
            self._cap = _cap(row)
            self._episode = DrivenEpisode(self._world)
            self._online = OnlineRewards(self._world)

        def init(self, prompt: Any) -> tuple[list[dict[str, str]], dict[str, Any]]:
            """Begin the episode; returns its first messages, the row's own system messages kept."""
            observation = self._episode.begin(self._task)
            self.turns = 0
            self._online.begin()
            said = [dict(message) for message in prompt or () if message.get("role") == "system"]
            if said:
                return [*said, {"role": "user", "content": observation}], {"task_id": self._task}
            return _opening(self._episode.system_prompt, observation), {"task_id": self._task}

        def step(self, action: str) -> Any:
            """Play a turn.

            Raises:
                TurnwiseError: The episode has no reward, and there is no fallback.
            """
            if self._episode.over and not self._episode.turns:
                return self._last()  # the world failed to begin
            answer = self._episode.step(action)
            self.turns += 1
            if answer.over or (self._cap is not None and self.turns >= self._cap):
                return self._last()
            return base.BaseTextEnvStepOutput(
                observations=[{"role": "user", "content": answer.observation}],
                reward=self._online.now(self._episode.ungraded()),
                done=False,
                metadata={"turn": self.turns},
            )

        def _last(self) -> Any:
            trajectory = self._episode.trajectory()
            problem = problem_of(trajectory)
            if problem is not None and self._fallback is None:
                raise problem
            total = self._fallback if problem is not None else trajectory.rewards[TOTAL].value
            metadata = {"turn": self.turns, "problem": None if problem is None else str(problem)}
            return base.BaseTextEnvStepOutput(
                observations=[], reward=self._online.rest(float(total or 0.0)), done=True, metadata=metadata
            )

        def trajectory(self) -> Trajectory:
            """Return the episode with its turn rewards; one that is not over counts as truncated."""
            return self._episode.trajectory()

        def get_metrics(self) -> dict[str, float]:
            """Return outcome, progress, turns, validity and the reward's components."""
            return scores(self._episode.trajectory(), self._world.rewards, fallback=self._fallback or 0.0)

        def close(self) -> None:
            """Close the environment."""
            self._episode.close()

    TurnwiseEnv.__module__, TurnwiseEnv.__qualname__ = __name__, "TurnwiseEnv"
    return TurnwiseEnv


def __getattr__(name: str) -> Any:
    """Make ``TurnwiseEnv`` when it is asked for: its base class is SkyRL-Gym's."""
    if name != "TurnwiseEnv":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = globals()["TurnwiseEnv"] = _make_class()
    return made
