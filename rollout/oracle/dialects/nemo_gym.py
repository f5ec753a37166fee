"""NeMo-Gym's resources server: ``/seed_session``, ``/verify``, and with a world ``/reset`` and ``/step``.

``/verify`` echoes the request, as NeMo-Gym and verifiers want it, and adds ``reward`` and ``reward_components``, which
sum to it. A judge that fails adds ``_ng_failure_class``, NeMo-Gym's own mark for a row that may be tried again. The
reward of a step is what that turn adds to the episode's reward, so steps sum to what ``/verify`` would say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from turnwise.records import Json
from turnwise.rollout.oracle.bodies import RejectedError, decode, decode_object
from turnwise.rollout.oracle.cache import Scored
from turnwise.rollout.oracle.dialects.base import encode, read_result
from turnwise.rollout.oracle.dialects.nemo_rows import said_in
from turnwise.rollout.oracle.dialects.nemo_steps import NO_WORLD, Played, StepResult
from turnwise.rollout.oracle.exchange import Endpoint, Incoming, Reply
from turnwise.rollout.oracle.schema import ItemResult
from turnwise.rollout.oracle.service import OracleService
from turnwise.rollout.oracle.sessions import Session, Sessions

NAME = "nemo_gym"
COOKIE = "turnwise_session"


class NemoGym:
    """The endpoints that share a server's sessions."""

    def __init__(self, sessions: Sessions) -> None:
        """Answer with these sessions."""
        self._sessions = sessions

    async def seed_session(self, request: Incoming, service: OracleService) -> Reply:
        """Answer ``POST /seed_session``: remember the row's task."""
        session, _ = await self._begin(request, service)
        return Reply(b"{}", headers=(_cookie(session),))

    async def reset(self, request: Incoming, service: OracleService) -> Reply:
        """Answer ``POST /reset``: the same, with the first observation."""
        session, observation = await self._begin(request, service)
        info = {"task_id": session.task_id} if session.task_id else {}
        return Reply(encode({"observation": observation, "info": info}), headers=(_cookie(session),))

    async def _begin(self, request: Incoming, service: OracleService) -> tuple[Session, str | None]:
        row = decode_object(request.body or b"{}")
        facts = row.get("verifier_metadata")
        known = {**(facts if isinstance(facts, dict) else {}), **row}
        task_id, seed = known.get("task_id"), known.get("seed")
        task_id, seed = "" if task_id is None else task_id, 0 if seed is None else seed
        if not isinstance(task_id, str):
            raise RejectedError(422, "invalid", "must be a text", place="task_id")
        if isinstance(seed, float) and seed.is_integer():
            seed = int(seed)  # JSON has one kind of number
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise RejectedError(422, "invalid", "must be a whole number in [0, 2**32)", place="seed")
        observation = None
        if service.oracle.world is not None and task_id:
            service.admit(1)
            payload = encode(Played(task_id, seed, []))
            scored = await service.score("nemo_gym_reset", payload, evidence="none")
            if scored.status != "ok":
                result = decode(ItemResult, scored.body)
                raise RejectedError(409, "no_session", f"the world could not be reset: {result.reason}")
            observation = str(decode(dict, scored.body)["observation"])
        return self._sessions.begin(task_id, seed), observation

    async def step(self, request: Incoming, service: OracleService) -> Reply:
        """Answer ``POST /step``: play one turn."""
        row = decode_object(request.body)
        said = said_in(row)
        if service.oracle.world is None:
            raise RejectedError(409, "no_world", NO_WORLD)
        if not service.settings.sessions:
            raise RejectedError(409, "no_sessions", "sessions need one process, and this oracle runs in several")
        session = self._sessions.get(request.cookie(COOKIE))
        if session is None or not session.task_id:
            raise RejectedError(
                409, "no_session", "there is no session with a task: POST the row with its 'task_id' to /reset first"
            )
        digest = _retry_digest(row, request.body)
        async with session.lock:
            if session.last is not None and digest and session.last[0] == digest:
                return Reply(session.last[1])  # the client's own retry: the turn is not played twice
            if session.over:
                raise RejectedError(409, "over", "the episode is over: begin another with /reset")
            service.admit(1)
            messages = [*session.messages, said]
            payload = encode(Played(session.task_id, session.seed, messages))
            scored = await service.score("nemo_gym_step", payload, evidence="none")
            reply, over = self._step_reply(scored, service)
            if over is not None:
                session.messages, session.over, session.last = messages, over, (digest, reply)
            return Reply(reply)

    def _step_reply(self, scored: Scored, service: OracleService) -> tuple[bytes, bool | None]:
        """Return the reply, and whether the episode is over; None where the turn could not be played."""
        try:
            step = decode(StepResult, scored.body)
        except RejectedError:  # no worker has played it: a bare result
            result, reward, _ = read_result(scored, service, NAME)
            why: dict[str, Json] = {
                "status": result.status,
                "reason": result.reason,
                "fallback": True,
                "_ng_failure_class": "judge_failed",
            }
            failed = {"observation": None, "reward": reward, "terminated": False, "truncated": True, "info": why}
            return encode(failed), None
        service.metrics.item(NAME, step.result.status)
        fell_back = step.gained is None
        if fell_back:
            service.metrics.fallback(NAME)
        info: dict[str, Json] = {
            "status": step.result.status,
            "reason": step.result.reason,
            "turn": step.turns,
            "components": step.result.components,
            "fallback": fell_back,
        }
        reply = {
            "observation": step.observation,
            "reward": service.settings.fallback(NAME) if step.gained is None else step.gained,
            "terminated": step.terminated,
            "truncated": step.truncated,
            "info": info,
        }
        return encode(reply), step.terminated or step.truncated

    async def verify(self, request: Incoming, service: OracleService) -> Reply:
        """Answer ``POST /verify``: echo the row and its response, with the reward."""
        row = decode_object(request.body)
        service.admit(1)
        session = self._sessions.get(request.cookie(COOKIE))
        if session is not None and session.messages:
            payload = encode(Played(session.task_id, session.seed, session.messages))
            scored = await service.score("nemo_gym_step", payload, evidence="none")
            scored = _whole(scored)
        else:
            if session is not None and session.task_id:
                row.setdefault("task_id", session.task_id)
                row.setdefault("seed", session.seed)
            (scored,) = await service.score_all(NAME, [encode(row)], evidence="none", inside="")
        result, reward, fell_back = read_result(scored, service, NAME)
        # NeMo-RL raises unless the components sum to the reward, the fallback's too.
        components = {name: share or 0.0 for name, share in result.components.items()}
        if fell_back and reward != 0.0:
            components["fallback"] = reward
        reply: dict[str, Json] = {
            **row,
            "reward": reward,
            "reward_components": components,
            "outcome": result.outcome or 0.0,
            "turn_rewards": result.turn_rewards,
            "status": result.status,
            "reason": result.reason,
            "fallback": float(fell_back),
        }
        if result.status in ("judge_failed", "timeout"):
            reply["_ng_failure_class"] = "judge_failed"
        return Reply(encode(reply))


