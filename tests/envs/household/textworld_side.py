"""The other side of the parity test: plays games in TextWorld and tells what it answered.

Runs inside a virtual environment that holds the public ``alfworld`` package; imports nothing of
turnwise. Standard input: JSON, a list of ``{"game": path, "actions": [command, ...]}``. Standard
output: JSON, for each episode the initial text and admissible commands, then one
``[feedback, sorted admissible commands, won, score, done]`` per action.
"""

import contextlib
import json
import sys


def play(game, actions):
    """Play one episode and return what TextWorld answered."""
    import textworld
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler

    infos = textworld.EnvInfos(won=True, admissible_commands=True, score=True)
    env = textworld.start(game, infos, wrappers=[AlfredDemangler])
    state = env.reset()
    played = {"initial": state.feedback, "initial_admissible": sorted(state.admissible_commands), "steps": []}
    for action in actions:
        state, score, done = env.step(action)
        played["steps"].append(
            [state.feedback, sorted(state.admissible_commands), bool(state.won), int(score), bool(done)]
        )
    env.close()
    return played


def main():
    """Read episodes, play them, write the answers."""
    episodes = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):
        played = [play(episode["game"], episode["actions"]) for episode in episodes]
    json.dump(played, sys.stdout)


if __name__ == "__main__":
    main()
