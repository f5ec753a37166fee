"""verl: our world in its agent loop, turn rewards on their tokens, and what its estimators make of them.

    pip install verl==0.9.1 TransferQueue uvicorn fastapi cachetools
    python examples/verl_agent_loop.py

The sampler is scripted; output, token rewards and estimators are verl's own. docs/trainers/verl.md has the
configuration of a real run.
"""

from __future__ import annotations

import numpy as np
import torch
from byte_policy import WORLD, play_group, show
from omegaconf import OmegaConf
from verl.trainer.ppo.core_algos import get_adv_estimator_fn

from turnwise.rollout.trainers.rows import make_rows
from turnwise.rollout.trainers.stepping import World
from turnwise.rollout.trainers.verl import estimators  # registers turnwise_grpo, turnwise_dr_grpo, turnwise_rloo
from turnwise.rollout.trainers.verl.loop import to_output


def main() -> None:
    world = World(agent="verl", **WORLD)
    rows = make_rows(play_group(world, world.tasks[0]))
    fields = [to_output(row).as_dict() for row in rows]  # what verl's default trainer stores of each episode
    pad = torch.nn.utils.rnn.pad_sequence
    rewards = pad([one["rm_scores"] for one in fields], batch_first=True)
    mask = pad([one["response_mask"] for one in fields], batch_first=True)
    ends = [end - 1 for _, end in rows[0].turn_spans]
    show("token rewards, at each turn's last token", rewards[0][ends].tolist())
    config = OmegaConf.create({"gamma": 1.0})
    group = np.array(["task"] * len(rows))
    for name in ("grpo", "reinforce_plus_plus", *(f"turnwise_{one}" for one in estimators.ESTIMATORS)):
        found, _ = get_adv_estimator_fn(name)(
            token_level_rewards=rewards, response_mask=mask, index=group, config=config
        )
        show(f"advantages by {name}", found[0][ends].tolist())


if __name__ == "__main__":
    main()
