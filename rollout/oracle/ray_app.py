"""The served oracle as a Ray Serve application with autoscaled replicas."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from typing import Any

from turnwise.errors import ConfigError, MissingExtraError
from turnwise.rollout.oracle.app import make_app
from turnwise.rollout.oracle.exchange import Receive, Send
from turnwise.rollout.oracle.pool import own_path
from turnwise.rollout.oracle.serving import ServeOptions

APP = "turnwise-oracle"


class LazyApp:
    """The ASGI application, made in the replica: what travels there is the options."""

    def __init__(self, options: ServeOptions) -> None:
        """Hold the options, and where this process finds modules."""
        self._options = options
        self._path = own_path()
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer; the first event, the start-up, makes the application."""
        if self._app is None:
            sys.path.extend(entry for entry in self._path if entry not in sys.path)
            self._app = make_app(self._options.service(), token=self._options.token)
        await self._app(scope, receive, send)


def ray_application(
    options: ServeOptions,
    *,
    min_replicas: int = 1,
    max_replicas: int = 4,
    target_requests: float = 16.0,
    cpus_per_replica: float = 1.0,
) -> Any:
    """Return a Ray Serve application; ``serve.run`` starts it.

    Args:
        options: What each replica serves. ``settings.workers`` is per replica, 1 by default here. NeMo-Gym's sessions
            live in one process, so with several replicas they are refused.
        min_replicas: Fewest replicas.
        max_replicas: Most replicas.
        target_requests: Requests under way in each replica that autoscaling aims for.
        cpus_per_replica: What Ray reserves for each.

    Raises:
        MissingExtraError: Ray Serve is not installed.
        ConfigError: There are fewer most than fewest replicas.
    """
    try:
        from ray import serve
    except ModuleNotFoundError as error:
        raise MissingExtraError("ray", "serve") from error
    if not 1 <= min_replicas <= max_replicas:
        raise ConfigError(f"replicas are 1 <= fewest <= most, got {min_replicas} and {max_replicas}")
    settings = replace(
        options.settings,
        workers=options.settings.workers or 1,
        sessions=options.settings.sessions and max_replicas == 1,
    )
    deployment = serve.deployment(
        name="Oracle",
        autoscaling_config={
            "min_replicas": min_replicas,
            "max_replicas": max_replicas,
            "target_ongoing_requests": target_requests,
        },
        # A replica keeps its own limit and answers 429 beyond it.
        max_ongoing_requests=settings.max_pending,
        ray_actor_options={"num_cpus": cpus_per_replica},
    )(serve.ingress(LazyApp(replace(options, settings=settings)))(_Replica))
    return deployment.bind()


class _Replica:
    """What Ray Serve hangs the application on."""


def start_ray_oracle(options: ServeOptions, **scaling: Any) -> str:
    """Start the application on the Ray cluster of this process, and return its address.

    Args:
        options: What to serve, and where.
        **scaling: As in :func:`ray_application`.

    Raises:
        MissingExtraError: Ray Serve is not installed.
    """
    application = ray_application(options, **scaling)
    from ray import serve

    serve.start(http_options={"host": options.host, "port": options.port})
    serve.run(application, name=APP, route_prefix="/")
    return f"http://{options.host}:{options.port}"


def serve_ray(options: ServeOptions, *, address: str | None = None, started: Any = None, **scaling: Any) -> None:
    """Serve on a Ray cluster, joined or started here, until interrupted.

    Args:
        options: What to serve, and where.
        address: Address of a cluster; None starts one (or takes ``$RAY_ADDRESS``).
        started: Called with the address once requests are answered.
        **scaling: As in :func:`ray_application`.
    """
    from turnwise.rollout.engine.cluster import Cluster

    with Cluster(address):
        url = start_ray_oracle(options, **scaling)
        from ray import serve

        try:
            if started is not None:
                started(url)
            threading.Event().wait()
        except KeyboardInterrupt:
            pass  # Ctrl-C
        finally:
            serve.shutdown()  # type: ignore[no-untyped-call, unused-ignore]
