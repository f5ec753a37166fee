"""What a supervisor keeps of its episodes, and how those end whose process was killed or died."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from turnwise.records import Ending, Failure
from turnwise.rollout.engine import journal as entries
from turnwise.rollout.engine.episode import failed
from turnwise.rollout.engine.journal import Recording
from turnwise.rollout.engine.processes import describe_exit
from turnwise.rollout.engine.slot_child import GRADE, PLAY, frame
from turnwise.rollout.engine.wire import PHASE_BOUNDARY, PHASE_DOING, Deadlines, EpisodeEnd, Phase, encode

MAX_ACTION_CHARS = 200


@dataclass(kw_only=True)
class Job:
    """One episode on its way through a supervisor.

    Attributes:
        id: The trajectory's id.
        request: The encoded request.
        lost: How often it was lost with a process that was not its own.
        kept: Packed turns and images of an episode that was cut off, for grading.
        end: How it was cut off, or None while it is to be played.
    """

    id: str
    request: bytes
    lost: int = 0
    kept: bytes = b""
    end: EpisodeEnd | None = None

    @property
    def task(self) -> str:
        """The task's id."""
        return self.id.rpartition("#")[0]

    def message(self) -> bytes:
        """Return the job as it goes to a child."""
        if self.end is None:
            return frame(PLAY, self.request)
        packed = entries.pack([(entries.REQUEST, self.request), (entries.END, encode(self.end))])
        return frame(GRADE, packed + self.kept)

    def cut_off(self, ending: Ending, recording: Recording) -> None:
        """Keep what the killed process had recorded; the failure also names the action that was stepped."""
        images = [(entries.IMAGE, image) for image in recording.images]
        self.kept = entries.pack(images + [(entries.TURN, turn) for turn in recording.turns])
        failure, action = ending.failure, recording.pending_action
        if failure is not None and failure.boundary == "env" and action is not None:
            shown = action if len(action) <= MAX_ACTION_CHARS else action[:MAX_ACTION_CHARS] + "..."
            failure = msgspec.structs.replace(failure, message=f"{failure.message} (action {shown!r})")
            ending = msgspec.structs.replace(ending, failure=failure)
        self.end = EpisodeEnd(ending=ending, final_observation=recording.pending_observation)

    def ungraded(self) -> bytes:
        """Return the entries of an episode that was cut off, without rewards."""
        return self.kept if self.end is None else self.kept + entries.pack([(entries.END, encode(self.end))])


def _where(phase: Phase, turn: int) -> str:
    return PHASE_DOING[phase] + (f" at turn {turn}" if turn >= 0 else "")


def hung(deadlines: Deadlines, phase: Phase, turn: int) -> Ending:
    """Return the ending of an episode whose phase passed its deadline."""
    message = f"{_where(phase, turn)} took more than its deadline of {deadlines.of(phase):g} s: its process was killed"
    return failed(PHASE_BOUNDARY[phase], "hang", message, turn if turn >= 0 else None)


def out_of_time(deadlines: Deadlines, phase: Phase, turn: int) -> Ending:
    """Return the ending of an episode that as a whole passed its deadline."""
    message = f"the episode took more than its deadline of {deadlines.episode_s:g} s, during {_where(phase, turn)}"
    failure = Failure(
        boundary=PHASE_BOUNDARY[phase], kind="deadline", message=message, turn=turn if turn >= 0 else None
    )
    return Ending(kind="truncated", cause="time", failure=failure)


def died(status: int, phase: Phase, turn: int) -> Ending:
    """Return the ending of an episode whose process died by itself."""
    message = f"the process {describe_exit(status)} during {_where(phase, turn)}"
    return failed(PHASE_BOUNDARY[phase], "exit", message, turn if turn >= 0 else None)
