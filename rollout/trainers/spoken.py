"""Episodes told by text to trainers that add up what the steps return."""

from __future__ import annotations

from dataclasses import dataclass

from turnwise.records import Trajectory
from turnwise.rollout.trainers.scores import problem_of, scores
from turnwise.rollout.trainers.stepping import DrivenEpisode, World


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a message came to.

    Attributes:
        observation: What the agent reads next; "" when the episode is over.
        over: Whether it is.
        gained: By how much each number of :func:`~turnwise.rollout.trainers.scores.scores` grew.
        numbers: These numbers now.
    """

    observation: str
    over: bool
    gained: dict[str, float]
    numbers: dict[str, float]


class SpokenEpisode:
    """An episode of which every message returns by how much the reward tree's verdict grew.

    So the sum is what the tree gives the episode so far, wherever a trainer cuts it. It is no turn reward
    in the tree's own sense: that one is known only when the episode is over.
    """

    def __init__(self, world: World, *, fallback: float | None = None, score_every_turn: bool = True) -> None:
        """Play a world.

        Args:
            world: The world.
            fallback: Reward of an episode that failed, with ``valid`` 0; None raises.
            score_every_turn: Whether the tree is asked after every message. Without, an episode that a
                trainer cuts has earned nothing; with a judge in the tree, every message costs its calls.
        """
        self._world = world
        self._driven = DrivenEpisode(world)
        self._fallback = fallback
        self._score_every_turn = score_every_turn
        self._numbers: dict[str, float] = {}

    @property
    def system_prompt(self) -> str:
        """The world's system prompt."""
        return self._driven.system_prompt

    @property
    def tools(self) -> list[dict[str, object]]:
        """The world's tools."""
        return self._driven.tools

    def begin(self, task_id: str, *, sample: int = 0) -> str:
        """Begin the episode and return the first observation.

        Raises:
            TurnwiseError: There is no such task, or the world could not begin.
        """
        self._numbers = {}
        seen = self._driven.begin(task_id, sample=sample)
        problem = problem_of(self._driven.trajectory()) if self._driven.over else None
        if problem is not None:
            raise problem
        return seen

    def say(self, text: str) -> Told:
        """Play a message.

        Raises:
            TurnwiseError: The episode failed or has no reward, and there is no fallback.
        """
        answer = self._driven.step(text)
        before, self._numbers = self._numbers, self._now(answer.over)
        gained = {name: number - before.get(name, 0.0) for name, number in self._numbers.items()}
        if answer.over:
            self.close()
        observation = "" if answer.over else answer.observation
        return Told(observation=observation, over=answer.over, gained=gained, numbers=self._numbers)

    def _now(self, over: bool) -> dict[str, float]:
        tree = self._world.rewards
        if over:
            return scores(self._driven.trajectory(), tree, fallback=self._fallback)
        partial = self._driven.ungraded()
        graded: Trajectory = tree.attach(partial) if self._score_every_turn else partial
        if problem_of(graded) is None:
            return scores(graded, tree)
        # No verdict yet: nothing is gained by this message.
        return {**scores(graded, tree, fallback=0.0), **self._numbers}

    def close(self) -> None:
        """Close the world."""
        self._driven.close()
