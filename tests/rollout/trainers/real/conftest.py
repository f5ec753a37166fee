"""Tests against the real trainers: each runs in a virtual environment of its own (see ``run.py``).

Their versions conflict with one another, so the ordinary test run collects none of them; ``run.py NAME``
collects one folder, with ``TURNWISE_TRAINER`` set, and there nothing is skipped for want of a package.
"""

from __future__ import annotations

import os
from pathlib import Path

HERE = Path(__file__).resolve().parent
_CHOSEN = os.environ.get("TURNWISE_TRAINER", "")

collect_ignore = [
    str(folder) for folder in HERE.iterdir() if folder.is_dir() and folder.name not in (_CHOSEN, "__pycache__")
]
