"""NeMo-Gym's gymnasium endpoints: ``/seed_session``, ``/reset``, ``/step`` and ``/verify``, a session per cookie.

A row holds ``responses_create_params`` and, in ``/step`` and ``/verify``, the model's ``response`` (an OpenAI
Responses object). The fields that pick an episode, ``task_id`` and ``seed``, stand in the row itself or in its
``verifier_metadata``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from turnwise.errors import EpisodeOverError
from turnwise.records import Json
from turnwise.rollout.envserver.frames import Shown
from turnwise.rollout.envserver.replies import BadMessageError, facts_of, introduction_of, record_of
from turnwise.rollout.envserver.sessions import Session, Sessions

ROW = "responses_create_params"
FAILURE_CLASS = "_ng_failure_class"


def is_row(body: dict[str, Json]) -> bool:
    """Whether a body of ``/reset`` or ``/step`` is a NeMo-Gym row, and not OpenEnv's."""
    return ROW in body


async def reset(sessions: Sessions, session: Session, row: dict[str, Json]) -> dict[str, Any]:
    """Answer ``/reset``: the first observation, and in ``info`` what a policy needs to know.

    Raises:
        TurnwiseError: The row is wrong, or the environment failed.
    """
    check_row(row)
    nested = row.get("verifier_metadata")
    places = (row, nested if isinstance(nested, dict) else {})
    fields = {name: place[name] for name in ("task_id", "seed") for place in reversed(places) if name in place}
    shown = await session.reset(fields)
    return {"observation": shown.text, "info": {**facts_of(shown), **introduction_of(sessions.about, shown)}}


async def step(session: Session, row: dict[str, Json]) -> dict[str, Any]:
    """Answer ``/step``: what the model's answer came to.

    A tool call is answered in ``info["tool_outputs"]``, text in ``observation``.

    Raises:
        TurnwiseError: The row is wrong, or the environment failed.
    """
    check_row(row)
    text, calls = read_response(row.get("response"))
    shown = await session.step(text)
    info = {**facts_of(shown), **record_of(session)}
    if calls:
        info["tool_outputs"] = [{"call_id": call, "output": shown.text} for call in calls]
    return {
        "observation": None if calls else shown.text,
        "reward": shown.reward,
        "terminated": shown.terminated,
        "truncated": shown.truncated,
        "info": info,
    }


def verify(session: Session, row: dict[str, Json]) -> dict[str, Any]:
    """Answer ``/verify``: the row again, with the return of the session's episode.

    An episode that failed has the class of its failure, for NeMo-Gym to play it again; its reward means nothing.

    Raises:
        EpisodeOverError: No episode was played in this session.
    """
    check_row(row)
    read_response(row.get("response"))
    if session.failure is not None:
        return {
            **row,
            "reward": 0.0,
            "reward_components": {"env": 0.0},
            FAILURE_CLASS: f"{session.failure.boundary}_failed",
        }
    last: Shown | None = session.last
    if last is None:
        raise EpisodeOverError("no episode was played in this session: /reset and /step first, and keep the cookie")
    return {
        **row,
        "reward": session.env_return,
        "reward_components": {"env": session.env_return},
        "terminated": last.terminated,
        "truncated": last.truncated,
        "success": last.success,
        "progress": last.progress,
        "turns": last.turn,
        **record_of(session),
    }


def check_row(row: dict[str, Json]) -> None:
    """Check what every row has.

    Raises:
        BadMessageError: It has no ``responses_create_params``.
    """
    if not isinstance(row.get(ROW), dict):
        raise BadMessageError(f'a row has "{ROW}", an object')


def read_response(response: Json) -> tuple[str, list[str]]:
    """Return the message of a Responses object, and the ids of its tool calls.

    Raises:
        BadMessageError: It is no Responses object with an output.
    """
    output = response.get("output") if isinstance(response, dict) else None
    if not isinstance(output, list):
        raise BadMessageError('"response" is a Responses object with a list "output"')
    said: list[str] = []
    calls: list[dict[str, Json]] = []
    ids: list[str] = []
    for item in output:
        if not isinstance(item, dict):
            raise BadMessageError('the items of "output" are objects')
        if item.get("type") == "message":
            said.append(_text_of(item.get("content")))
        elif item.get("type") == "function_call":
            if not isinstance(item.get("name"), str) or not isinstance(item.get("arguments"), str):
                raise BadMessageError('a function_call has "name" and "arguments", both texts')
            calls.append({"function": {"name": item["name"], "arguments": item["arguments"]}})
            ids.append(str(item.get("call_id", "")))
    if not calls:
        return "".join(said), []
    return msgspec.json.encode({"content": "".join(said), "tool_calls": calls}).decode(), ids


def _text_of(content: Json) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadMessageError('the "content" of a message is a text or a list of parts')
    parts = [part for part in content if isinstance(part, dict) and part.get("type") == "output_text"]
    return "".join(part["text"] for part in parts if isinstance(part.get("text"), str))
