"""slime: an episode of ours in its samples, and turn advantages through its hooks.

    python examples/slime_rollout.py PATH      # of a checkout of github.com/THUDM/slime

slime's router is scripted; samples and hooks' arguments are slime's own. docs/trainers/slime.md has the
command line of a real run.
"""

from __future__ import annotations

import asyncio
import sys
from argparse import Namespace
from typing import Any

import torch
from byte_policy import WORLD, ByteChat, sampled, scripts, show, turn_of

from turnwise.rollout.trainers import slime as ours
from turnwise.rollout.trainers.stepping import World


def main(source: str) -> None:
    sys.path.insert(0, source)
    from slime.utils import http_utils
    from slime.utils.types import Sample

    world = World(agent="slime", **WORLD)
    task = world.tasks[0]
    args = Namespace(
        hf_checkpoint="none",
        reward_key=None,
        sglang_router_ip="127.0.0.1",
        sglang_router_port=30000,
        turnwise_world=WORLD,
        turnwise_credit={"estimator": "rloo", "level": "turn"},
    )
    ours._chat = lambda checkpoint: ByteChat()  # in a real run the tokenizer of --hf-checkpoint
    samples = []
    for index, script in enumerate(scripts(world, task)):

        async def post(url: str, body: dict[str, Any], headers: Any = None, script: Any = script) -> dict[str, Any]:
            one = sampled(script[turn_of(body["input_ids"])])
            pairs = [[value, token, None] for value, token in zip(one.logprobs, one.ids, strict=True)]
            return {"meta_info": {"output_token_logprobs": pairs, "finish_reason": {"type": "stop"}}}

        http_utils.post = post
        sample = Sample(label=task, index=index, group_index=0)
        samples.append(asyncio.run(ours.generate(args, sample, {"max_new_tokens": 65536})))
    raw, per_token = ours.post_process_rewards(args, samples)
    data = {"rewards": per_token, "response_lengths": [sample.response_length for sample in samples]}
    data["kl"] = [torch.zeros(length) for length in data["response_lengths"]]
    ours.advantages(args, data)
    for i, sample in enumerate(samples):
        ends = [end - 1 for _, end in sample.metadata["turnwise"]["turn_spans"]]
        show(f"sample {i}: reward {raw[i]:.2f}, advantage of each turn", data["advantages"][i][ends].tolist())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/slime_rollout.py PATH_OF_SLIME_SOURCE")
    main(sys.argv[1])
