"""What a server is started with, checked."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from turnwise.agents.registry import agents
from turnwise.errors import ConfigError
from turnwise.records import Json
from turnwise.rollout.engine.plan import make_plan
from turnwise.rollout.engine.wire import DEFAULT_MEMORY_LIMIT, Deadlines, WorkerSpec

CLIENT = "client"  # the agent's name in the trajectories of a server
_CLIENT_CLASS = "turnwise.rollout.envserver.session_child:Client"
_CHILD = "turnwise.rollout.envserver.session_child:run_session"
MIN_TOKEN_CHARS = 8


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How a server behaves.

    Attributes:
        env: Registered id of the world.
        data: A public data set in its own format, or None for the embedded tasks.
        split: Which split to serve.
        env_options: Further arguments of the environment.
        max_turns: Turns after which an episode is truncated; None takes the world's.
        rewards: YAML file, preset or tree of rewards that score finished episodes; None scores nothing.
        host: Address to bind.
        port: Port to bind, 0 for any.
        token: What clients send as ``Authorization: Bearer TOKEN``; needed unless ``host`` is loopback.
        max_sessions: Sessions at once.
        warm: Whether the world is made and reset once before the first session, so that sessions begin in
            milliseconds; not for worlds that start threads or programs.
        spares: Processes kept ready for the next sessions.
        idle_s: Seconds without a request after which a session is closed; None never does.
        deadlines: When a session's process is killed; ``act_s`` is not used.
        memory_limit: Bytes that a session's process may allocate, or None.
        max_body_bytes: Largest request body and WebSocket message.
    """

    env: str
    data: str | None = None
    split: str | None = None
    env_options: Mapping[str, Json] = field(default_factory=dict)
    max_turns: int | None = None
    rewards: str | Path | Mapping[str, Json] | None = None
    host: str = "127.0.0.1"
    port: int = 8001
    token: str | None = None
    max_sessions: int = 64
    warm: bool = True
    spares: int = 2
    idle_s: float | None = 1800.0
    deadlines: Deadlines = field(default_factory=Deadlines)
    memory_limit: int | None = DEFAULT_MEMORY_LIMIT
    max_body_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        """Check what needs no world.

        Raises:
            ConfigError: A value is out of range, or other machines could connect without a token.
        """
        for name, low, high in (
            ("port", 0, 65_535),
            ("max_sessions", 1, 10_000),
            ("spares", 0, 64),
            ("max_body_bytes", 1_024, 1 << 30),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ConfigError(f"{name} is a whole number from {low} to {high}, got {value!r}")
        if self.idle_s is not None and not 0 < self.idle_s < float("inf"):
            raise ConfigError(f"idle_s is a positive number of seconds or None, got {self.idle_s!r}")
        if self.token is not None and not (len(self.token) >= MIN_TOKEN_CHARS and self.token.isascii()):
            raise ConfigError(f"a token has at least {MIN_TOKEN_CHARS} ASCII characters")
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                f"host {self.host!r} lets other machines connect: pass a token too (--token, or TURNWISE_TOKEN), "
                "or bind to 127.0.0.1"
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def make_spec(options: ServerOptions) -> WorkerSpec:
    """Return what the processes of sessions need to know.

    Raises:
        ConfigError: The world, its options or the rewards are wrong; the message says how.
    """
    agents.register(CLIENT, _CLIENT_CLASS)
    plan = make_plan(
        env=options.env,
        tasks=_tasks(options),
        data=options.data,
        env_options=options.env_options,
        max_turns=options.max_turns,
        group=1,
        agent=CLIENT,
        rewards=options.rewards,
        seed=0,
        workers=1,
        slots=1,
        deadlines=msgspec.structs.replace(options.deadlines, act_s=None),
        memory_limit=options.memory_limit,
    )
    config = None if options.rewards is None else plan.spec.reward_config
    return msgspec.structs.replace(plan.spec, reward_config=config, child=_CHILD, warm=options.warm)


def _tasks(options: ServerOptions) -> Any:
    """Worlds without a task set need a number of tasks, which a server does not look at."""
    from turnwise.env import TurnEnv
    from turnwise.rollout.engine.plan import find_world

    own = issubclass(find_world(options.env)[0], TurnEnv)
    return options.split if own else f"{options.split or 'train'}:1"
