"""OpenEnv's part of ``env_server.py``, run by a Python that has openenv and need not have turnwise.

python openenv_side.py serve PORT SESSIONS       # an echo environment behind OpenEnv's own server
python openenv_side.py play URL SESSIONS STEPS   # its stock client; prints JSON
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any


def serve(port: int, sessions: int) -> None:
    import uvicorn
    from openenv.core.env_server import Action, Environment, Observation, State, create_fastapi_app

    class Said(Action):
        text: str

    class Heard(Observation):
        text: str = ""

    class Echo(Environment[Said, Heard, State]):
        SUPPORTS_CONCURRENT_SESSIONS = True

        def __init__(self) -> None:
            super().__init__()
            self._state = State()

        def reset(self, seed: int | None = None, episode_id: str | None = None, **_: Any) -> Heard:
            self._state = State(episode_id=episode_id, step_count=0)
            return Heard(text="Say something.")

        def step(self, action: Said, timeout_s: float | None = None, **_: Any) -> Heard:
            self._state.step_count += 1
            return Heard(text=action.text, reward=0.0)

        @property
        def state(self) -> State:
            return self._state

    app = create_fastapi_app(Echo, Said, Heard, max_concurrent_envs=sessions)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


async def play(url: str, sessions: int, steps: int) -> dict[str, Any]:
    from openenv import GenericEnvClient

    begin_s: list[float] = []
    step_s: list[float] = []
    everybody = asyncio.Event()
    ready = 0
    first_step = 0.0

    async def one(number: int) -> None:
        nonlocal ready, first_step
        began = time.perf_counter()
        async with GenericEnvClient(base_url=url) as client:
            await client.reset(seed=number)
            begin_s.append(time.perf_counter() - began)
            ready += 1
            if ready == sessions:
                first_step = time.perf_counter()
                everybody.set()
            await everybody.wait()
            for step in range(steps):
                began = time.perf_counter()
                result = await client.step({"text": "look" if step % 2 else "inventory"})
                step_s.append(time.perf_counter() - began)
                if result.done:
                    await client.reset(seed=number)
        ends.append(time.perf_counter())

    ends: list[float] = []
    await asyncio.gather(*(one(number) for number in range(sessions)))
    wall = max(ends) - first_step
    return {
        "sessions": sessions,
        "steps": len(step_s),
        "steps_per_s": len(step_s) / wall,
        "step_p50_ms": 1e3 * quantile(step_s, 0.5),
        "step_p99_ms": 1e3 * quantile(step_s, 0.99),
        "begin_p50_ms": 1e3 * quantile(begin_s, 0.5),
        "begin_p99_ms": 1e3 * quantile(begin_s, 0.99),
    }


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]), int(sys.argv[3]))
    else:
        print(json.dumps(asyncio.run(play(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))))
