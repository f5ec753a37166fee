"""CaRR's own record of an episode, a list of messages, as a trajectory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from turnwise.errors import ConfigError
from turnwise.records import Action, Ending, Json, Outcome, Task, Trajectory, Turn
from turnwise.rewards.carr.rubrics import Rubrics
from turnwise.rewards.options import show

ENV_ID = "carr/DeepSearch-v0"


def read_history(
    history: Sequence[Mapping[str, Json]],
    *,
    rubrics: Sequence[str],
    label: str,
    question: str | None = None,
    task_unfinished: bool = False,
    task_id: str = "carr",
    sample: int = 0,
) -> Trajectory:
    """Make a trajectory of a history as CaRR's reward server takes it.

    A tool call becomes a turn, and its output the observation that follows; the assistant's last message with
    content and no tool call becomes the answer. Several calls in one message become several turns.

    Args:
        history: Messages with ``role``; assistant ones with ``content`` or ``tool_calls``, tool ones with
            ``content: [{tool_call_id, output}]``.
        rubrics: The question's rubrics.
        label: The right answer.
        question: The question; the first user message by default.
        task_unfinished: Whether the episode was cut off.
        task_id: Id of the task.
        sample: Number of the trajectory within its group.

    Raises:
        ConfigError: The history or the rubrics are malformed; the message has the place.
    """
    Rubrics.read(rubrics)
    if not isinstance(history, Sequence) or isinstance(history, (str, bytes)) or not history:
        raise ConfigError(f"a history is a list of messages, got {show(history)}")
    outputs = _outputs(history)
    asked = next((str(m.get("content")) for m in history if isinstance(m, Mapping) and m.get("role") == "user"), "")
    observation = asked
    turns: list[Turn] = []
    for place, message in enumerate(history):
        if message.get("role") != "assistant":
            continue
        for text, action, output in _moves(message, outputs, f"history[{place}]"):
            turns.append(Turn(index=len(turns), observation=observation, action_text=text, action=action))
            observation = output
    answered = bool(turns) and turns[-1].action is not None and turns[-1].action.name == "answer"
    done = answered and not task_unfinished and history[-1].get("role") == "assistant"
    if answered and not done:
        turns[-1] = Turn(index=len(turns) - 1, observation=turns[-1].observation, action_text=turns[-1].action_text)
    question = asked if question is None else question
    data: dict[str, Json] = {"question": question, "answer": label, "aliases": [], "rubrics": list(rubrics)}
    return Trajectory(
        id=f"{task_id}#{sample}",
        env_id=ENV_ID,
        task=Task(id=task_id, split="", instruction=question, data=data),
        sample=sample,
        seed=0,
        agent="carr",
        turns=tuple(turns),
        final_observation="" if answered else observation,
        ending=Ending(kind="terminated") if done else Ending(kind="truncated", cause="turns"),
        outcome=Outcome(success=False, env_return=0.0),
    )


def _outputs(history: Sequence[Mapping[str, Json]]) -> dict[str, str]:
    outputs: dict[str, str] = {}
    for place, message in enumerate(history):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise ConfigError(f"history[{place}] must be a message with a 'role', got {show(message)}")
        content = message.get("content")
        if message["role"] == "tool":
            for item in content if isinstance(content, list) else ():
                if not isinstance(item, Mapping) or "tool_call_id" not in item:
                    raise ConfigError(f"history[{place}].content must hold {{tool_call_id, output}}, got {show(item)}")
                outputs[str(item["tool_call_id"])] = str(item.get("output") or "")
    return outputs


def _moves(message: Mapping[str, Json], outputs: Mapping[str, str], place: str) -> list[tuple[str, Action | None, str]]:
    content = message.get("content")
    calls = message.get("tool_calls") or []
    moves: list[tuple[str, Action | None, str]] = []
    for call in calls:
        if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
            raise ConfigError(f"{place}.tool_calls must hold {{tool_call_id, name, arguments}}, got {show(call)}")
        action = Action(
            name=call["name"], arguments=_arguments(call.get("arguments")), command=call["name"], form="json"
        )
        text = json.dumps({"name": call["name"], "arguments": call.get("arguments")}, ensure_ascii=False)
        moves.append((text, action, outputs.get(str(call.get("tool_call_id")), "")))
    if not calls and isinstance(content, str) and content.strip():
        moves.append((content, Action(name="answer", arguments={"text": content}, command="answer"), ""))
    return moves


def _arguments(arguments: Json) -> dict[str, str]:
    """Return a call's arguments as texts; what the policy garbled has none."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return {}
    if not isinstance(arguments, Mapping):
        return {}
    return {str(key): value if isinstance(value, str) else json.dumps(value) for key, value in arguments.items()}