def _retry_digest(row: Mapping[str, Json], body: bytes) -> bytes:
    """Return what a client's retry has in common with its first try; b"" where a response without id cannot tell."""
    response_id = row["response"].get("id")
    return hashlib.sha256(body).digest() if isinstance(response_id, str) and response_id else b""


def _whole(scored: Scored) -> Scored:
    try:
        return Scored(scored.status, encode(decode(StepResult, scored.body).result))
    except RejectedError:
        return scored


def _cookie(session: Session) -> tuple[str, str]:
    return "set-cookie", f"{COOKIE}={session.id}; Path=/; HttpOnly; SameSite=Lax"


_RESPONSE: dict[str, Any] = {
    "type": "object",
    "required": ["output"],
    "properties": {"output": {"type": "array", "items": {"type": "object"}}},
}
_ROW: dict[str, Any] = {
    "type": "object",
    "required": ["responses_create_params", "response"],
    "properties": {
        "responses_create_params": {"type": "object"},
        "response": _RESPONSE,
        "task_id": {"type": "string"},
    },
}
_SEED = {
    "type": "object",
    "properties": {
        "task_id": {"type": ["string", "null"]},
        "seed": {"type": ["integer", "null"], "minimum": 0, "maximum": 2**32 - 1},
        "verifier_metadata": {},
    },
}


def endpoints(sessions: Sessions) -> tuple[Endpoint, ...]:
    """Return the endpoints of one server."""
    gym = NemoGym(sessions)
    return (
        Endpoint(
            dialect=NAME,
            path="/seed_session",
            answer=gym.seed_session,
            summary="NeMo-Gym: begin a session (a cookie) for a row.",
            request=_SEED,
            reply={"type": "object"},
        ),
        Endpoint(
            dialect=NAME,
            path="/reset",
            answer=gym.reset,
            summary="NeMo-Gym's gymnasium form: begin an episode.",
            request=_SEED,
            reply={"type": "object", "required": ["observation", "info"]},
        ),
        Endpoint(
            dialect=NAME,
            path="/step",
            answer=gym.step,
            summary="NeMo-Gym's gymnasium form: play one turn.",
            request={
                "type": "object",
                "required": ["response"],
                "properties": {"response": _RESPONSE},
            },
            reply={"type": "object", "required": ["observation", "reward", "terminated", "truncated", "info"]},
        ),
        Endpoint(
            dialect=NAME,
            path="/verify",
            answer=gym.verify,
            summary="NeMo-Gym: score a row with its response.",
            request=_ROW,
            reply={"type": "object", "required": ["reward", "reward_components", "response"]},
        ),
    )
