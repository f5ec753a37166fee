"""The process of one session: an environment that plays what the server is asked to play.

Forked from the zygote like the engine's slots. An episode is one of the engine's too; its agent is the client
at the other end of the socket, and it is recorded in the same journal: what the process does when it is killed,
and the turns up to there, can be read afterwards.
"""

from __future__ import annotations

import inspect
import logging
import socket
from typing import Any

import gymnasium
from gymnasium.utils import seeding

from turnwise.env import TurnEnv
from turnwise.errors import ConfigError, EnvError, TurnwiseError, attribute_to
from turnwise.protocols import AgentMessage, Episode, Info, TaskSet
from turnwise.records import Ending, Task, Trajectory
from turnwise.rollout.engine import contract
from turnwise.rollout.engine.episode import RewardTree, run_episode
from turnwise.rollout.engine.journal import Journal
from turnwise.rollout.engine.player import Kit
from turnwise.rollout.engine.processes import lift_memory_limit
from turnwise.rollout.engine.wire import EpisodeRequest, Phase
from turnwise.rollout.envserver.frames import (
    HEAD,
    About,
    Act,
    Answer,
    Begin,
    Look,
    Problem,
    Question,
    Shown,
    Tasks,
    frame,
    read_question,
)
from turnwise.rollout.envserver.options import CLIENT
from turnwise.rollout.envserver.record import public_record

log = logging.getLogger(__name__)


class Line:
    """The socket to the server: a question comes, an answer goes."""

    def __init__(self, sock: socket.socket) -> None:
        """Talk over ``sock``."""
        self._sock = sock

    def hear(self) -> Question | None:
        """Wait for a question; None when the server hangs up."""
        head = self._sock.recv(HEAD.size, socket.MSG_WAITALL)
        if len(head) < HEAD.size:
            return None
        (size,) = HEAD.unpack(head)
        data = self._sock.recv(size, socket.MSG_WAITALL)
        return None if len(data) < size else read_question(data)

    def say(self, answer: Answer) -> None:
        """Send an answer."""
        self._sock.sendall(frame(answer))


class _AbandonedError(BaseException):
    """The client begins another episode, or is gone; no failure, so nothing on the way may catch it."""

    def __init__(self, question: Begin | None) -> None:
        super().__init__()
        self.question = question


