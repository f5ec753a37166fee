"""Plays ALFWorld games in TextWorld, for the interpreter that has `alfworld` installed.

Reads one JSON request a line, `{"game": PATH, "commands": [[...], ...]}`, and answers each with one JSON
line: seconds for loading, resets and steps, and what was said. Knows nothing of turnwise.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import Any

import textworld
from alfworld.agents.environment.alfred_tw_env import AlfredDemangler

INFOS = textworld.EnvInfos(won=True, admissible_commands=True)


def play(game: str, episodes: list[list[str]]) -> dict[str, Any]:
    begin = time.perf_counter()
    env = textworld.start(game, INFOS, wrappers=[AlfredDemangler(shuffle=False)])
    load_s = time.perf_counter() - begin
    reset_s, step_s, transcripts = [], [], []
    for commands in episodes:
        begin = time.perf_counter()
        state = env.reset()
        reset_s.append(time.perf_counter() - begin)
        said = [[state.feedback, state["admissible_commands"], bool(state["won"])]]
        begin = time.perf_counter()
        for command in commands:
            state, _, _ = env.step(command)
            said.append([state.feedback, state["admissible_commands"], bool(state["won"])])
        step_s.append(time.perf_counter() - begin)
        transcripts.append(said)
    env.close()
    return {"load_s": load_s, "reset_s": reset_s, "step_s": step_s, "transcripts": transcripts}


def main() -> None:
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # the libraries print
        for line in sys.stdin:
            request = json.loads(line)
            answers.write(json.dumps(play(request["game"], request["commands"])) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
