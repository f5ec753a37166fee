"""NeMo-Gym and NeMo-RL: an episode as a rollout result, and a world stepped in batches.

pip install 'turnwise[torch]'              # nemo-gym==0.4.0 checks the result if it is installed
python examples/nemo_results.py
"""

from __future__ import annotations

from typing import Any

from byte_policy import WORLD, play_group, scripts, show

from turnwise.rollout.trainers.nemo import BatchWorld, gym_result, opening_messages
from turnwise.rollout.trainers.stepping import World


def main() -> None:
    world = World(agent="nemo", **WORLD)
    task = world.tasks[0]
    result = gym_result(play_group(world, task)[0])
    print("NeMo-Gym: reward", round(result["reward"], 3), "=", result["reward_components"])
    try:
        from nemo_gym.base_resources_server import BaseVerifyResponse
    except ImportError:
        print("NeMo-Gym is not installed: its models were not asked")
    else:
        print("NeMo-Gym's model accepts:", BaseVerifyResponse.model_validate(result).reward)

    env = BatchWorld(WORLD, components=True)  # NeMo-RL makes it a Ray actor
    script, log = scripts(world, task)[0], opening_messages(world, task)
    metadata: Any = {"task_id": task, "sample": 0}
    for text in script:
        log.append({"role": "assistant", "content": text})
        step = env.step([log], [metadata])
        log.append(step.observations[0])
        metadata = step.metadata[0]
        show(f"NeMo-RL: {text[:30]!r}", [float(column[0]) for column in step.rewards.values()])
    print("over:", bool(step.terminateds[0]), env.global_post_process_and_metrics({})[1])


if __name__ == "__main__":
    main()
