"""Times the real WebShop, for the interpreter that has it; run by ``webshop.py`` inside WebShop's repository.

A scripted shopper plays ten sessions on the data of that installation: it searches for the instruction, opens the first
product, looks at a sub-page, chooses one option and buys. Prints one JSON line; knows nothing of turnwise.

    python webshop_player.py text_rich
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
from typing import Any

SESSIONS = 10
WARM_UP = 2
BUTTONS = {
    "back to search",
    "next >",
    "< prev",
    "description",
    "features",
    "reviews",
    "attributes",
    "buy now",
    "search",
}


def plan(env: Any, session: int, times: list[float]) -> None:
    """Play one session; notes the seconds of each step."""

    def step(action: str) -> None:
        begin = time.perf_counter()
        env.step(action)
        times.append(time.perf_counter() - begin)

    step(f"search[{env.get_instruction_text()}]")
    products = [name for name in clickables(env) if name not in BUTTONS]
    if not products:
        return
    step(f"click[{products[0]}]")
    step("click[description]")
    step("click[< prev]")
    options = [name for name in clickables(env) if name not in BUTTONS]
    if options:
        step(f"click[{options[session % len(options)]}]")
    step("click[buy now]")


def clickables(env: Any) -> list[str]:
    found: list[str] = env.get_available_actions()["clickables"]
    return found


def main() -> None:
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # the libraries print
        begin = time.perf_counter()
        sys.path.insert(0, ".")
        from web_agent_site.envs import WebAgentTextEnv

        env = WebAgentTextEnv(observation_mode=sys.argv[1])
        start_s = time.perf_counter() - begin
        resets: list[float] = []
        times: list[float] = []
        for session in range(SESSIONS + WARM_UP):
            if session == WARM_UP:
                resets, times = [], []
            begin = time.perf_counter()
            env.reset(session=session)
            resets.append(time.perf_counter() - begin)
            plan(env, session, times)
    answer = {
        "start_s": start_s,
        "steps": len(times),
        "steps_per_s": len(times) / sum(times),
        "reset_ms": 1e3 * sum(resets) / len(resets),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }
    answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
