"""The tasks of a world as rows of verl's dataset."""

from __future__ import annotations

from typing import Any

from turnwise.rollout.trainers.stepping import World


def dataset_rows(world: World, *, agent_name: str = "turnwise") -> list[dict[str, Any]]:
    """Return one row per task, to be written with ``pandas`` or ``pyarrow`` as Parquet.

    What the grader knows of a task is not in them: the world looks it up by the task's id.

    Args:
        world: The world.
        agent_name: Name of the agent loop in ``agent_loop_config_path``.
    """
    return [
        {
            "data_source": world.spec.env_id,
            "agent_name": agent_name,
            "prompt": [{"role": "user", "content": world.task(task_id).instruction}],
            "reward_model": {"style": "turnwise", "ground_truth": ""},
            "extra_info": {"task_id": task_id, "index": index},
        }
        for index, task_id in enumerate(world.tasks)
    ]
