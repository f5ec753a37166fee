"""Playing recorded messages again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from turnwise.errors import ConfigError, PolicyError, unknown_name
from turnwise.protocols import AgentMessage, Episode, Info
from turnwise.records import from_json

# Reads a recording by its path: trajectory id to the agent's messages. Run directories are read by
# turnwise.rollout, which this package does not import, so it hands in its own reader.
ReadActions = Callable[[str], Mapping[str, Sequence[str]]]


class ReplayAgent:
    """Sends recorded messages in their order: the same for each episode, or by trajectory id."""

    policy_version: str | None = None

    def __init__(self, actions: Sequence[str] | Mapping[str, Sequence[str]], *, spec: str = "replay") -> None:
        """Replay messages.

        Args:
            actions: The messages of every episode; or, by trajectory id (``"<task id>#<sample>"``),
                those of each.
            spec: What to call the agent in the records.

        Raises:
            ConfigError: ``actions`` is neither.
        """
        if isinstance(actions, (str, bytes)) or not isinstance(actions, (Mapping, Sequence)):
            raise ConfigError(f"actions is a list of messages or a mapping of ids to them, got {actions!r:.80}")
        self.spec = spec
        self._actions = actions
        self._pending: Iterator[str] = iter(())
        self._played = 0

    @classmethod
    def from_spec(cls, rest: str, read_actions: ReadActions) -> ReplayAgent:
        """Make it from ``replay:RUN[#TRAJECTORY ID]``.

        Without an id each episode replays the trajectory of its own task and sample; with one,
        every episode replays that trajectory.

        Raises:
            ConfigError: There is no recording, or it lacks the trajectory.
        """
        path, _, trajectory_id = rest.partition("#")
        if not path:
            raise ConfigError("write replay:RUN or replay:RUN#TRAJECTORY_ID, with the path of a stored run")
        actions = read_actions(path)
        if not trajectory_id:
            return cls(actions, spec=f"replay:{rest}")
        if trajectory_id not in actions:
            raise unknown_name(f"trajectory of {path}", trajectory_id, actions)
        return cls(actions[trajectory_id], spec=f"replay:{rest}")

    def reset(self, episode: Episode) -> None:
        """Go to the beginning of the episode's recording.

        Raises:
            PolicyError: There is no recording of this episode.
        """
        self._played = 0
        if not isinstance(self._actions, Mapping):
            self._pending = iter(self._actions)
            return
        trajectory_id = f"{episode.task.id}#{episode.sample}"
        if trajectory_id not in self._actions:
            raise PolicyError(str(unknown_name("recording", trajectory_id, self._actions)))
        self._pending = iter(self._actions[trajectory_id])

    def act(self, observation: Any, info: Info) -> AgentMessage:
        """Return the next recorded message.

        Raises:
            PolicyError: The recording is over, but the episode is not.
        """
        message = next(self._pending, None)
        if message is None:
            raise PolicyError(f"the recording ends after {self._played} messages, but the episode goes on")
        self._played += 1
        return AgentMessage(text=message)


def actions_from_jsonl(path: str) -> dict[str, tuple[str, ...]]:
    """Read recorded messages from a JSONL file of trajectories, as ``turnwise export`` writes it.

    Raises:
        ConfigError: It is no such file.
    """
    source = Path(path)
    if not source.is_file():
        raise ConfigError(
            f"no JSONL file of trajectories at {path}: export a run with 'turnwise export RUN --jsonl FILE'"
        )
    actions = {}
    with source.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    trajectory = from_json(line)
                except ConfigError as error:
                    raise ConfigError(f"line {number} of {path}: {error}") from error
                actions[trajectory.id] = tuple(turn.action_text for turn in trajectory.turns)
    return actions
