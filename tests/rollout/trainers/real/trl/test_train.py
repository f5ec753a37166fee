"""The example that really trains: success on tasks that were never trained on rises."""

from __future__ import annotations

import pytest
import train_trl


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_held_out_success_rises() -> None:
    before, after = train_trl.main(steps=40)
    assert before < 0.3
    assert after > before + 0.15
