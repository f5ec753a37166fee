"""Episodes in this process: no Ray, no child processes, so a debugger and prints work.

Deadlines and memory limits are not enforced here, as there is no process to kill.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from turnwise.rollout.engine.journal import Recording
from turnwise.rollout.engine.player import Player, load_kit
from turnwise.rollout.engine.wire import EpisodeRequest, WorkerSpec, encode, end_of


def play_here(spec: WorkerSpec, requests: Iterable[EpisodeRequest]) -> Iterator[tuple[EpisodeRequest, Recording]]:
    """Play episodes one after another and yield each with its recording.

    Raises:
        TurnwiseError: The environment or the agent cannot be made.
    """
    player = Player(load_kit(spec))
    try:
        for request in requests:
            recording = Recording()
            trajectory = player.play(request, recording)
            recording.end = encode(end_of(trajectory))
            if trajectory.failed:
                player.close()  # as in a worker, where a failure costs the process
            yield request, recording
    finally:
        player.close()
