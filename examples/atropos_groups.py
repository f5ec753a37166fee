"""Atropos: groups with an advantage on every token, through its own trajectory server.

    pip install atroposlib==0.4.0 httpx
    python examples/atropos_groups.py

The server runs in this process. In a real run give ``AtroposSender`` its address, and feed it from a
``Rollout`` whose agent is the trainer's inference server.
"""

from __future__ import annotations

from atroposlib.api.server import app
from byte_policy import WORLD, play_group, show
from fastapi.testclient import TestClient

from turnwise.rewards.credit import GroupCredit
from turnwise.rollout.trainers.atropos import AtroposSender, complete_groups
from turnwise.rollout.trainers.rows import make_rows
from turnwise.rollout.trainers.stepping import World

TRAINER = {
    "wandb_group": "g",
    "wandb_project": "p",
    "batch_size": 2,
    "max_token_len": 65536,
    "checkpoint_dir": "",
    "save_checkpoint_interval": 0,
    "starting_step": 0,
    "num_steps": 1,
}


def main() -> None:
    server = TestClient(app)
    server.post("/register", json=TRAINER)  # the trainer registers ...
    server.get("/batch")  # ... and asks for its first batch, before which no environment is taken
    sender = AtroposSender("", name="household", group_size=2, max_tokens=65536, client=server)
    world = World(agent="atropos", **WORLD)
    credit = GroupCredit(estimator="rloo", level="turn")
    for group in complete_groups(play_group(world, world.tasks[0]), size=2):
        print("episodes sent:", sender.send(make_rows(group, credit=credit)))
    (got,) = server.get("/batch").json()["batch"]
    for i, spans in enumerate(one["turn_spans"] for one in got["overrides"]):
        show(f"episode {i}: advantage of each turn's tokens", [got["advantages"][i][end - 1] for _, end in spans])


if __name__ == "__main__":
    main()