class Watched(gymnasium.Wrapper[Any, str, Any, str]):
    """An environment whose last step can be asked for, and whose exceptions tell nothing of the task.

    Attributes:
        info: The last ``info``.
        reward: The last reward.
        turn: Steps since the last reset.
    """

    def __init__(self, env: gymnasium.Env[Any, str]) -> None:
        """Watch ``env``."""
        super().__init__(env)
        self.info: Info = {}
        self.reward = 0.0
        self.turn = 0

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Reset, and remember."""
        result = self._quietly("reset", lambda: self.env.reset(**options))
        self.info, self.reward, self.turn = result[1], 0.0, 0
        return result  # type: ignore[no-any-return]

    def step(self, action: str) -> Any:
        """Step, and remember."""
        result = self._quietly("step", lambda: self.env.step(action))
        self.info, self.reward, self.turn = result[4], result[1], self.turn + 1
        return result

    def _quietly(self, what: str, call: Any) -> Any:
        """The words of a foreign exception stay here: they may quote what the agent must not know."""
        try:
            return call()
        except TurnwiseError:
            raise
        except SystemExit as error:
            log.warning("env.%s called sys.exit(%r)", what, error.code)
            raise EnvError(f"sys.exit in env.{what}", kind="exit") from error
        except Exception as error:
            kind = "memory" if isinstance(error, MemoryError) else "exception"
            if kind == "memory":
                lift_memory_limit()
            log.warning("env.%s failed", what, exc_info=error)
            message = f"{type(error).__name__} in env.{what}; the server's log says more"
            raise EnvError(message, kind=kind) from error


class Client:
    """The agent of a served episode (keeps the Agent protocol): says what the client sends.

    Until a process serves a client it is only a name, with which a server's options are checked.
    """

    spec = CLIENT
    policy_version: str | None = None

    def __init__(self, host: SessionHost | None = None) -> None:
        """Speak for the client of ``host``."""
        self._host = host

    @classmethod
    def from_spec(cls, rest: str) -> Client:
        """Make it from its name.

        Raises:
            ConfigError: There is something behind the name.
        """
        if rest:
            raise ConfigError(f"the agent {CLIENT!r} takes no options, got {rest!r}")
        return cls()

    def reset(self, episode: Episode) -> None:
        """Nothing is known before the first message."""

    def act(self, observation: Any, info: Info) -> AgentMessage:
        """Tell the client what happened, and wait for its message.

        Raises:
            ConfigError: There is no client: this agent exists in the processes of a server only.
        """
        if self._host is None:
            raise ConfigError(f"the agent {CLIENT!r} exists in 'turnwise serve-env' only")
        return AgentMessage(text=self._host.exchange())


class _Unscored:
    """The rewards of a server without any."""

    def attach(self, trajectory: Trajectory) -> Trajectory:
        return trajectory


class _Seen:
    """The journal as a recorder, with the last observation kept for the answer."""

    def __init__(self, journal: Journal) -> None:
        self.phase = journal.phase
        self.action = journal.action
        self.turn = journal.turn
        self._journal = journal
        self._next_png: bytes | None = None
        self.text = ""
        self.png: bytes | None = None

    def image(self, png: bytes) -> None:
        self._next_png = png
        self._journal.image(png)

    def observation(self, text: str) -> None:
        self.text, self.png, self._next_png = text, self._next_png, None
        self._journal.observation(text)


def run_session(kit: Kit, sock: socket.socket, journal: Journal) -> None:
    """Make the environment, then answer questions until the server hangs up or an episode fails."""
    line = Line(sock)
    journal.phase(Phase.BOOT)
    try:
        host = SessionHost(kit, line, journal)
    except (TurnwiseError, SystemExit) as error:
        lift_memory_limit()
        boundary = error.boundary if isinstance(error, TurnwiseError) else "env"
        line.say(Problem(boundary=boundary, kind="boot", message=str(error), fatal=True))
        return
    line.say(host.about())
    host.serve()
    journal.phase(Phase.CLOSE)
    host.close()


class SessionHost:
    """One environment, its client, and the episode that they play."""

    def __init__(self, kit: Kit, line: Line, journal: Journal) -> None:
        """Make the environment.

        Raises:
            TurnwiseError: It cannot be made.
        """
        self._spec = kit.spec
        self._rewards: RewardTree = _Unscored() if kit.spec.reward_config is None else kit.rewards
        self._line = line
        self._journal = journal
        self._seen = _Seen(journal)
        self._request = EpisodeRequest(id="", task=Task(id="", split="", instruction=""), sample=0, seed=0)
        with attribute_to("env", f"making {kit.spec.env_id}"):
            self._env = Watched(gymnasium.make(kit.spec.env_id, disable_env_checker=True, **kit.spec.env_options))

    def about(self) -> About:
        """Say what the world is."""
        world: Any = self._env.unwrapped
        tasks = self._tasks()
        doc = inspect.getdoc(type(world)) or type(world).__name__
        return About(
            description=" ".join(doc.split("\n\n")[0].split()),
            system_prompt=str(getattr(world, "system_prompt", "")),
            tools=list(getattr(world, "tools", ())),
            split="train" if tasks is None else tasks.split,
            tasks=0 if tasks is None else len(tasks),
        )

    def serve(self) -> None:
        """Answer questions until the server hangs up or an episode fails."""
        question = self._next()
        while question is not None:
            if isinstance(question, Begin):
                question = self._episode(question)
            else:
                self._line.say(self._aside(question))
                question = self._next()

    def close(self) -> None:
        """Close the environment; what it raises is not news."""
        try:
            with attribute_to("env", "close"):
                self._env.close()
        except (TurnwiseError, SystemExit):
            return

    def _next(self) -> Question | None:
        self._journal.phase(Phase.IDLE)
        return self._line.hear()

    # -- an episode --------------------------------------------------------------------------------

    def exchange(self) -> str:
        """Tell the client where the episode stands; return its next message."""
        self._line.say(self._shown(None))
        while True:
            question = self._line.hear()
            if isinstance(question, Act):
                return question.text
            if question is None or isinstance(question, Begin):
                raise _AbandonedError(question)
            self._line.say(self._aside(question))

    def _episode(self, begin: Begin) -> Question | None:
        """Play an episode; return the question after it."""
        try:
            task = self._choose(begin)
        except TurnwiseError as error:
            self._line.say(_problem(error))
            return self._next()
        self._journal.begin()
        self._request = EpisodeRequest(id=f"{task.id}#0", task=task, sample=0, seed=begin.seed)
        try:
            trajectory = run_episode(
                self._spec,
                self._request,
                env=self._env,
                agent=Client(self),
                rewards=self._rewards,
                recorder=self._seen,
            )
        except _AbandonedError as left:
            return left.question
        failure = trajectory.ending.failure
        if trajectory.failed and failure is not None and failure.boundary != "judge":
            # A world may not say that the caller is to blame for what happens in it.
            boundary = "env" if failure.boundary in ("config", "policy") else failure.boundary
            self._line.say(Problem(boundary=boundary, kind=failure.kind, message=failure.message, fatal=True))
            return None
        self._line.say(self._shown(trajectory))
        return self._next()

    def _choose(self, begin: Begin) -> Task:
        """Find the task; what is drawn is what the world itself would draw."""
        tasks = self._tasks()
        if tasks is None:
            if begin.task_id is not None:
                raise ConfigError(f"{self._spec.env_id} has no task set: reset by seed only, without a task id")
            return Task(id=f"seed-{begin.seed}", split="train", instruction="")
        if begin.task_id is not None:
            return tasks.get(begin.task_id)
        ids = tasks.ids()
        return tasks.get(ids[int(seeding.np_random(begin.seed)[0].integers(len(ids)))])

    def _shown(self, trajectory: Trajectory | None) -> Shown:
        """Say where the episode stands, or how it ended."""
        facts = contract.read_info(self._env.info, self._spec.env_id)
        admissible = self._env.info.get("admissible_actions")
        task = self._request.task
        ending = None if trajectory is None else _ending_of_play(trajectory, self._env.info)
        scored = trajectory is not None and self._spec.reward_config is not None
        return Shown(
            task_id=task.id,
            instruction=task.instruction,
            seed=self._request.seed,
            turn=self._env.turn,
            text=self._seen.text,
            png=self._seen.png,
            reward=float(self._env.reward),
            terminated=ending is not None and ending.kind == "terminated",
            truncated=ending is not None and ending.kind == "truncated",
            truncation=None if ending is None else ending.cause,
            action_valid=facts.valid,
            action_error=facts.error,
            progress=facts.progress,
            success=facts.success,
            level=facts.level,
            admissible_actions=None if admissible is None else [str(action) for action in admissible],
            record=public_record(trajectory) if trajectory is not None and scored else None,
        )

    # -- besides -----------------------------------------------------------------------------------

    def _tasks(self) -> TaskSet | None:
        world = self._env.unwrapped
        return world.tasks if isinstance(world, TurnEnv) else None

    def _aside(self, question: Act | Look) -> Answer:
        """Answer what has nothing to do with an episode."""
        if isinstance(question, Act):
            return Problem(boundary="config", kind="over", message="no episode is being played: reset first")
        tasks = self._tasks()
        if tasks is None:
            return Tasks(tasks=[])
        chosen = tasks.ids()[question.start : question.stop]
        if not question.full:
            return Tasks(tasks=[{"id": task_id} for task_id in chosen])
        try:
            with attribute_to("env", "reading tasks"):
                read = [tasks.get(task_id) for task_id in chosen]
        except TurnwiseError as error:
            return _problem(error)
        return Tasks(tasks=[{"id": t.id, "split": t.split, "instruction": t.instruction} for t in read])


def _problem(error: TurnwiseError) -> Problem:
    """Say what is wrong with a question."""
    foreign = error.__cause__ is not None and not isinstance(error.__cause__, TurnwiseError)
    if foreign:
        log.warning("reading a task failed", exc_info=error)
    message = f"{type(error.__cause__).__name__} while a task was read" if foreign else str(error)
    return Problem(boundary=error.boundary, kind=error.kind, message=message)


def _ending_of_play(trajectory: Trajectory, info: Info) -> Ending:
    """Return how the episode itself ended, also where only its rewards failed."""
    if not trajectory.failed:
        return trajectory.ending
    if info.get("truncation") is None:
        return Ending(kind="terminated")
    return Ending(kind="truncated", cause=contract.truncation_cause(info))
