"""Episodes in this process: no Ray, no child processes, so a debugger and prints work.

Deadlines and memory limits are not enforced here, as there is no process to kill.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from turnwise.agents.policy_agent import LocalChannel
from turnwise.agents.registry import has_policy, make_policy
from turnwise.policy import Channel
from turnwise.rollout.engine.journal import Recording
from turnwise.rollout.engine.player import Player, load_kit
from turnwise.rollout.engine.wire import EpisodeRequest, WorkerSpec, encode, end_of
from turnwise.rollout.policy.channel import use_channel


def play_here(
    spec: WorkerSpec, requests: Iterable[EpisodeRequest], *, channel: Channel | None = None
) -> Iterator[tuple[EpisodeRequest, Recording]]:
    """Play episodes one after another and yield each with its recording.

    Args:
        spec: What to play.
        requests: The episodes.
        channel: The way to the policy, for agents with a model; None loads the model in this process.

    Raises:
        TurnwiseError: The environment or the agent cannot be made.
    """
    kit = load_kit(spec)
    own = LocalChannel(make_policy(spec.agent)) if channel is None and has_policy(spec.agent) else None
    player = Player(kit, channel=own if channel is None else channel)
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
        use_channel(None)
        if own is not None:
            own.close()
