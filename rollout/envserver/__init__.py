"""The environment server: sessions of any world for other people's clients.

OpenEnv's WebSocket and HTTP protocol, NeMo-Gym's gymnasium endpoints and MCP are thin layers over the same
sessions. Each session's environment lives in a process of its own, which a deadline can kill.
"""

from turnwise.rollout.envserver.app import make_app
from turnwise.rollout.envserver.options import ServerOptions
from turnwise.rollout.envserver.serve import serve

__all__ = ["ServerOptions", "make_app", "serve"]
