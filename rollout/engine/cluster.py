"""The Ray cluster of a run: joined, or started on this machine and ended with the run."""

from __future__ import annotations

import math
import os
import socket
from types import ModuleType, TracebackType

from turnwise.errors import MissingExtraError, TransportError

PROBE_S = 10.0


def import_ray() -> ModuleType:
    """Import Ray.

    Raises:
        MissingExtraError: It is not installed; the message holds the install command.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ray":
            raise
        raise MissingExtraError("ray", "ray") from error
    module: ModuleType = ray
    return module


class Cluster:
    """A connection to Ray, as a context: on leaving, a cluster that it started is shut down."""

    def __init__(self, address: str | None) -> None:
        """Prepare to connect.

        Args:
            address: Address of a running cluster, ``"auto"``, or ``"local"`` for a new one. None
                takes the connection that this process has, else ``$RAY_ADDRESS``, else a new one.
        """
        self.ray = import_ray()
        self._address = address
        self._ours = False

    def __enter__(self) -> Cluster:
        """Connect, or start a cluster."""
        if self.ray.is_initialized():
            return self
        address = self._address or os.environ.get("RAY_ADDRESS") or "local"
        options = {"include_dashboard": False} if address == "local" else {}
        _probe(address)
        try:
            self.ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise TransportError(f"cannot use the Ray cluster at {address!r}: {error}") from error
        self._ours = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave, and end what was started."""
        if self._ours:
            self._ours = False
            self.ray.shutdown()

    def cpus_per_worker(self, workers: int) -> float:
        """Return what each worker asks for: one CPU, or an equal share where there are fewer."""
        cpus = float(self.ray.cluster_resources().get("CPU", 0.0))
        return min(1.0, math.floor(1000 * cpus / workers) / 1000)


def _probe(address: str) -> None:
    """Fail at once where nothing listens; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return  # "local", "auto", or something for Ray to complain about
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_S).close()
    except (OSError, OverflowError) as error:
        raise TransportError(
            f"no Ray cluster at {address!r} ({error}): start one with 'ray start --head', "
            "or leave the address out to run on this machine"
        ) from error
