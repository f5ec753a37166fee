"""placeholder"""


def rollout() -> None: ...
