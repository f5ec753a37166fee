"""A world in SkyRL-Gym, each step paying its turn's reward.

    python examples/skyrl.py

Needs: pip install turnwise 'skyrl-gym>=0.4'
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import skyrl_gym

from turnwise.rollout.trainers import skyrl

REWARDS = {"version": 1, "rewards": [{"name": "progress"}, {"name": "valid_action", "weight": 0.1}]}
SCRIPT = ("look", "I had rather not.", "inventory")


def main() -> list[float]:
    """Play three turns of a household task as SkyRL's generator does, and return what the steps paid."""
    skyrl.register()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "train.parquet"  # what SkyRL's data.train_data points at
        skyrl.write_dataset(data, env="turnwise/Household-v0", tasks="train:1", rewards=REWARDS, max_turns=len(SCRIPT))
        (row,) = pq.read_table(data).to_pylist()
    env = skyrl_gym.make(row["env_class"], env_config={}, extras=row)
    messages, _ = env.init(row["prompt"])
    print(messages[-1]["content"])
    paid = []
    for action in SCRIPT:
        step = env.step(action)
        paid.append(step["reward"])
        print(f"> {action}\n{step['observations'][0]['content'] if step['observations'] else '(over)'}")
        print(f"  reward {step['reward']:g}")
    print("metrics", env.get_metrics())
    env.close()
    return paid


if __name__ == "__main__":
    main()
