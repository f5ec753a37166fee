"""The OpenAPI document, checked by schemathesis against the running server: what is documented is what happens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from oraclesupport import MOODY, Served, run_server

schemathesis = pytest.importorskip("schemathesis")

TOKEN = {"Authorization": "Bearer s3cret"}
OPERATIONS = (
    "/v1/score", "/v1/score/stream", "/get_reward", "/remote_rm", "/evaluate",
    "/seed_session", "/reset", "/step", "/verify", "/health", "/metrics", "/v1/schema",
)  # fmt: skip
# Rules that JSON Schema has no words for: lists of equal length, an item that holds one of three things, placeholders.
UNSAID = {"/v1/score", "/v1/score/stream", "/get_reward", "/evaluate", "/verify"}
# One bad item among good ones is refused in its own line: the status line is out by then.
IN_LINES = {"/v1/score/stream"}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with run_server(MOODY, settings={"workers": 1, "deadline_s": 20.0}, token="s3cret") as running:
        yield running


@pytest.fixture(scope="module")
def operations(served: Served) -> dict[str, Any]:
    api = schemathesis.openapi.from_url(f"{served.url}/openapi.json", headers=TOKEN)
    return {found.ok().path: found.ok() for found in api.get_all_operations()}


def test_every_operation_is_checked(operations: dict[str, Any]) -> None:
    assert operations.keys() == set(OPERATIONS)


@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize("path", OPERATIONS)
def test_what_is_documented_is_what_happens(operations: dict[str, Any], path: str, mode: str) -> None:
    if mode == "negative" and operations[path].method.lower() == "get":
        return  # there is nothing to get wrong
    strategy = operations[path].as_strategy(generation_mode=schemathesis.GenerationMode(mode))

    checks = schemathesis.checks.load_all_checks() or schemathesis.checks.CHECKS
    unsaid = checks.get_by_names(["positive_data_acceptance"]) if path in UNSAID else []
    late = checks.get_by_names(["negative_data_rejection"]) if path in IN_LINES else []

    @given(case=strategy)
    @settings(
        max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True,
        phases=[Phase.explicit, Phase.generate],
    )  # fmt: skip
    def check(case: Any) -> None:
        reply = case.call(headers=TOKEN)
        assert reply.status_code < 500, reply.text
        case.validate_response(reply, headers=TOKEN, excluded_checks=[*unsaid, *late])

    check()
