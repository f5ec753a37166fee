"""The same oracle as a Ray Serve application."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from oraclesupport import MOODY, episode

from turnwise.errors import ConfigError
from turnwise.rollout.oracle import OracleClient
from turnwise.rollout.oracle.serving import ServeOptions
from turnwise.rollout.oracle.settings import ServeSettings

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    pytest.importorskip("ray.serve")
    from ray import serve

    from turnwise.rollout.engine.cluster import Cluster
    from turnwise.rollout.oracle.ray_app import start_ray_oracle

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ServeOptions(rewards=MOODY, port=port, token="s3cret", settings=ServeSettings(deadline_s=20.0))
    with Cluster("local"):
        yield start_ray_oracle(options, min_replicas=1, max_replicas=2, cpus_per_replica=0.1)
        serve.shutdown()


def test_it_scores_streams_and_asks_for_its_token(url: str) -> None:
    import httpx
    import msgspec

    from turnwise.rollout.oracle import Item

    items = [msgspec.convert({**episode(answer), "id": answer}, Item) for answer in ("gold", "silver")]
    with OracleClient(url, token="s3cret") as client:
        assert [result.reward for result in client.score(items)] == [1.25, 0.25]
        assert {place: result.id for place, result in client.stream(items)} == {0: "gold", 1: "silver"}
        failed = msgspec.convert(episode(mood="judge"), Item)
        assert [result.status for result in client.score([failed])] == ["judge_failed"]
    assert httpx.post(f"{url}/v1/score", json={"items": [episode()]}).status_code == 401
    assert httpx.get(f"{url}/health").json()["components"] == ["outcome", "moody"]


def test_wrong_replica_counts_are_refused() -> None:
    from turnwise.rollout.oracle.ray_app import ray_application

    with pytest.raises(ConfigError, match="replicas"):
        ray_application(ServeOptions(rewards=MOODY), min_replicas=3, max_replicas=2)
